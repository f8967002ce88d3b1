"""Messages say whose they are, and whether they are whole."""

from __future__ import annotations

import pytest

from roost.deploy.loadtest.messages import BROADCAST, ECHO, MAX_LATE_US, MIN_BYTES, Codec, Message


@pytest.mark.parametrize("size", [MIN_BYTES, MIN_BYTES + 1, 64, 200, 70_000])
def test_what_is_written_is_read(size: int) -> None:
    codec = Codec(0xBEEF, size)
    payload = codec.encode(BROADCAST, 0xFFFFF, 0xFFFFFFF, 16**10 - 1, 17)
    assert len(payload) == size
    assert payload.isascii()
    assert codec.decode(payload) == Message(BROADCAST, 0xFFFFF, 0xFFFFFFF, 16**10 - 1, 17)


def test_lateness_is_cut() -> None:
    codec = Codec(1, 64)
    message = codec.decode(codec.encode(ECHO, 1, 2, 3, 10**9))
    assert message == Message(ECHO, 1, 2, 3, MAX_LATE_US)


def test_a_change_of_any_byte_is_found() -> None:
    codec = Codec(7, 100)
    payload = codec.encode(ECHO, 12, 34, 56, 78)
    for at in range(len(payload)):
        for byte in (b"0", b"x", b"\xff"):
            changed = payload[:at] + byte + payload[at + 1 :]
            if changed != payload:
                assert codec.decode(changed) is None
                assert codec.is_ours(changed)


def test_a_piece_of_one_is_none() -> None:
    codec = Codec(7, 100)
    payload = codec.encode(ECHO, 12, 34, 56, 78)
    for piece in (payload[:-1], payload + b"0", payload + payload):
        assert codec.decode(piece) is None
        assert codec.is_ours(piece)


def test_one_within_another_is_found() -> None:
    codec = Codec(7, 100)
    payload = codec.encode(ECHO, 12, 34, 56, 78)
    assert codec.is_within(b'{"text": "' + payload + b'"}')
    assert codec.is_within(b"> " + payload)
    for other in (payload, b"", b"welcome" * 100, Codec(8, 100).encode(ECHO, 12, 34, 56, 78) + b"."):
        assert not codec.is_within(other)


@pytest.mark.parametrize("payload", [b"", b"welcome", b'{"what": "joined"}', Codec(8, 64).encode(ECHO, 1, 1, 1, 1)])
def test_what_others_say_is_not_ours(payload: bytes) -> None:
    codec = Codec(7, 100)
    assert codec.decode(payload) is None
    assert not codec.is_ours(payload)


def test_fillers_differ() -> None:
    codec = Codec(7, 200)
    assert codec.encode(ECHO, 1, 1, 0, 0)[32:-8] != codec.encode(ECHO, 1, 2, 0, 0)[32:-8]
