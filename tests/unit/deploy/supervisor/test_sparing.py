"""What pictures of the cluster cost when they are asked for all the time."""

from __future__ import annotations

import pytest

from roost.deploy.supervisor.sparing import BURST_S, SHARE, Sparing


def test_a_picture_that_is_asked_for_all_the_time_takes_a_share_of_the_time() -> None:
    now, made = [1000.0], [0]

    def make() -> bytes:
        made[0] += 1
        now[0] += 0.005
        return b"%d" % made[0]

    picture = Sparing(make, lambda: now[0])
    burst = int(BURST_S * SHARE / 0.005)
    assert [picture() for _ in range(burst)] == [b"%d" % number for number in range(1, burst + 1)], "each its own"
    began, before = now[0], made[0]
    while now[0] < began + 10:
        assert int(picture()) == made[0], "nobody gets an older one than somebody else has got"
        now[0] += 0.0005
    assert 10 * SHARE * 0.8 < (made[0] - before) * 0.005 < 10 * SHARE * 1.2
    now[0] += 60
    assert picture() == b"%d" % made[0]
    assert made[0] > before


def test_a_picture_that_cannot_be_made_is_tried_again() -> None:
    pictures: list[bytes] = []
    picture = Sparing(pictures.pop, lambda: 0.0)
    with pytest.raises(IndexError):
        picture()
    pictures.append(b"made")
    assert picture() == b"made"
