"""What the connections of a router share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic

from ...common.runtime.discards import Discards
from ..budgets import Budgets
from ..counters import RouterCounters
from .auto_response import Reports
from .client import C
from .connections import Connections
from .defects import Defects
from .objects import Objects
from .reads import Reads
from .send_buffers import SendBuffers
from .tcp import output_of
from .timers import TICK_S, Wheel
from .turns import Turns
from .unfinished import Unfinished
from .windows import Windows
from .work import Errand, Work


class ClientContext(Generic[C]):
    """What all connections of a router share.

    Args:
        counters: The router's counters.
        budgets: What clients take from all.
        wheel: The timer wheel.
        reports: Where the times of automatic responses are noted.
        connections: The table of connections.
        objects: The table of objects.
        wall: Unix time, seconds.
        ping_after: Ticks of silence before a ping.
        ping_timeout: Ticks for an answer.
        close_timeout: Ticks for a closing to come to its end.
        send_buffer_bytes: What may wait here for one client.
        stall_timeout: Ticks for which a client may take nothing of what waits for it.
        least_rate: Bytes a second that it must take, or send of a body, over that time; 0: any byte will do.
        output_of: Tells how far a client has come with its output, of its transport.
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
        windows: The bound of all windows, and where those wait whom it stops.
        window_bytes: What they hold, which is asked with each message.
        turns: Which turn of the loop it is, for those who write past their transports.
        work: What is left over of what clients have sent.
    """

    __slots__ = (
        "budgets",
        "close_timeout",
        "connections",
        "counters",
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
        "window_bytes",
        "windows",
        "work",
    )

    def __init__(
        self,
        *,
        counters: RouterCounters,
        budgets: Budgets,
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
        on_work: Callable[[], None],
        soon: Callable[[Callable[[], None]], object],
        now: Callable[[], float],
    ) -> None:
        self.counters = counters
        self.budgets = budgets
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
            budgets.send_buffers,
            patience=stall_timeout,
            least=self.least_progress,
            output_of=output_of,
            in_steps=self._in_steps,
        )
        self.unfinished = Unfinished(budgets.unfinished, counters, wheel)
        self.reads = Reads(budgets.unfinished.limit // 8)
        self.work = Work(on_work, now)
        self.windows = Windows(budgets.windows, counters, self.work)
        self.window_bytes = budgets.windows
        self.discards = Discards(self.work.add_own)
        self.turns = Turns(soon)

    def _in_steps(self, steps: Iterator[None]) -> None:
        self.work.add_own(
            Errand(steps, lambda error: self.defects.note("clients that take too little may be cut later", error))
        )

    def fit_reads(self) -> None:
        """What was read and waits has changed."""
        budgets = self.budgets
        self.reads.fit(
            budgets.waiting_input,
            self.counters.connections + budgets.http_connections.taken,
            busy=len(self.work) > 0,
        )

    def on_tick(self) -> None:
        """Let those go on that wait until all windows together hold less, if they do."""
        self.fit_reads()  # nobody has told that no work is left over
        self.windows.open()
