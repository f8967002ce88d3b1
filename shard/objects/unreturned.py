"""Accepted sockets whose client end has not been returned in a Response. Pure.

Each was accepted in the handling of some event, or by code that belongs to no event: a task that the constructor has
started, say, which may have accepted it for any of the events that run. Whoever has not returned it by the end of that
event, or of all of them, does not return it any more.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar


class Event(Protocol):
    """An event that is handled.

    Attributes:
        has_ended: Its handler has ended, or will not run.
    """

    has_ended: bool


S = TypeVar("S")


class Unreturned(Generic[S]):
    """Those of one object."""

    __slots__ = ("_accepted_in",)

    def __init__(self) -> None:
        self._accepted_in: dict[S, Event | None] = {}

    def __bool__(self) -> bool:
        return bool(self._accepted_in)

    def add(self, socket: S, event: Event | None) -> None:
        """*socket* was accepted in the handling of *event*; ``None``: of no event."""
        self._accepted_in[socket] = event

    def returned(self, socket: S) -> None:
        """Its client end is in a Response, or used inside the object; fine if it was before."""
        self._accepted_in.pop(socket, None)

    def has_another(self, event: Event, socket: S | None) -> bool:
        """Whether *event* has accepted one besides *socket*, which it returns."""
        return any(within is event and each is not socket for each, within in self._accepted_in.items())

    def take_overdue(self, *, none_runs: bool) -> list[S]:
        """Those that nobody returns any more; they are in here no longer.

        Args:
            none_runs: No event of the object is handled.
        """
        overdue = [
            socket
            for socket, within in self._accepted_in.items()
            if (none_runs if within is None else within.has_ended)
        ]
        for socket in overdue:
            del self._accepted_in[socket]
        return overdue

    def take_all(self) -> list[S]:
        """All of them; none is in here any more."""
        sockets = list(self._accepted_in)
        self._accepted_in.clear()
        return sockets
