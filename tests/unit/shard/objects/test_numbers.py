"""The numbers that a shard gives in order."""

from __future__ import annotations

from roost.shard.objects.numbers import Numbers


def test_each_number_is_higher_than_any_that_was_given_or_seen() -> None:
    numbers = Numbers()
    assert [numbers.next_ordinal(), numbers.next_ordinal(), numbers.next_revision()] == [1, 2, 1]
    numbers.saw_ordinal(7)
    numbers.saw_revision(3)
    numbers.saw_ordinal(4)
    numbers.saw_revision(2)
    assert [numbers.next_ordinal(), numbers.next_revision()] == [8, 4]
