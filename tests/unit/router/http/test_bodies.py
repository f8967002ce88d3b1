"""The bound of all request bodies: who makes room, and for whom."""

from __future__ import annotations

import pytest

from roost.common.budget import Budget
from roost.common.errors import RequestError, Unavailable
from roost.router.clients.timers import Wheel
from roost.router.counters import RouterCounters
from roost.router.http.bodies import STEP_BYTES, Bodies

LIMIT = 100 * STEP_BYTES


class Upload:
    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.body_size = 0
        self.evicted: RequestError | None = None

    def grow(self, size: int) -> None:
        assert self.evicted is None
        self.body_size += size
        self._rig.bodies.budget.taken += size
        self._rig.bodies.grew(self)

    def evict(self, error: RequestError) -> None:
        self.evicted = error
        self.free()

    def free(self) -> None:
        self._rig.bodies.budget.taken -= self.body_size
        self.body_size = 0
        self._rig.bodies.end(self)


class Rig:
    def __init__(self) -> None:
        self.counters = RouterCounters()
        self.wheel = Wheel(0.0)
        self.bodies = Bodies(Budget(LIMIT), self.counters, self.wheel)
        self._now = 0.0

    def upload(self, size: int = 0) -> Upload:
        made = Upload(self)
        if size:
            made.grow(size)
        return made

    def pass_time(self, seconds: float) -> None:
        self._now += seconds
        self.wheel.advance(self._now)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_the_slowest_goes_whatever_it_holds(rig: Rig) -> None:
    quick, slow = rig.upload(50 * STEP_BYTES), rig.upload(STEP_BYTES)
    rig.pass_time(2)
    quick.grow(STEP_BYTES)
    slow.grow(1)  # no step
    late = rig.upload(49 * STEP_BYTES)
    assert isinstance(slow.evicted, Unavailable)
    assert "slowest" in str(slow.evicted)
    assert (quick.evicted, late.evicted) == (None, None)
    assert rig.counters.bodies_evicted == 1


def test_those_that_trickle_keep_nobody_out(rig: Rig) -> None:
    """The bound is full of bodies of which a byte comes now and then; one of them goes, and others have its room."""
    trickling = [rig.upload(10 * STEP_BYTES - 1) for _ in range(10)]
    for turn in range(10):
        rig.pass_time(5)
        if trickling[turn].evicted is None:
            trickling[turn].grow(1)
        honest = rig.upload(9 * STEP_BYTES)
        assert honest.evicted is None
        honest.free()
    assert sum(upload.evicted is not None for upload in trickling) == 1


def test_quick_ones_go_only_for_one_with_less_than_half(rig: Rig) -> None:
    large = [rig.upload(25 * STEP_BYTES) for _ in range(4)]
    with pytest.raises(Unavailable, match="too many request bodies"):
        rig.upload(13 * STEP_BYTES)
    assert [upload.evicted for upload in large] == [None] * 4
    rig.bodies.budget.taken -= 13 * STEP_BYTES
    rig.upload(12 * STEP_BYTES)
    assert [upload.evicted is not None for upload in large] == [True, False, False, False]


def test_one_that_grows_alone_to_the_bound_is_refused_itself(rig: Rig) -> None:
    with pytest.raises(Unavailable):
        rig.upload(LIMIT + 1)


def test_what_came_whole_is_not_evicted(rig: Rig) -> None:
    whole = rig.upload(60 * STEP_BYTES)
    rig.bodies.end(whole)
    rig.pass_time(10)
    with pytest.raises(Unavailable):
        rig.upload(41 * STEP_BYTES)
    assert whole.evicted is None


def test_small_bodies_are_no_uploads(rig: Rig) -> None:
    for _ in range(50):
        rig.upload(STEP_BYTES - 1)
    assert len(rig.bodies) == 0
