"""The mailbox against a naive model: a list, looked through."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roost.shard.objects.mailbox import Mailbox

STEPS = st.lists(st.one_of(st.sampled_from("mnop"), st.none()), max_size=60)
"""A source that puts its next event, or a take."""


@given(STEPS)
def test_sources_take_turns_and_each_keeps_its_order(steps: list[str | None]) -> None:
    mailbox: Mailbox[tuple[str, int]] = Mailbox()
    waiting: list[tuple[str, int]] = []
    turns: list[str] = []  # sources with something waiting, whose turn is next first
    number = 0
    for source in [*steps, *[None] * len(steps)]:
        assert bool(mailbox) == bool(waiting)
        if source is not None:
            number += 1
            mailbox.put(source, (source, number))
            waiting.append((source, number))
            if source not in turns:
                turns.append(source)
        elif waiting:
            turn = turns.pop(0)
            event = next(event for event in waiting if event[0] == turn)
            waiting.remove(event)
            if any(other == turn for other, _ in waiting):
                turns.append(turn)
            assert mailbox.take() == event
    assert not mailbox
