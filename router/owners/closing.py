"""Closing many connections: in steps, since an object may have 32,768, and each Close is a write."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from ..websocket.connection import Connection


class Closing:
    """The connections of one router that are to be closed, in turn.

    Args:
        in_steps: Has what it is given done step by step, in this and later turns of the loop.
    """

    __slots__ = ("_in_steps", "_is_under_way", "_left")

    def __init__(self, in_steps: Callable[[Iterator[None]], None]) -> None:
        self._in_steps = in_steps
        self._left: deque[tuple[Connection, int, str]] = deque()
        self._is_under_way = False

    def forget_and_close(self, connection: Connection, code: int, reason: str) -> None:
        """Close a connection whose object shall not hear of it any more: from now on nobody is given it."""
        try:
            connection.forget_events()
        except Exception as error:
            connection.break_off(error)
        self._left.append((connection, code, reason))
        if not self._is_under_way:
            self._is_under_way = True
            self._in_steps(self._close())

    def _close(self) -> Iterator[None]:
        while self._left:
            connection, code, reason = self._left.popleft()
            connection.close_or_break_off(code, reason)
            yield
        self._is_under_way = False
