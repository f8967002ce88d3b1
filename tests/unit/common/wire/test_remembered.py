from __future__ import annotations

from roost.common.ids import id_from_name, slot_of
from roost.common.wire.records import ObjectState
from roost.common.wire.remembered import ENTRY_BYTES, Remembered

A, B, C = (id_from_name("room", name) for name in "abc")


def state(object_id: object, revision: int = 1, pair: tuple[str, str] | None = ("x", "y")) -> ObjectState:
    return ObjectState(object_id, revision, 0, pair)  # type: ignore[arg-type]


def test_what_was_put_is_there_until_it_is_taken() -> None:
    table = Remembered()
    table.put(state(A))
    assert table.get(A) == state(A)
    assert table.in_slot(slot_of(A)) == [state(A)]
    assert table.take(A) == state(A)
    assert table.take(A) is table.get(A) is None
    assert (len(table), table.size, table.in_slot(slot_of(A))) == (0, 0, [])


def test_the_highest_revision_stays_and_an_unset_one_counts() -> None:
    table = Remembered()
    for revision, pair in ((5, None), (4, ("x", "y"))):
        table.put(state(A, revision, pair))
    assert table.get(A) == state(A, 5, None)
    assert len(table) == 1


def test_the_oldest_are_forgotten_when_there_is_no_room() -> None:
    table = Remembered(2 * (ENTRY_BYTES + 4))
    for object_id in (A, B, C):
        table.put(state(object_id))
    assert [table.get(each) is not None for each in (A, B, C)] == [False, True, True]
    table.put(state(B, 2))
    table.put(state(A))
    assert [table.get(each) is not None for each in (A, B, C)] == [True, True, False]
    assert table.forgotten == 2
    table.put(state(C, 1, ("x" * 2048, "y" * 2048)))
    assert len(table) == 0, "one that is larger than all the room"
    assert table.size == 0


def test_a_slot_that_goes_takes_its_states_along() -> None:
    table = Remembered()
    table.put(state(A))
    table.put(state(B))
    table.drop(slot_of(A))
    assert table.get(A) is None
    assert table.get(B) is not None
    table.drop(slot_of(A))
