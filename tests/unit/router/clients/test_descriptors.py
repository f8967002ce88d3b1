"""Descriptors that are kept from clients."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from roost.router.clients.descriptors import HELD, LENT, MOST_BACKLOG, Descriptors


@pytest.fixture
def descriptors() -> Iterator[Descriptors]:
    made = Descriptors(1024)
    yield made
    made.close()


def count() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    ("limit", "wanted", "for_clients"),
    [(256, 0, 128), (1024, 0, 768), (20_000, 0, 17_500), (20_000, 19_800, 19_800), (1 << 20, 0, 1_044_224)],
)
def test_what_clients_may_have(limit: int, wanted: int, for_clients: int) -> None:
    made = Descriptors(limit, wanted, held=0)
    assert made.for_clients == for_clients
    assert 32 <= made.backlog <= MOST_BACKLOG


@pytest.mark.parametrize("limit", [256, 1024, 4096, 20_000, 1 << 20])
def test_a_burst_fits_beside(limit: int) -> None:
    made = Descriptors(limit)
    assert made.for_clients + made.backlog + min(HELD, (limit - made.for_clients) // 2) <= limit
    made.close()


def test_some_are_held_and_lent() -> None:
    before = count()
    made = Descriptors(1024)
    assert count() == before + HELD
    made.lend()
    assert count() == before + HELD - LENT
    made.top_up()
    assert count() == before + HELD
    for _ in range(HELD):
        made.lend()  # more than there are
    made.close()
    made.top_up()
    assert count() == before


def test_what_cannot_be_held_now_is_held_later(monkeypatch: pytest.MonkeyPatch, descriptors: Descriptors) -> None:
    before = count()
    descriptors.lend()
    with monkeypatch.context() as none_left:
        none_left.setattr(os, "open", lambda *_: (_ for _ in ()).throw(OSError(24, "Too many open files")))
        descriptors.top_up()
    assert count() == before - LENT
    descriptors.top_up()
    assert count() == before


def test_refused_clients_are_told_of_once_a_minute(descriptors: Descriptors, caplog: pytest.LogCaptureFixture) -> None:
    for now in (1.0, 1.5, 60.9, 61.1, 62.0):
        descriptors.refused(now)
    assert ["1 refused" in caplog.messages[0], "3 refused" in caplog.messages[1]] == [True, True]
    assert len(caplog.messages) == 2
