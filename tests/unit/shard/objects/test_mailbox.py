from __future__ import annotations

import pytest

from roost.shard.objects.mailbox import Mailbox


def drained(mailbox: Mailbox[str]) -> list[str]:
    taken = []
    while mailbox:
        taken.append(mailbox.take())
    return taken


def test_per_source_in_order_and_sources_in_turn() -> None:
    mailbox: Mailbox[str] = Mailbox()
    for event in ("m1", "m2", "m3", "n1", "n2", "o1"):
        mailbox.put(event[0], event)
    assert drained(mailbox) == ["m1", "n1", "o1", "m2", "n2", "m3"]


def test_a_source_that_comes_back_waits_for_its_turn() -> None:
    mailbox: Mailbox[str] = Mailbox()
    mailbox.put("m", "m1")
    mailbox.put("n", "n1")
    mailbox.put("n", "n2")
    assert mailbox.take() == "m1"
    mailbox.put("m", "m2")
    assert drained(mailbox) == ["n1", "m2", "n2"]


def test_it_is_true_while_something_waits() -> None:
    mailbox: Mailbox[str] = Mailbox()
    assert not mailbox
    mailbox.put("m", "m1")
    assert mailbox
    mailbox.take()
    assert not mailbox
    mailbox.put("m", "m2")
    assert drained(mailbox) == ["m2"]


def test_an_empty_one_has_nothing_to_take() -> None:
    with pytest.raises(LookupError):
        Mailbox[str]().take()
