"""The descriptors of a shard: who gets which, on a table of numbers."""

from __future__ import annotations

import logging
import threading

import pytest

from roost.shard.running.descriptors import DOOR_EVERY_S, DOOR_NUMBERS, DOOR_S, OWN, RESERVE, SAY_EVERY_S, Descriptors

LIMIT = 1_000
BASE = LIMIT - RESERVE


class Machine:
    """A table of descriptors, all of which are in order: ``taken`` is the next number. And the shard's address."""

    def __init__(self) -> None:
        self.taken = 30
        self.soft = LIMIT
        self.is_shown = True
        self.now = 0.0
        self.descriptors = Descriptors(LIMIT, self, next_number=self.next_number, set_soft=self.set_soft)

    def next_number(self) -> int:
        return self.taken if self.taken < self.soft else 1 << 62

    def set_soft(self, limit: int) -> None:
        self.soft = limit

    def hide(self) -> None:
        self.is_shown = False

    def show(self) -> None:
        self.is_shown = True

    def take_all(self) -> None:
        """As objects' code does."""
        self.taken = max(self.taken, self.soft)

    def accept(self) -> None:
        """As ZeroMQ does when a router connects."""
        if self.is_shown:
            assert self.taken < self.soft, "ZeroMQ ends the process"
            self.taken += 1

    def look(self, seconds: float) -> list[bool]:
        """Look ten times a second; says when the address was shown."""
        shown = []
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            self.descriptors.look(self.now)
            shown.append(self.is_shown)
        return shown


def test_objects_code_does_not_get_the_reserve() -> None:
    machine = Machine()
    assert machine.soft == BASE
    assert all(machine.look(5))
    machine.take_all()
    machine.look(0.1)
    assert not machine.is_shown
    assert machine.soft == BASE


def test_who_wants_to_connect_comes_in_while_a_door_is_open() -> None:
    machine = Machine()
    machine.take_all()
    shown = machine.look(DOOR_EVERY_S * 3)
    assert 3 <= shown.count(True) <= 3 * (DOOR_S + 0.2) * 10
    while not machine.is_shown:
        machine.look(0.1)
    assert machine.soft == BASE + DOOR_NUMBERS
    machine.accept()
    while machine.is_shown:
        machine.look(0.1)
    assert machine.soft == BASE + DOOR_NUMBERS, "who has come at the last moment"
    machine.look(0.1)
    assert machine.soft == BASE


def test_code_that_grabs_all_again_and_again_never_has_zeromq_accept_without_a_number(
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine = Machine()
    with caplog.at_level(logging.WARNING, "roost.shard"):
        machine.take_all()
        for _ in range(1_000):
            machine.look(0.1)
            machine.accept()
            machine.take_all()
            if machine.is_shown:
                machine.look(0.1)
                break
        for _ in range(1_000):
            machine.look(0.1)
            machine.take_all()
    assert machine.taken == LIMIT - OWN, "the last ones are the shard's own"
    assert not any(machine.look(60)), "no door opens any more"
    assert 1 <= len(caplog.records) <= 1 + machine.now / SAY_EVERY_S
    assert "objects' code has all 936 descriptors" in caplog.text


def test_when_descriptors_are_free_again_the_address_is_back(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    machine.take_all()
    machine.look(1)
    machine.taken = 40
    with caplog.at_level(logging.WARNING, "roost.shard"):
        assert machine.look(5)[-1]
    assert machine.soft == BASE
    assert "free again" in caplog.text
    assert all(machine.look(5))


def test_for_its_own_work_the_shard_has_all() -> None:
    machine = Machine()
    machine.take_all()
    machine.look(0.2)
    with machine.descriptors.room():
        assert machine.soft == LIMIT
        with machine.descriptors.room():
            pass
        assert machine.soft == LIMIT
        looking = threading.Thread(target=machine.look, args=(0.3,))
        looking.start()
        looking.join(5)
        assert machine.soft == LIMIT
    assert machine.soft == BASE
    while not machine.is_shown:
        machine.look(0.1)
    with machine.descriptors.room():
        pass
    assert machine.soft == BASE + DOOR_NUMBERS, "an open door stays open"


def test_at_the_end_all_is_as_it_was() -> None:
    machine = Machine()
    machine.take_all()
    machine.look(0.2)
    machine.descriptors.close()
    assert machine.is_shown
    assert machine.soft == LIMIT
