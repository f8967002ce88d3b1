"""Payloads in pieces: whose turn it is, how much is under way, and what is forgotten."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from roost.common.limits import MAX_BATCH_BYTES
from roost.common.wire import shipping
from roost.common.wire.records import Ahead, Form, OutputWriter, Parts, Pieces, read_output
from roost.common.wire.records.writing import PIECE_BYTES as REAL_PIECE_BYTES
from roost.common.wire.shipping import LOOK_AHEAD, Shipping

PIECE_BYTES, UNDER_WAY_BYTES, BEGUN_BYTES = 1_000, 4_000, 16_000
"""In place of the real ones, which make no difference but in time."""
AT_ONCE = 4

NO_RECORDS: Any = SimpleNamespace(send=None)
"""A sink for groups that are nothing but parts."""


class Rig:
    """One end, and what has come at the other."""

    def __init__(self) -> None:
        self.writer = OutputWriter()
        self.session = SimpleNamespace(unconfirmed_bytes=0)
        self.closed = False
        self.shipping = Shipping(self)
        self.parts = Parts()
        self.shipped: list[tuple[Any, bytes]] = []
        self._arrived: list[tuple[Any, Ahead]] = []

    def ship(self, data: bytes | str | Pieces, owner: object, name: object = None) -> shipping.Shipment:
        return self.shipping.ship(data, owner, lambda ahead: self._arrived.append((name or owner, ahead)))

    def turn(self, *, confirmed: bool = True) -> int:
        """One turn; returns how many pieces have come."""
        self.shipping.work()
        groups = self.writer.take()
        for group in groups:
            read_output(group, NO_RECORDS, self.parts)
        if not confirmed:
            self.session.unconfirmed_bytes += sum(map(len, groups))
        for name, ahead in self._arrived:
            self.shipped.append((name, self.parts.take(ahead.stream).join()))
        self._arrived.clear()
        return len(groups)

    def names(self) -> list[Any]:
        while self.turn():
            pass
        return [name for name, _ in self.shipped]


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(shipping, "PIECE_BYTES", PIECE_BYTES)
    monkeypatch.setattr(shipping, "UNDER_WAY_BYTES", UNDER_WAY_BYTES)
    monkeypatch.setattr(shipping, "BEGUN_BYTES", BEGUN_BYTES)
    return Rig()


def test_a_piece_is_a_batch() -> None:
    writer = OutputWriter()
    writer.owed(1, True)
    writer.part(7, bytes(REAL_PIECE_BYTES))
    writer.owed(1, False)
    _, group, _ = writer.take()
    assert len(group) == MAX_BATCH_BYTES


@pytest.mark.parametrize("size", [1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 7 * PIECE_BYTES + 5])
def test_a_payload_comes_as_it_was(rig: Rig, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    rig.ship(data[:size], "a")
    rig.ship("x" * size, "b")
    rig.names()
    assert dict(rig.shipped) == {"a": data[:size], "b": b"x" * size}
    assert (len(rig.parts), rig.parts.size, len(rig.shipping)) == (0, 0, 0)


def test_no_more_is_under_way_than_may_be(rig: Rig) -> None:
    rig.ship(bytes(40 * PIECE_BYTES), "a")
    assert rig.turn(confirmed=False) == AT_ONCE
    assert rig.turn(confirmed=False) == 0, "nothing is confirmed"
    rig.session.unconfirmed_bytes = UNDER_WAY_BYTES - 1
    assert rig.turn() == 1
    rig.session.unconfirmed_bytes = 0
    assert rig.turn() == AT_ONCE


def test_nothing_of_a_piece_is_copied_at_the_other_end(rig: Rig) -> None:
    rig.writer.owed(1, True)
    rig.ship(bytes(2 * PIECE_BYTES), "a")
    rig.shipping.work()
    groups = rig.writer.take()
    assert len(groups) == 3
    parts = Parts()
    for group in groups[1:]:
        read_output(group, NO_RECORDS, parts)
    assert [part.obj for part in parts.take(1).parts] == groups[1:]


def test_owners_take_turns_and_a_small_payload_does_not_wait_for_a_large_one(rig: Rig) -> None:
    rig.ship(bytes(50 * PIECE_BYTES), "large")
    rig.ship(bytes(5 * PIECE_BYTES), "large", "beside it")
    rig.ship(bytes(3 * PIECE_BYTES), "middle")
    rig.ship(b"x", "small")
    assert rig.names() == ["small", "middle", "beside it", "large"]


def test_beside_the_largest_only_so_much_begins(rig: Rig) -> None:
    rig.ship(bytes(3 * BEGUN_BYTES), "largest")
    rig.ship(bytes(BEGUN_BYTES), "fits")
    rig.ship(bytes(PIECE_BYTES), "waits")
    rig.turn()
    assert len(rig.parts) == 2
    assert rig.names() == ["fits", "waits", "largest"]


def test_a_wide_text_begins_with_what_it_takes_at_the_other_end(rig: Rig) -> None:
    chars = BEGUN_BYTES // 4
    wide = ("\N{GRINNING FACE}" + "x" * (chars - 1)).encode()
    for name in ("largest", "fits", "waits"):
        parts = [memoryview(wide)[at : at + PIECE_BYTES] for at in range(0, len(wide), PIECE_BYTES)]
        rig.ship(Pieces(parts, len(wide), Form.WIDEST, chars), name)
    rig.turn()
    assert len(rig.parts) == 2
    assert sorted(rig.names()) == ["fits", "largest", "waits"]
    assert all(data == wide for _, data in rig.shipped)


def test_who_has_room_goes_past_who_has_none(rig: Rig) -> None:
    rig.ship(bytes(2 * BEGUN_BYTES), "first")
    rig.ship(bytes(2 * BEGUN_BYTES), "second")
    rig.ship(b"x", "third")
    rig.turn()
    assert [name for name, _ in rig.shipped] == ["third"]
    assert rig.names() == ["third", "first", "second"]


def test_many_that_wait_all_get_their_turn(rig: Rig) -> None:
    """More than are looked at when one has ended, the first of them not fit to begin."""
    rig.ship(bytes(2 * BEGUN_BYTES), "large")
    for number in range(2 * LOOK_AHEAD):
        rig.ship(bytes(2 * BEGUN_BYTES) if number < 2 else bytes(BEGUN_BYTES // 2), number)
    names = rig.names()
    assert sorted(map(str, names)) == sorted(["large", *map(str, range(2 * LOOK_AHEAD))])


def test_what_is_cancelled_is_forgotten_at_both_ends(rig: Rig) -> None:
    begun, waiting = rig.ship(bytes(20 * PIECE_BYTES), "a"), rig.ship(bytes(20 * PIECE_BYTES), "a", "waiting")
    other = rig.ship(b"x", "b")
    rig.turn()
    assert rig.parts.size > 0
    rig.shipping.cancel(begun)
    rig.shipping.cancel(other)  # it has been shipped
    rig.turn()
    rig.shipping.cancel(waiting)
    assert rig.names() == ["b"]
    assert (rig.parts.size, len(rig.parts), len(rig.shipping)) == (0, 0, 0)
    one, two = rig.ship(b"1", "a"), rig.ship(b"2", "a")
    rig.shipping.cancel(two)
    rig.shipping.cancel(one)
    assert len(rig.shipping) == 0
    assert rig.turn() == 0, "it had not begun"


def test_the_end_of_the_link_forgets_all(rig: Rig) -> None:
    shipment = rig.ship(bytes(20 * PIECE_BYTES), "a")
    rig.turn()
    rig.shipping.clear()
    rig.closed = True
    rig.shipping.cancel(shipment)
    assert (rig.turn(), len(rig.shipping)) == (0, 0)


def test_more_may_be_shipped_and_cancelled_when_something_has_been(rig: Rig) -> None:
    later: list[shipping.Shipment] = []

    def on_shipped(ahead: Ahead) -> None:
        later.append(rig.ship(b"next", "a"))
        rig.shipping.cancel(victim)

    rig.shipping.ship(b"x", "a", on_shipped)
    victim = rig.ship(bytes(9 * PIECE_BYTES), "b")
    assert rig.names() == ["a"]
    assert len(later) == 1


@pytest.mark.parametrize("way", ["shipped", "cancelled", "cancelled while it waits", "the link has ended"])
def test_a_payload_is_freed_although_who_is_called_refers_to_its_shipment(rig: Rig, way: str) -> None:
    if way == "cancelled while it waits":
        for number in range(2):
            rig.ship(bytes(BEGUN_BYTES), number)
    payload = bytes(bytearray(PIECE_BYTES))
    before = sys.getrefcount(payload)
    owner: dict[str, object] = {}
    shipment = owner["shipment"] = rig.shipping.ship(payload, "owner", lambda ahead: owner.update(ahead=ahead))
    assert sys.getrefcount(payload) > before
    if way == "shipped":
        rig.shipping.work()
        rig.writer.take()
        assert "ahead" in owner
    elif way == "the link has ended":
        rig.shipping.clear()
    else:
        assert rig.shipping.cancel(shipment)
    assert sys.getrefcount(payload) == before
