"""A client, as those know it who serve many: what the tables hold, and what output is written to.

The tables are below what they hold (``websocket.connection.Connection``), so they are generic in it: whoever has made
a connection and entered it gets it back as what it is. What this folder itself asks of it is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar


class Client(Protocol):
    """One client's WebSocket."""

    @property
    def number(self) -> int:
        """The connection's counter."""
        ...

    @property
    def writable(self) -> bool:
        """Messages may be written."""
        ...

    @property
    def window_bits(self) -> int:
        """Window of outgoing compression, 0 without."""
        ...

    def write(self, frame: bytes) -> None:
        """Write a whole frame; the caller has checked ``writable``."""
        ...

    def write_pieces(self, pieces: Sequence[bytes | memoryview]) -> None:
        """The same for a large one, which is in pieces."""
        ...

    def close_or_break_off(self, code: int, reason: str) -> None:
        """Close for a reason of the router's own, and tell the object; raises nothing."""
        ...

    def break_off(self, error: Exception) -> None:
        """*error*, a defect of ours, was met for this client: end it."""
        ...


C = TypeVar("C", bound=Client)
