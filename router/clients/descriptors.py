"""Descriptors: those that clients may take, and those that are kept from them.

A router whose clients hold every descriptor that the system allows it cannot connect to a shard that comes back, and
then all of them lose their objects. So clients are refused first:

* Clients may have ``for_clients`` connections. For who comes beyond that, one that has said nothing yet goes
  (``Room.make_room_for_descriptor``); if there is none, the newcomer is answered 503, at the next turn of the loop:
  leaving him in the queue would tell him nothing.
* In one turn a few are accepted (``intake``), and ``backlog`` may wait for that, which fit beside.
* Some descriptors are **held** open for nothing, so that no burst can take them. They are lent when a link is made.

How many that is depends on the limit::

    limit           256   1,024   20,000   1,048,576
    for clients     128     768   17,500   1,044,224
"""

from __future__ import annotations

import logging
import os

log = logging.getLogger("roost.router")

LEAST_BESIDE = 256
"""Descriptors beside those of clients: links (a handful each), files, the loop's own; half of them where there are not
twice as many."""
MOST_BACKLOG = 4096
"""Connections that the system keeps for us until we accept them, at most."""
HELD = 64
"""Descriptors that are held; half of those beside where these are few."""
LENT = 8
"""Descriptors that making a link may take."""
TOLD = 16
"""Refused clients that may linger at a time to read why."""
SAY_EVERY_S = 60.0
"""Seconds between two log lines on clients that were refused."""


class Descriptors:
    """The descriptors of a router.

    Args:
        limit: How many the system allows.
        wanted: Connections that the router was told to be ready for; 0 for any number.
        held: How many to hold at most.

    Attributes:
        for_clients: Connections that clients may have.
        backlog: How many may wait to be accepted.
    """

    def __init__(self, limit: int, wanted: int = 0, *, held: int = HELD) -> None:
        self._limit = limit
        beside = min(limit // 2, max(LEAST_BESIDE, min(limit // 8, MOST_BACKLOG + LEAST_BESIDE)))
        self.for_clients = max(limit - beside, wanted)
        beside = limit - self.for_clients
        self._wanted_held = min(held, beside // 2)
        self.backlog = max(32, min(MOST_BACKLOG, beside - 2 * self._wanted_held))
        self._held: list[int] = []
        self._refused = 0
        self._said_at: float | None = None
        self.top_up()

    def top_up(self) -> None:
        """Hold as many again as there should be, as far as there are any. For each second."""
        try:
            while len(self._held) < self._wanted_held:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            pass  # clients that are being refused have them for a moment

    def lend(self) -> None:
        """Let go of some, for what is opened next."""
        for _ in range(min(LENT, len(self._held))):
            os.close(self._held.pop())

    def close(self) -> None:
        """Hold none any more."""
        self._wanted_held = 0
        while self._held:
            os.close(self._held.pop())

    def refused(self, now: float) -> None:
        """A client was refused, or ended for another one; said at once, then once a minute."""
        self._refused += 1
        if self._said_at is not None and now - self._said_at < SAY_EVERY_S:
            return
        log.error(
            "clients hold all %d connections that %d descriptors allow, the others are kept for shards and files: "
            "%d refused, or ended for others, since this was last said; raise the limit (ulimit -n, LimitNOFILE=), add "
            "routers",
            self.for_clients,
            self._limit,
            self._refused,
        )
        self._said_at, self._refused = now, 0
