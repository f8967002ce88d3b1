"""Header fields of HTTP that more than one process has to know."""

from __future__ import annotations

CONNECTIONS_OWN = frozenset(
    (
        # Hop by hop (RFC 9110 7.6.1).
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        # What depends on the bytes that are sent, and when.
        "content-length",
        "date",
    )
)
"""Fields of a response that belong to its connection: its router alone can know them, and says them."""
