"""Our histograms are HdrHistogram's: the same buckets, and an encoding that its library reads."""

from __future__ import annotations

import random

import pytest
from hdrh.histogram import HdrHistogram

from roost.deploy.loadtest.histogram import HIGHEST_US, Histogram, highest_of, lowest_of


def values(seed: int, count: int) -> list[int]:
    rng = random.Random(seed)
    return [int(2 ** rng.uniform(0, 31.7)) for _ in range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_the_encoding_is_read_by_the_library(seed: int) -> None:
    ours, theirs = Histogram(), HdrHistogram(1, HIGHEST_US, 3)
    for value in values(seed, 3_000):
        ours.record(value)
        theirs.record_value(value)
    decoded = HdrHistogram.decode(ours.encode())
    assert decoded.get_total_count() == 3_000 == ours.total
    for percent, value in ours.percentiles().items():
        assert value == theirs.get_value_at_percentile(percent) == decoded.get_value_at_percentile(percent)
    assert ours.mean() == pytest.approx(theirs.get_mean_value(), rel=0.001)


def test_large_counts_survive_the_encoding() -> None:
    ours = Histogram([(5, 3_000_000_000), (9_000, 1)])
    decoded = HdrHistogram.decode(ours.encode())
    assert decoded.get_total_count() == 3_000_000_001
    assert decoded.get_max_value() == highest_of(9_000)


def test_an_empty_one() -> None:
    empty = Histogram()
    assert HdrHistogram.decode(empty.encode()).get_total_count() == 0
    assert (empty.percentile(99), empty.mean(), empty.total) == (0, 0.0, 0)


def test_each_value_falls_into_a_bucket_that_holds_it_to_three_digits() -> None:
    for value in [0, 1, 2_047, 2_048, 2_049, 4_095, 4_096, *values(7, 2_000)]:
        one = Histogram()
        one.record(value)
        ((index, count),) = one.take()
        assert count == 1
        assert lowest_of(index) <= value <= highest_of(index)
        assert highest_of(index) - lowest_of(index) <= value / 1_000


def test_values_out_of_range_count_at_its_ends() -> None:
    one = Histogram()
    one.record(-5)
    one.record(10 * HIGHEST_US)
    assert one.percentile(1) == 0
    assert one.percentile(100) >= HIGHEST_US


def test_what_is_taken_adds_up_elsewhere() -> None:
    parts, whole = Histogram(), Histogram()
    for value in (1, 1, 5_000):
        parts.record(value)
        whole.add(parts.take())
    assert parts.total == 0
    assert whole.percentile(50) == 1
    assert whole.total == 3
