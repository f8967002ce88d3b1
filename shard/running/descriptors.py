"""Descriptors: those that objects' code may open, and those that are kept from it.

Objects' code that leaks sockets or files comes to the limit some day, and gets an error then. The shard itself must go
on: hand slots over, put back what is removed, and above all take the connections of routers. ZeroMQ ends the process
when it accepts one and no descriptor is left. So:

* The soft limit lies ``RESERVE`` below what the system allows. Objects' code cannot get the numbers above.
* When nearly all below are taken, the shard's address is **hidden**: who wants to connect finds nothing there, and
  tries again by himself. Connections that exist go on.
* Every ``DOOR_EVERY_S`` it is shown for ``DOOR_S``, with some numbers of the reserve allowed: whoever waits comes in.
  What objects' code grabs meanwhile is lost to the reserve; at its last ``OWN`` no door opens any more.
* For what the shard does itself the whole reserve is allowed (``room``), for milliseconds.

A thread that runs beside the loop calls ``look`` ten times a second: objects' code may hold the loop.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

log = logging.getLogger("roost.shard")

RESERVE = 64
"""Numbers kept from objects' code; a quarter of all where there are few."""
OWN = 16
"""Numbers of the reserve for what the shard does itself."""
MARGIN = 8
"""Numbers below the limit that are free when it counts as reached."""
DOOR_NUMBERS = 8
"""Numbers of the reserve that are allowed while a door is open."""
DOOR_S = 0.3
"""Seconds for which a door is open: who waits tries every 0.2 s."""
DOOR_EVERY_S = 2.0
SAY_EVERY_S = 60.0
"""Seconds between two log lines."""


class Address(Protocol):
    """Where routers connect."""

    def hide(self) -> None:
        """Nobody finds it from now on."""

    def show(self) -> None:
        """It can be found again."""


def lowest_free(beside: int) -> int:
    """The number that is given next; a very high one if none is. *beside* is any open descriptor."""
    try:
        number = os.dup(beside)
    except OSError:
        return 1 << 62
    os.close(number)
    return number


def _set_soft(limit: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard)
        )


class Descriptors:
    """The descriptors of a shard.

    Args:
        limit: How many the system allows.
        address: Where routers connect.
        next_number: The number that is given next.
        set_soft: Sets how many are allowed.
    """

    def __init__(
        self,
        limit: int,
        address: Address,
        *,
        next_number: Callable[[], int] | None = None,
        set_soft: Callable[[int], None] = _set_soft,
    ) -> None:
        self._limit = limit
        self._base = limit - min(RESERVE, limit // 4)
        self._address = address
        self._beside = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._next_number = next_number or (lambda: lowest_free(self._beside))
        self._set = set_soft
        self._lock = threading.Lock()
        self._allowed = 0
        self._lent = 0
        self._hidden = False
        self._door_until: float | None = None
        self._door_at = 0.0
        self._said_at: float | None = None
        self._allow(self._base)

    @property
    def hidden(self) -> bool:
        """Nearly all are taken, and routers that come must wait."""
        return self._hidden

    @contextlib.contextmanager
    def room(self) -> Iterator[None]:
        """The whole reserve may be used in the block, from any thread."""
        with self._lock:
            self._lent += 1
            self._set(self._limit)
        try:
            yield
        finally:
            with self._lock:
                self._lent -= 1
                if not self._lent:
                    self._set(self._allowed)

    def _allow(self, limit: int) -> None:
        self._allowed = limit
        self._set(limit)

    def look(self, now: float) -> None:
        """See how many are left; *now* is monotonic seconds."""
        with self._lock:
            if self._lent or self._limit == resource.RLIM_INFINITY:
                return
            if self._door_until is not None:
                if now >= self._door_until:
                    self._door_until = None
                    self._address.hide()
                    self._door_at = now + DOOR_EVERY_S
                return  # who has come at the last moment is taken in before the next look
            if self._allowed != self._base:
                self._allow(self._base)
            number = self._next_number()
            if number < self._base - MARGIN:
                if self._hidden:
                    self._hidden = False
                    self._address.show()
                    log.warning("descriptors are free again: routers may connect")
                return
            if not self._hidden:
                self._hidden = True
                self._address.hide()
                self._door_at = now + DOOR_EVERY_S / 4
                self._say(now)
            elif now >= self._door_at:
                self._open_door(now)

    def _open_door(self, now: float) -> None:
        allowed = self._base
        while allowed < self._limit - OWN:
            allowed = min(allowed + DOOR_NUMBERS, self._limit - OWN)
            self._allow(allowed)
            if self._next_number() < allowed:
                self._door_until = now + DOOR_S
                self._address.show()
                return
        self._allow(self._base)
        self._door_at = now + DOOR_EVERY_S

    def _say(self, now: float) -> None:
        if self._said_at is None or now - self._said_at >= SAY_EVERY_S:
            self._said_at = now
            log.error(
                "objects' code has all %d descriptors that it may open, and gets errors now; %d are kept for the shard "
                "itself. Look for what is never closed, or raise the limit (ulimit -n, LimitNOFILE=)",
                self._base,
                self._limit - self._base,
            )

    def close(self) -> None:
        """The shard ends: all are allowed, and the address is where it was."""
        with self._lock:
            self._lent += 1  # no look from here on
            if self._hidden and self._door_until is None:
                self._address.show()
            self._hidden = False
            self._set(self._limit)
        os.close(self._beside)
