"""The router's table of objects."""

from __future__ import annotations

from typing import Any

from roost.common.ids import slot_of
from roost.router.clients.objects import ObjectEntry
from roost.router.formats.frames import data_frame
from tests.unit.router.fakes import World, state


def test_an_object_is_kept_as_long_as_it_has_a_connection() -> None:
    world = World()
    entry = world.entry()
    first, second = world.pending(), world.pending()
    assert world.shared.objects.get(entry.object_id) is entry
    assert entry.slot == slot_of(entry.object_id)
    first.refuse()
    assert world.shared.objects.get(entry.object_id) is entry
    second.refuse()
    assert world.shared.objects.get(entry.object_id) is None
    assert len(world.shared.objects) == 0


def test_objects_are_found_by_their_slot() -> None:
    world = World()
    names = [f"object-{number}" for number in range(200)]
    for name in names:
        world.connect(name)
    entries = [world.entry(name) for name in names]
    assert len(world.shared.objects) == 200
    for slot in {entry.slot for entry in entries}:
        assert world.shared.objects.in_slot(slot) == [entry for entry in entries if entry.slot == slot]
    empty = next(slot for slot in range(4096) if slot not in {entry.slot for entry in entries})
    assert world.shared.objects.in_slot(empty) == []
    gone = entries[0]
    for connection in list(gone.connections.values()):
        connection.forget_events()
        connection.connection_lost(None)
    assert gone not in world.shared.objects.in_slot(gone.slot)
    assert len(world.shared.objects) == 199


def test_state_makes_the_automatic_response() -> None:
    entry = World().entry()
    entry.set_state(state(entry.object_id, 3, ("pïng", "pong")))
    assert entry.auto_request == "pïng".encode()
    assert entry.auto_frame == data_frame(b"pong", False)
    entry.set_state(state(entry.object_id, 4, None))
    assert entry.auto_request is None


def test_an_older_state_changes_nothing() -> None:
    entry = World().entry()
    entry.set_state(state(entry.object_id, 3, ("a", "b")))
    entry.set_state(state(entry.object_id, 2, ("c", "d")))
    assert entry.auto_request == b"a"


def test_what_an_object_has_set_outlives_its_last_connection() -> None:
    world = World()
    entry = world.entry()
    entry.set_state(state(entry.object_id, 3, ("a", "b")))
    objects = world.shared.objects
    objects.release(entry)
    assert objects.get(entry.object_id) is None
    assert [each.revision for each in objects.remembered.in_slot(entry.slot)] == [3]
    again: ObjectEntry[Any] = ObjectEntry(entry.object_id, entry.namespace, entry.name)
    objects.add(again)
    assert again.auto_request == b"a"
    assert len(objects.remembered) == 0
