"""Messages that have begun to come and have not ended: what they take at a router, and who may go on with one.

A message may have 32 MiB, and there may be 32,768 clients. So each byte of a message that is not finished counts from
the moment it comes, and so does what was read and waits for its connection's window. All of it together has a bound, a
quarter of that of all messages of clients (``all_windows_bytes``); the windows have the rest.

Whoever has no more than a small share goes on in any case, and all do up to *half* of the bound. Beyond it a client may
go on only if the rest of its present frame fits into what is left, and that room is set aside for it: so what was
begun can be ended, and with each end there is room for the next. The others wait, in the order of their coming; they
are not read. A client that sends a part and then nothing would keep its room for ever. So when somebody has waited for
``PATIENCE_S``, the one whose message has not grown for longest is cut off: close 1013.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from heapq import nsmallest
from typing import Protocol

from ...common.budget import Budget
from ..counters import RouterCounters
from .timers import Wheel, ticks

SMALL_BYTES = 64 << 10
"""Bytes of an unfinished message that anybody may hold, unless there are very many clients."""
CUTS_A_TICK = 64
"""Clients that are cut off in one tick: all are looked at for that, once."""
PATIENCE_S = 30.0
"""Seconds that a client waits for room before another is cut off."""


class Holder(Protocol):
    """A connection, as the account sees it."""

    def read_on(self) -> None:
        """There is room: go on reading."""
        ...

    def cut_message(self) -> None:
        """Its message is in the way of others: give its memory back, and close. The account has forgotten it."""
        ...


class _Entry:
    """What is known of one holder's message.

    Attributes:
        held: Bytes that have come.
        queued: Bytes of whole messages that wait for their window.
        left: Bytes of the present frame that are still to come.
        set_aside: Room that is kept for those; 0 if none is.
        grew: Tick at which something came last.
        since: Tick since which it waits; 0 if it does not.
    """

    __slots__ = ("grew", "held", "left", "queued", "set_aside", "since")

    def __init__(self) -> None:
        self.held = self.queued = self.left = self.set_aside = self.grew = self.since = 0


class Unfinished:
    """The account of one router.

    Args:
        budget: Bytes that all unfinished messages may take, beside the small shares.
        counters: Where those that are cut off are counted, and how many connections there are.
        wheel: The timer wheel.
    """

    __slots__ = ("_budget", "_counters", "_entries", "_is_timed", "_promised", "_queued", "_waiting", "_wheel")

    def __init__(self, budget: Budget, counters: RouterCounters, wheel: Wheel) -> None:
        self._budget = budget
        self._counters = counters
        self._wheel = wheel
        self._entries: dict[Holder, _Entry] = {}
        self._waiting: OrderedDict[Holder, _Entry] = OrderedDict()  # finds its first at once, whatever left before it
        self._promised = self._queued = 0
        self._is_timed = False

    def __len__(self) -> int:
        """How many messages are unfinished."""
        return len(self._entries)

    @property
    def small_bytes(self) -> int:
        """What each client may hold in any case: all together a quarter of the bound."""
        return min(SMALL_BYTES, self._budget.limit // 4 // (self._counters.connections or 1))

    def update(self, holder: Holder, held: int, left: int, queued: int = 0) -> bool:
        """What *holder* has of its message.

        Args:
            holder: A connection.
            held: Bytes that have come.
            left: Bytes of its present frame that are still to come; neither: it has begun no message.
            queued: Bytes of whole messages that were read before and wait for their window. They count, but that window
                is what stops their connection.

        Returns:
            Whether it is to be read on. If not, ``read_on`` is called in time.
        """
        entry = self._entries.get(holder)
        if not held and not left and not queued:
            if entry is not None:
                self._forget(holder, entry)
                self._admit()
            return True
        if entry is None:
            entry = self._entries[holder] = _Entry()
            entry.grew = self._wheel.tick
        taken = self._budget.taken + self._promised
        if held + queued != entry.held + entry.queued:
            entry.grew = self._wheel.tick
        fewer_queued = queued < entry.queued
        self._queued += queued - entry.queued
        self._budget.taken += held + queued - entry.held - entry.queued
        entry.held, entry.queued, entry.left = held, queued, left
        if holder not in self._waiting and not self._may_go_on(entry):
            entry.since = self._wheel.tick
            self._waiting[holder] = entry
            self._watch()
        if fewer_queued or self._budget.taken + self._promised < taken:
            # Also when what was queued is a part of a message now: others may have waited for that to go.
            self._admit()  # there may be room for others, or for itself: what it had queued has found its window, say
        return holder not in self._waiting

    def _may_go_on(self, entry: _Entry) -> bool:
        before, entry.set_aside = entry.set_aside, 0
        self._promised -= before
        if entry.left and entry.left <= before:  # what was promised is kept
            entry.set_aside = entry.left
            self._promised += entry.left
            return True
        budget = self._budget
        if budget.taken < budget.half or entry.held + entry.left <= self.small_bytes:
            return True
        wanted = max(entry.left, 1)  # between two fragments nobody knows
        if not budget.fits(self._promised + wanted) and (self._promised or self._queued):
            return False  # by one whose room was set aside, or who waits for a window, there will be some
        entry.set_aside = wanted
        self._promised += wanted
        return True

    def _forget(self, holder: Holder, entry: _Entry) -> None:
        del self._entries[holder]
        self._waiting.pop(holder, None)
        self._promised -= entry.set_aside
        self._queued -= entry.queued
        self._budget.taken -= entry.held + entry.queued

    def _admit(self) -> None:
        """There may be room: let those go on who wait, in their order."""
        while self._waiting:
            holder, entry = next(iter(self._waiting.items()))
            if not self._may_go_on(entry):
                return
            del self._waiting[holder]
            entry.since, entry.grew = 0, self._wheel.tick
            holder.read_on()

    # --- those who do not go on ---

    def _watch(self) -> None:
        if not self._is_timed and self._waiting:
            self._is_timed = True
            first = next(iter(self._waiting.values()))
            self._wheel.schedule(self, max(1, first.since + ticks(PATIENCE_S) - self._wheel.tick))

    def break_off(self, error: Exception) -> None:
        """*error*, a defect of ours, was met in ``on_tick``: those who wait are looked at again later."""
        self._is_timed = False
        self._watch()

    def on_tick(self, tick: int) -> None:
        """Somebody may have waited for too long."""
        self._is_timed = False
        victims: Iterator[tuple[Holder, _Entry]] | None = None
        for _ in range(CUTS_A_TICK):
            if not self._waiting:
                break
            _, first = next(iter(self._waiting.items()))
            if tick - first.since < ticks(PATIENCE_S):
                break
            if victims is None:
                victims = iter(self._in_the_way())
            holder, entry = next(victims, (None, None))
            if holder is None or entry is None:
                break
            if self._entries.get(holder) is entry:
                self._forget(holder, entry)
                self._counters.unfinished_cut += 1
                holder.cut_message()
                self._admit()
        self._watch()

    def _in_the_way(self) -> list[tuple[Holder, _Entry]]:
        """Who is to go next, for others: found by one look at all."""

        def rank(each: tuple[Holder, _Entry]) -> tuple[bool, int, int]:
            # Those who wait are not read, and cannot help it; if all do, some have to go all the same.
            entry = each[1]
            return entry.since > 0, entry.grew, -entry.held - entry.set_aside

        begun = [each for each in self._entries.items() if each[1].held or each[1].left]
        return nsmallest(CUTS_A_TICK, begun, rank)
