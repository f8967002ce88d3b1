"""The session against a carrier that loses, doubles, reorders and refuses, on simulated time.

Whatever the carrier does, what one end hands out is what the other was given: the same groups, in order, each once,
none missing before a later one. And once the carrier works again, everything arrives.
"""

from __future__ import annotations

import random
from collections import deque
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from roost.common.ids import Incarnation
from roost.common.wire import session as session_module
from roost.common.wire.session import Session

SMALL_BATCH = 16
"""Bytes: so that groups of some dozens of bytes travel in pieces."""
SMALL_UNCONFIRMED = 40 * 64
"""Bytes: so that a run reaches the bounds."""
SMALL_WINDOW = 8
"""Batches: so that resends go on in several steps."""
HEAL_S = 3.0
"""Simulated seconds in which a working carrier makes up for everything: several probes of the longest pause."""
MAX_MAP = 5


class End:
    """One end: its session, what it was given to send, what it handed out, and the carrier's queue towards it."""

    def __init__(self, local: int, remote: int) -> None:
        self.session = Session(0xC1A5, Incarnation(local), Incarnation(remote), 0.0)
        self.given: list[bytes] = []
        self.came: list[bytes] = []
        self.queue: deque[bytes] = deque()
        self.map_version = 1


class SessionOverABadCarrier(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.patches = [
            mock.patch.object(session_module, "MAX_BATCH_BYTES", SMALL_BATCH),
            mock.patch.object(session_module, "LINK_UNCONFIRMED_BYTES", SMALL_UNCONFIRMED),
            mock.patch.object(session_module, "RESEND_WINDOW", SMALL_WINDOW),
            mock.patch.object(session_module, "CONFIRM_EVERY", SMALL_WINDOW // 2),
        ]
        for patch in self.patches:
            patch.start()
        self.ends = (End(1, 2), End(2, 1))
        self.now = 0.0
        self.refusing = False
        self.count = 0

    def teardown(self) -> None:
        try:
            self.heal()
        finally:
            for patch in self.patches:
                patch.stop()

    # --- the carrier ---

    def carry(self, side: int) -> None:
        session = self.ends[side].session
        outgoing = session.take_outgoing()
        assert len(outgoing) <= 2 * SMALL_WINDOW + 24, "a burst has a bound"
        if self.refusing:
            if outgoing:
                session.lost()
        else:
            self.ends[1 - side].queue += outgoing

    def receive(self, side: int, batch: bytes) -> None:
        end = self.ends[side]
        end.came += end.session.receive(batch, end.map_version, self.now)
        self.carry(side)

    @rule(side=st.integers(0, 1), sizes=st.lists(st.integers(1, 3 * SMALL_BATCH), min_size=1, max_size=8))
    def send(self, side: int, sizes: list[int]) -> None:
        end = self.ends[side]
        for size in sizes:
            if end.session.blocked:
                break
            self.count += 1
            group = (b"%d," % self.count).ljust(size, b".")
            end.given.append(group)
            end.session.send(group, end.map_version, self.now)
        self.carry(side)

    @rule(side=st.integers(0, 1), count=st.integers(1, 200))
    def deliver(self, side: int, count: int) -> None:
        queue = self.ends[side].queue
        for _ in range(min(count, len(queue))):
            self.receive(side, queue.popleft())

    @rule(side=st.integers(0, 1), first=st.integers(0, 20), count=st.integers(1, 20))
    def lose(self, side: int, first: int, count: int) -> None:
        queue = self.ends[side].queue
        kept = [batch for index, batch in enumerate(queue) if not first <= index < first + count]
        queue.clear()
        queue += kept

    @rule(side=st.integers(0, 1), index=st.integers(0, 20))
    def double(self, side: int, index: int) -> None:
        queue = self.ends[side].queue
        if index < len(queue):
            queue.append(queue[index])

    @rule(side=st.integers(0, 1), rng=st.randoms(use_true_random=False))
    def reorder(self, side: int, rng: random.Random) -> None:
        rng.shuffle(self.ends[side].queue)

    @rule()
    def cut(self) -> None:
        """The connection breaks: what was on its way is gone, and ends notice when they send."""
        for end in self.ends:
            end.queue.clear()
        self.refusing = True

    @rule()
    def reconnect(self) -> None:
        self.refusing = False

    @rule(seconds=st.sampled_from([0.001, 0.005, 0.03, 0.11, 0.6]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for side, end in enumerate(self.ends):
            end.session.tick(self.now)
            self.carry(side)

    @rule(side=st.integers(0, 1))
    def next_map(self, side: int) -> None:
        end = self.ends[side]
        if end.map_version < MAX_MAP:
            self.take_map(side, end.map_version + 1)

    def take_map(self, side: int, version: int) -> None:
        end = self.ends[side]
        end.map_version = version
        end.came += end.session.release(version, self.now)
        self.carry(side)

    # --- what must hold ---

    @invariant()
    def what_came_is_a_beginning_of_what_was_given(self) -> None:
        for end, other in (self.ends, self.ends[::-1]):
            assert end.came == other.given[: len(end.came)]

    @invariant()
    def memory_is_bounded(self) -> None:
        for end in self.ends:
            session = end.session
            assert session.unconfirmed_bytes == sum(map(len, session._unconfirmed))
            assert session.unconfirmed_bytes < SMALL_UNCONFIRMED + 6 * 64, "blocked stops the writer"
            assert session.held_bytes == sum(len(body) for *_, body in session._held) <= SMALL_UNCONFIRMED
            assert session.sent - session.confirmed == len(session._unconfirmed)
            assert not session.outgoing, "the carrier has taken everything"

    def heal(self) -> None:
        self.refusing = False
        for side in (0, 1):
            self.take_map(side, MAX_MAP)
        until = self.now + HEAL_S
        while self.now < until:
            for side in (0, 1):
                self.deliver(side, 10_000)
            self.wait(0.005)
        for end, other in (self.ends, self.ends[::-1]):
            assert end.came == other.given
            assert not end.session.busy, "nothing is left to do"
            assert end.session.unconfirmed_bytes == 0
            assert not end.session.blocked
        assert not any(end.queue for end in self.ends), "two idle ends are silent"


TestSessionOverABadCarrier = SessionOverABadCarrier.TestCase
TestSessionOverABadCarrier.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
