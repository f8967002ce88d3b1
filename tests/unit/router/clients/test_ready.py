"""Sockets that the loop does not look at: so many as fit into a turn, and all in turn."""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from roost.router.clients.ready import AT_ONCE, IN, OUT, READY_S, Ready


class Shell:
    """Sockets that all have something, and a clock that a test moves.

    Attributes:
        told: How often each was told.
        look_s: Seconds that pass between two looks at the clock.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.look_s = 0.0
        self.told: Counter[int] = Counter()
        self.act: dict[int, Callable[[], None]] = {}
        self.ready = Ready(self._clock)
        self.opened = contextlib.ExitStack()
        self.opened.callback(self.ready.close)

    def _clock(self) -> float:
        self.now += self.look_s
        return self.now

    def add(self, count: int) -> list[socket.socket]:
        made = []
        for _ in range(count):
            here, there = socket.socketpair()
            self.opened.enter_context(here)
            self.opened.enter_context(there).send(b"something")
            self.ready.change(here.fileno(), Told(self, here.fileno()), 0, IN)
            made.append(here)
        return made


class Told:
    def __init__(self, shell: Shell, number: int) -> None:
        self.shell, self.number = shell, number

    def on_ready(self, events: int) -> None:
        assert events == IN
        self.shell.told[self.number] += 1
        self.shell.act.get(self.number, lambda: None)()


@pytest.fixture
def shell() -> Iterator[Shell]:
    shell = Shell()
    with shell.opened:
        yield shell


def test_a_turn_takes_as_many_as_fit(shell: Shell) -> None:
    shell.add(10 * AT_ONCE)
    shell.look_s = READY_S / 3
    shell.ready.turn()
    assert shell.told.total() == 3 * AT_ONCE
    shell.look_s = 2 * READY_S
    shell.ready.turn()
    assert shell.told.total() == 4 * AT_ONCE, "and some in any case"


def test_each_has_its_turn_before_any_has_another(shell: Shell) -> None:
    shell.add(10 * AT_ONCE)
    shell.look_s = READY_S / 2
    for turn in range(1, 11):
        shell.ready.turn()
        rounds, more = divmod(turn * 2, 10)
        assert set(shell.told.values()) == {rounds, rounds + 1} - ({rounds + 1} if not more else set()) - {0}


def test_few_are_told_once_in_a_turn(shell: Shell) -> None:
    shell.add(AT_ONCE - 1)
    shell.ready.turn()
    assert set(shell.told.values()) == {1}
    assert len(shell.told) == AT_ONCE - 1


def test_who_is_ended_by_another_is_not_told(shell: Shell) -> None:
    first, second = shell.add(2)

    def end(one: socket.socket) -> None:
        shell.ready.change(one.fileno(), Told(shell, one.fileno()), IN, 0)

    shell.act = {first.fileno(): lambda: end(second), second.fileno(): lambda: end(first)}
    shell.ready.turn()
    assert shell.told.total() == 1
    assert len(shell.ready) == 1


def test_what_is_looked_for_can_change(shell: Shell) -> None:
    (one,) = shell.add(1)
    seen: list[int] = []

    class Noting:
        def on_ready(self, events: int) -> None:
            seen.append(events)

    noting = Noting()
    number = one.fileno()
    shell.ready.change(number, noting, IN, 0)
    shell.ready.turn()
    shell.ready.change(number, noting, 0, OUT)
    shell.ready.turn()
    shell.ready.change(number, noting, OUT, IN | OUT)
    shell.ready.turn()
    assert seen == [OUT, IN | OUT]
    assert not shell.told


def test_after_its_end_nothing_is_looked_at(shell: Shell) -> None:
    (one,) = shell.add(1)
    shell.ready.close()
    shell.ready.change(one.fileno(), Told(shell, one.fileno()), IN, 0)
    assert len(shell.ready) == 0
