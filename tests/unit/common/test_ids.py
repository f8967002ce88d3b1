"""Ids against an independent computation, straight from the definition."""

from __future__ import annotations

import hashlib
import hmac
import random

import pytest

from roost.common.errors import InvalidObjectId
from roost.common.ids import (
    OBJECT_ID_BYTES,
    Incarnation,
    ObjectId,
    belongs_to,
    binding_of,
    connection_id,
    id_from_name,
    id_from_string,
    namespace_of,
    new_unique_id,
    slot_of,
)
from roost.common.limits import SLOTS


def _mac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()


def _by_hand(namespace: str, base: bytes) -> bytes:
    """``K = SHA-256(namespace)``, ``id = base ‖ HMAC-SHA256(K, base)[:16]``."""
    return base + _mac(hashlib.sha256(namespace.encode("utf-8")).digest(), base)[:16]


@pytest.mark.parametrize(
    ("namespace", "name"),
    [("chat-room", "lobby"), ("chat-room", "Lobby"), ("counter", "lobby"), ("n", "ä €/%\x00"), ("n", "x" * 512)],
)
def test_id_from_name_is_a_base_from_the_name_and_a_tag_from_the_base(namespace: str, name: str) -> None:
    key = hashlib.sha256(namespace.encode()).digest()
    assert id_from_name(namespace, name) == _by_hand(namespace, _mac(key, name.encode())[:16])


def test_the_id_of_a_name_never_changes() -> None:
    """Data on disk is filed under ids: this one is written down so that nobody changes the derivation unawares."""
    assert (
        id_from_name("chat-room", "lobby").hex() == "426553507b2912942b1f7f80baaec9be32c7d2e177f8e969d09a3ec98e9a4aad"
    )


def test_a_unique_id_is_a_random_base_with_the_same_tag() -> None:
    made = new_unique_id("chat-room", random.Random(7))
    assert made == _by_hand("chat-room", random.Random(7).randbytes(16))
    assert len(made) == OBJECT_ID_BYTES


def test_unique_ids_differ() -> None:
    rng = random.Random(1)
    assert len({new_unique_id("n", rng) for _ in range(1000)}) == 1000


def test_an_id_is_read_back_from_its_hex_digits_in_either_case() -> None:
    made = id_from_name("chat-room", "lobby")
    assert id_from_string("chat-room", made.hex()) == made
    assert id_from_string("chat-room", made.hex().upper()) == made


@pytest.mark.parametrize("text", ["", "lobby", "0" * 63, "0" * 65, "g" * 64, "0" * 64 + "\n", "٠" * 64])
def test_text_that_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidObjectId, match="64 hex digits"):
        id_from_string("chat-room", text)


def test_an_id_of_another_namespace_is_refused_by_name() -> None:
    foreign = id_from_name("counter", "lobby")
    with pytest.raises(InvalidObjectId, match=r"does not belong to the namespace 'chat-room'"):
        id_from_string("chat-room", foreign.hex())


def test_belongs_to_notices_any_changed_bit() -> None:
    made = id_from_name("chat-room", "lobby")
    assert belongs_to(made, "chat-room")
    assert not belongs_to(made, "chat-roon")
    for bit in range(8 * OBJECT_ID_BYTES):
        changed = bytearray(made)
        changed[bit // 8] ^= 1 << bit % 8
        assert not belongs_to(ObjectId(bytes(changed)), "chat-room"), f"bit {bit}"


@pytest.mark.parametrize(("start", "slot"), [("0000", 0), ("000f", 0), ("0010", 1), ("abcd", 0xABC), ("ffff", 4095)])
def test_the_slot_is_the_first_twelve_bits(start: str, slot: int) -> None:
    assert slot_of(ObjectId(bytes.fromhex(start + "77" * 30))) == slot


def test_names_spread_over_all_slots() -> None:
    hit = {slot_of(id_from_name("n", str(number))) for number in range(10 * SLOTS)}
    assert max(hit) == SLOTS - 1
    # Each slot stays empty with probability e^-10, so about 0.2 of 4,096 do.
    assert len(hit) >= SLOTS - 5


def test_a_connection_id_holds_the_router_and_its_counter() -> None:
    assert connection_id(Incarnation(1), 1) == 0x1_0000_0001
    assert connection_id(Incarnation(0xFFFFFFFF), 0xFFFFFFFF) == 0xFFFF_FFFF_FFFF_FFFF
    assert connection_id(Incarnation(2), 0) != connection_id(Incarnation(0), 2)


@pytest.mark.parametrize(
    ("class_name", "namespace", "binding"),
    [
        ("ChatRoom", "chat-room", "CHAT_ROOM"),
        ("Counter", "counter", "COUNTER"),
        ("A", "a", "A"),
        ("HTTPServer2", "http-server2", "HTTP_SERVER2"),
        ("MyHTTPServer", "my-http-server", "MY_HTTP_SERVER"),
        ("ABTest", "ab-test", "AB_TEST"),
        ("IOError", "io-error", "IO_ERROR"),
        ("Room2D", "room2-d", "ROOM2_D"),
        ("snake_case", "snake-case", "SNAKE_CASE"),
        ("Mixed_Case", "mixed-case", "MIXED_CASE"),
        ("already", "already", "ALREADY"),
        ("URL", "url", "URL"),
    ],
)
def test_a_class_name_becomes_an_address_and_a_binding(class_name: str, namespace: str, binding: str) -> None:
    assert namespace_of(class_name) == namespace
    assert binding_of(class_name) == binding
