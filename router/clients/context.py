"""What the connections of a router share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Generic

from ...common.limits import ROUTER_SEND_BUFFERS_BYTES, ROUTER_WINDOWS_BYTES, WINDOW_BYTES
from ...common.runtime.discards import Discards
from ..counters import RouterCounters
from .auto_response import Reports
from .client import C
from .connections import Connections
from .defects import Defects
from .links import OwnerLink
from .objects import ObjectEntry, Objects
from .reads import Reads
from .send_buffers import SendBuffers
from .tcp import output_of
from .timers import TICK_S, Wheel
from .turns import Turns
from .unfinished import Unfinished
from .work import Errand, Gate, Work


class ClientContext(Generic[C]):
    """What all connections of a router share.

    Args:
        counters: The router's counters; ``window_bytes`` among them is the bound of all windows together.
        wheel: The timer wheel.
        reports: Where the times of automatic responses are noted.
        connections: The table of connections.
        objects: The table of objects.
        wall: Unix time, seconds.
        ping_after: Ticks of silence before a ping.
        ping_timeout: Ticks for an answer.
        close_timeout: Ticks for a closing to come to its end.
        send_buffer_bytes: What may wait here for one client.
        all_send_buffers_bytes: What may wait here for all clients together.
        stall_timeout: Ticks for which a client may take nothing of what waits for it.
        least_rate: Bytes a second that it must take, or send of a body, over that time; 0: any byte will do.
        output_of: Tells how far a client has come with its output, of its transport.
        all_windows_bytes: Bound of all messages of clients together: three quarters for windows, a quarter for what is
            in none yet.
        on_work: Called when there is ``work`` after there was none.
        soon: Has something called in the loop's next turn.
        now: Seconds, monotonic: the clock of that work.

    Attributes:
        defects: Where errors of our own code are counted and logged.
        discards: Lets go of large payloads a piece at a time.
        least_progress: Bytes that a client must take, or send of a body, in *stall_timeout*.
        reads: How much one read of a client's socket may bring.
        send_buffers: What waits for slow clients.
        unfinished: Messages that have begun to come.
        are_full: The bound of all windows has stopped somebody, who is to go on.
        windows_half: Half of what all windows may hold: up to that each connection may fill its own.
        turns: Which turn of the loop it is, for those who write past their transports.
        work: What is left over of what clients have sent.
        crowded: Where those wait that have their share of all windows, while together they hold more than half.
    """

    __slots__ = (
        "_full",
        "_links",
        "_windows_bound",
        "are_full",
        "close_timeout",
        "connections",
        "counters",
        "crowded",
        "defects",
        "discards",
        "least_progress",
        "objects",
        "output_of",
        "ping_after",
        "ping_timeout",
        "reads",
        "reports",
        "send_buffers",
        "stall_timeout",
        "turns",
        "unfinished",
        "wall",
        "wheel",
        "windows_half",
        "work",
    )

    def __init__(
        self,
        *,
        counters: RouterCounters,
        wheel: Wheel,
        reports: Reports,
        connections: Connections[C],
        objects: Objects[C],
        wall: Callable[[], float],
        ping_after: int,
        ping_timeout: int,
        close_timeout: int,
        send_buffer_bytes: int,
        stall_timeout: int,
        least_rate: int = 0,
        output_of: Callable[[Any], tuple[int, int]] = output_of,
        all_send_buffers_bytes: int = ROUTER_SEND_BUFFERS_BYTES,
        all_windows_bytes: int = ROUTER_WINDOWS_BYTES,
        on_work: Callable[[], None],
        soon: Callable[[Callable[[], None]], object],
        now: Callable[[], float],
    ) -> None:
        self.counters = counters
        self.defects = Defects(counters)
        self.wheel = wheel
        self.reports = reports
        self.connections = connections
        self.objects = objects
        self.wall = wall
        self.ping_after = ping_after
        self.ping_timeout = ping_timeout
        self.close_timeout = close_timeout
        self.output_of = output_of
        self.stall_timeout = stall_timeout
        self.least_progress = max(1, int(least_rate * stall_timeout * TICK_S))
        self.send_buffers = SendBuffers(
            send_buffer_bytes,
            all_send_buffers_bytes,
            patience=stall_timeout,
            least=self.least_progress,
            output_of=output_of,
            in_steps=self._in_steps,
        )
        self.unfinished = Unfinished(all_windows_bytes // 4, counters, wheel)
        self.reads = Reads(all_windows_bytes // 32)
        self._windows_bound = bound = all_windows_bytes - all_windows_bytes // 4
        self.windows_half = half = bound // 2
        self.are_full = False
        self.work = Work(on_work, now)
        self.discards = Discards(self.work.add_own)
        self.turns = Turns(soon)
        self._full = Gate(self.work, lambda: counters.window_bytes < bound)
        self.crowded = Gate(self.work, lambda: counters.window_bytes <= half)
        self._links: dict[OwnerLink, Gate] = {}

    def _in_steps(self, steps: Iterator[None]) -> None:
        self.work.add_own(
            Errand(steps, lambda error: self.defects.note("clients that take too little may be cut later", error))
        )

    def window_share(self) -> int:
        """Bytes that the window of one connection may hold when all together hold more than ``windows_half``.

        The other half is shared out evenly, so that a connection that holds little goes on, while those that have
        brought it so far are not read until they have less. Even if all use their share, that is no more than the
        bound; what is beyond it in spite of that (a window that was empty admits one message of any size) stops
        everybody: then the answer is 0, and an empty window admits a small message only.
        """
        counters = self.counters
        if counters.window_bytes >= self._windows_bound:
            self.are_full = True
            return 0
        return max(1, min(WINDOW_BYTES, self.windows_half // (counters.connections or 1)))

    def fit_reads(self) -> None:
        """What was read and waits has changed."""
        counters = self.counters
        self.reads.fit(
            counters.unfinished_bytes + counters.head_bytes + counters.ahead_bytes,
            counters.connections + counters.http_connections,
            busy=len(self.work) > 0,
        )

    def relieved(self) -> None:
        """Windows have got room. If their bound had stopped everybody, and half of it is free, all may go on."""
        if self.counters.window_bytes <= self.windows_half:
            self.are_full = False
            self.on_tick()

    # --- what connections wait for ---

    def gate(self, entry: ObjectEntry[C], room: int) -> Gate | None:
        """Where a connection has to wait that cannot take what its client has sent.

        Args:
            entry: Its object.
            room: What its window might hold.

        Returns:
            ``None`` if all that it lacks is room in its window.
        """
        if entry.is_shut():
            if entry.gate is None:
                entry.gate = Gate(self.work, partial(self._passes, entry))
            self._passes(entry)
            return entry.gate
        if not room:
            return self._full
        return self.crowded if room < WINDOW_BYTES else None

    def _passes(self, entry: ObjectEntry[C]) -> bool:
        """Whether an object takes something now. If only the link to its owner does not, its gate waits there."""
        link, gate = entry.link, entry.gate
        if entry.held:
            return False
        if link is None or not link.blocked:
            return True
        at_link = self._links.get(link)
        if at_link is None:
            at_link = self._links[link] = Gate(self.work, lambda: not link.blocked)
        if gate is not None:
            at_link.add(gate)
        return False

    def unblocked(self, link: OwnerLink) -> None:
        """A link has room again: those that wait for it go on."""
        gate = self._links.get(link)
        if gate is not None:
            gate.open()

    def link_ended(self, link: OwnerLink) -> None:
        """Nothing is attached to *link* any more, so that nobody waits for it."""
        self._links.pop(link, None)

    def on_tick(self) -> None:
        """Let those go on that wait until all windows together hold less, if they do."""
        self.fit_reads()  # nobody has told that no work is left over
        self._full.open()
        self.crowded.open()
