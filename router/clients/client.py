"""A client, as those know it who serve many: what the tables hold, and what output is written to.

The tables are below what they hold (``websocket.connection.Connection``), so they are generic in it: whoever has made
a connection and entered it gets it back as what it is. What this folder itself asks of it is here.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from ..formats.compression import Encoder
from .writers import Writer


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
    def encoder(self) -> Encoder | None:
        """What compresses messages to it, if it has agreed to that."""
        ...

    @property
    def writer(self) -> Writer:
        """Where messages are written, while ``writable``."""
        ...

    def close_or_break_off(self, code: int, reason: str) -> None:
        """Close for a reason of the router's own, and tell the object; raises nothing."""
        ...

    def break_off(self, error: Exception) -> None:
        """*error*, a defect of ours, was met for this client: end it."""
        ...


C = TypeVar("C", bound=Client)
