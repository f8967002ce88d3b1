"""Accepted sockets whose client end has not been returned."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from roost.shard.objects.unreturned import Unreturned


def event(has_ended: bool = False) -> Any:
    return SimpleNamespace(has_ended=has_ended)


def test_what_is_returned_is_in_here_no_longer() -> None:
    unreturned: Unreturned[str] = Unreturned()
    assert not unreturned
    unreturned.add("a", event())
    assert unreturned
    unreturned.returned("a")
    unreturned.returned("a")
    assert not unreturned


def test_an_event_has_others_than_the_one_that_it_returns() -> None:
    unreturned: Unreturned[str] = Unreturned()
    one, other = event(), event()
    unreturned.add("a", one)
    assert not unreturned.has_another(one, "a")
    assert unreturned.has_another(one, None)
    unreturned.add("b", other)
    assert not unreturned.has_another(one, "a"), "that one is another event's"
    unreturned.add("c", one)
    assert unreturned.has_another(one, "a")


def test_those_of_events_that_have_ended_are_overdue_and_those_of_no_event_once_none_runs() -> None:
    unreturned: Unreturned[str] = Unreturned()
    for socket, within in (("ended", event(has_ended=True)), ("runs", event()), ("of none", None)):
        unreturned.add(socket, within)
    assert unreturned.take_overdue(none_runs=False) == ["ended"]
    assert unreturned.take_overdue(none_runs=True) == ["of none"]
    assert unreturned.take_all() == ["runs"]
    assert not unreturned
