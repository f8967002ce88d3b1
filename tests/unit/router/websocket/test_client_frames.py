"""What a client sends: one case each of what is allowed, and of what is wrong and when that is found."""

from __future__ import annotations

import os
import zlib

import pytest
from websockets.frames import Opcode
from websockets.speedups import apply_mask

from roost.common.wire.records import Pieces
from roost.router.formats.frames import pong_frame
from roost.router.websocket.client_frames import STEP_FRAMES, ClientError, ClientFrame, ClientFrames, close_of
from tests.unit.router.fakes import binary, client_frame, close, text

LIMIT = 1 << 20


@pytest.fixture
def client() -> ClientFrames:
    return ClientFrames(LIMIT)


def joined(frames: list[ClientFrame]) -> list[tuple[Opcode, bytes]]:
    """Large messages come in pieces."""
    return [(opcode, payload.join() if isinstance(payload, Pieces) else payload) for opcode, payload in frames]


def fails(client: ClientFrames, data: bytes) -> ClientError:
    """*data* ends in a failure, and in no message."""
    assert client.receive(data) == []
    assert client.failure is not None
    assert (client.held, client.left) == (0, 0)
    assert client.receive(text("never")) == []
    return client.failure


# --- control frames -----------------------------------------------------------------------------------------------


def test_control_frames_may_come_between_fragments_and_inside_no_frame(client: ClientFrames) -> None:
    parts = [
        client_frame(Opcode.TEXT, b"a", fin=False),
        client_frame(Opcode.PING, b"p"),
        client_frame(Opcode.CONT, b"", fin=False),
        client_frame(Opcode.PONG, b"unasked"),
        client_frame(Opcode.CONT, b"b"),
    ]
    assert client.receive(b"".join(parts)) == [(Opcode.TEXT, b"ab")]
    assert client.pongs == [pong_frame(b"p")]


def test_a_close_between_two_fragments_is_a_close(client: ClientFrames) -> None:
    assert client.receive(client_frame(Opcode.TEXT, b"a", fin=False) + close(1000, "bye") + text("never")) == [
        (Opcode.CLOSE, b"\x03\xe8bye")
    ]
    assert client.failure is None
    assert client.held == 0
    assert client.receive(client_frame(Opcode.PING) + b"\xff" * 9) == []
    assert client.pongs == []
    assert client.failure is None


def test_a_ping_of_125_bytes_in_pieces(client: ClientFrames) -> None:
    for byte in client_frame(Opcode.PING, bytes(range(125))):
        assert client.receive(bytes((byte,))) == []
    assert client.pongs == [pong_frame(bytes(range(125)))]


# --- what is wrong, and when --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\x83\x80", "unknown opcode 3"),
        (b"\x8f\x80", "unknown opcode 15"),
        (b"\xa1\x80", "reserved bits 2 and 3"),
        (b"\x91\x80", "reserved bits 2 and 3"),
        (b"\xc1\x80", "compression was not negotiated"),
        (b"\x81\x01", "must be masked"),
        (b"\x89\xfe", "control frame of more than 125 bytes"),
        (b"\x09\x80", "a fragmented control frame"),
        (b"\x80\x80", "a continuation frame of no message"),
        (b"\x82\xff" + bytes((0x80,)) + bytes(7) + bytes(4), "63 bits"),
    ],
)
def test_a_wrong_head_is_found_before_what_it_announces(client: ClientFrames, head: bytes, words: str) -> None:
    error = fails(client, head)
    assert error.code == 1002
    assert words in error.description


def test_a_new_message_inside_another_is_wrong(client: ClientFrames) -> None:
    client.receive(client_frame(Opcode.TEXT, b"a", fin=False))
    assert "before the end of a fragmented one" in fails(client, b"\x82\x80").description


def test_inside_a_message_nothing_is_taken_for_one_of_its_own(client: ClientFrames) -> None:
    """Whole short messages go by a road of their own, between two messages only."""
    assert client.receive(client_frame(Opcode.TEXT, b"a", fin=False)) == []
    assert "a new message before the end" in fails(client, text("b")).description


def test_the_rest_of_a_frame_may_look_like_a_frame(client: ClientFrames) -> None:
    raw, mask = b"xx" + text("no message"), b"mask"
    frame = bytes((0x82, 0x80 | len(raw))) + mask + raw
    payload = apply_mask(raw, mask)
    for split in range(1, len(frame)):
        assert client.receive(frame[:split]) + client.receive(frame[split:]) == [(Opcode.BINARY, payload)]


def test_the_rest_of_a_head_may_look_like_a_frame(client: ClientFrames) -> None:
    payload = bytes(0x8185)  # a length that begins as a short text does
    frame = client_frame(Opcode.BINARY, payload)
    assert frame[2:4] == b"\x81\x85"
    assert joined(client.receive(frame[:2]) + client.receive(frame[2:])) == [(Opcode.BINARY, payload)]


def test_messages_before_a_failure_are_handed_out(client: ClientFrames) -> None:
    assert client.receive(text("one") + binary(b"2") + b"\x83\x80") == [(Opcode.TEXT, b"one"), (Opcode.BINARY, b"2")]
    assert client.failure is not None


def test_a_message_that_is_too_large_is_found_on_its_head_in_words_with_the_sizes() -> None:
    client = ClientFrames(33_554_432)
    error = fails(client, b"\x82\xff" + (33_554_433).to_bytes(8) + bytes(4))
    assert (error.code, error.description) == (
        1009,
        "a message of 33,554,433 bytes is larger than 33,554,432 bytes",
    )


def test_a_fragment_that_makes_a_message_too_large_is_found_on_its_head(client: ClientFrames) -> None:
    client.receive(client_frame(Opcode.BINARY, bytes(LIMIT), fin=False))
    assert client.held == LIMIT
    client.receive(client_frame(Opcode.PING, b"fine"))
    assert "1,048,577" in fails(client, b"\x80\x81" + bytes(4)).description


# --- text ---------------------------------------------------------------------------------------------------------

KOSME = "κόσμε".encode()


@pytest.mark.parametrize(
    "wrong",
    [
        b"\xf4\x90",  # beyond U+10FFFF
        b"\xed\xa0",  # a surrogate
        b"\xe0\x80",  # longer than needed
        b"\xc0",
        b"\xff",
        b"\xf0\x80",
        b"\xce\xce",
        b"\x80",
    ],
)
def test_text_that_is_no_utf_8_is_found_at_once(client: ClientFrames, wrong: bytes) -> None:
    """Autobahn 6.4: in a fragment that is not the last, and in a frame whose end never comes."""
    client.receive(client_frame(Opcode.TEXT, KOSME, fin=False))
    error = fails(client, client_frame(Opcode.CONT, wrong, fin=False))
    assert error.code == 1007
    assert f"at byte {len(KOSME)}" in error.description or f"at byte {len(KOSME) + 1}" in error.description

    slow = ClientFrames(LIMIT)
    frame = client_frame(Opcode.TEXT, KOSME + wrong + bytes(5000))
    until_wrong = 8 + len(KOSME) + len(wrong)
    assert slow.receive(frame[: until_wrong - len(wrong)]) == []
    assert slow.failure is None
    assert slow.receive(frame[until_wrong - len(wrong) : until_wrong]) == []
    assert slow.failure is not None
    assert slow.failure.code == 1007


def test_a_character_may_be_split_anywhere(client: ClientFrames) -> None:
    whole = "a€\U0001f600é".encode()
    parts = [client_frame(Opcode.TEXT, b"", fin=False)]
    parts += [client_frame(Opcode.CONT, bytes((byte,)), fin=False) for byte in whole]
    assert client.receive(b"".join(parts) + client_frame(Opcode.CONT)) == [(Opcode.TEXT, whole)]
    assert [f for byte in text(whole.decode()) for f in client.receive(bytes((byte,)))] == [(Opcode.TEXT, whole)]


def test_text_that_ends_inside_a_character_is_wrong(client: ClientFrames) -> None:
    assert fails(client, client_frame(Opcode.TEXT, KOSME[:-1])).code == 1007


def test_binary_is_whatever_it_is(client: ClientFrames) -> None:
    data = os.urandom(100_000)
    frame = binary(data)
    got = [f for at in range(0, len(frame), 1999) for f in client.receive(frame[at : at + 1999])]
    assert got == [(Opcode.BINARY, data)]


# --- what a message takes -----------------------------------------------------------------------------------------


def test_what_has_come_and_what_is_to_come_are_known(client: ClientFrames) -> None:
    frame = binary(bytes(100_000))
    assert len(frame) == 14 + 100_000
    client.receive(frame[: 14 + 60_000])
    assert (client.held, client.left) == (60_000, 40_000)
    client.receive(frame[14 + 60_000 :])
    assert (client.held, client.left) == (0, 0)
    client.receive(client_frame(Opcode.BINARY, bytes(500), fin=False))
    assert (client.held, client.left) == (500, 0)
    client.give_up()
    assert (client.held, client.left) == (0, 0)
    assert client.receive(text("never")) == []


# --- compression --------------------------------------------------------------------------------------------------


def squeezed(data: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-15)
    return (squeeze.compress(data) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4]


def compressed(opcode: Opcode, body: bytes, fin: bool = True) -> bytes:
    frame = bytearray(client_frame(opcode, body, fin))
    if opcode is not Opcode.CONT:
        frame[0] |= 0x40
    return bytes(frame)


@pytest.mark.parametrize("size", [0, 1, 5000, LIMIT])
def test_a_compressed_message_in_fragments_and_pieces(size: int) -> None:
    client, data = ClientFrames(LIMIT, 15), os.urandom(size)
    body = squeezed(data)
    half = len(body) // 2
    frames = compressed(Opcode.BINARY, body[:half], fin=False) + compressed(Opcode.CONT, body[half:])
    for _ in range(2):  # no context is kept
        got = [f for at in range(0, len(frames), 7919) for f in client.receive(frames[at : at + 7919])]
        assert joined(got) == [(Opcode.BINARY, data)]
    assert client.receive(text("plain")) == [(Opcode.TEXT, b"plain")]


@pytest.mark.parametrize("bits", range(9, 16))
def test_a_window_reaches_as_far_back_as_was_agreed(bits: int) -> None:
    far = os.urandom((1 << bits) - 300)
    squeeze = zlib.compressobj(wbits=-bits)
    body = (squeeze.compress(far + far) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4]
    assert len(body) < 1.2 * len(far), "the second is said by the first"
    client = ClientFrames(LIMIT, bits)
    got = client.receive(compressed(Opcode.BINARY, body))
    while client.unparsed:
        got += client.go_on()
    assert joined(got) == [(Opcode.BINARY, far + far)]


@pytest.mark.parametrize("beyond", [1, 2, 100, 257, 258, 259])
def test_no_end_of_a_match_is_lost_behind_a_step(beyond: int) -> None:
    """What a decoder still has when all of a frame has gone into it."""
    data = b"a" * (63 * 4096 + beyond)
    client = ClientFrames(LIMIT, 15)
    got = client.receive(compressed(Opcode.BINARY, squeezed(data)))
    while client.unparsed:
        got += client.go_on()
    assert joined(got) == [(Opcode.BINARY, data)]


def test_what_a_small_frame_inflates_to_comes_in_steps() -> None:
    client = ClientFrames(16 << 20, 15)
    frame = compressed(Opcode.BINARY, squeezed(bytes(8 << 20)))
    assert len(frame) < 10_000
    got, held = client.receive(frame), 0
    while client.unparsed:
        assert client.held - held <= 64 * 4096
        held = client.held
        got += client.go_on()
    assert joined(got) == [(Opcode.BINARY, bytes(8 << 20))]


def test_frames_are_taken_apart_a_step_at_a_time_whatever_they_are() -> None:
    data = (text("a") + client_frame(Opcode.PING) + binary(b"b")) * 100
    client, all_at_once = ClientFrames(LIMIT), []
    step = client.receive(data)
    while step:
        assert len(step) + len(client.pongs) <= STEP_FRAMES
        client.pongs.clear()
        all_at_once += step
        step = client.go_on() if client.unparsed else []
    assert all_at_once == [(Opcode.TEXT, b"a"), (Opcode.BINARY, b"b")] * 100


def test_bytes_that_come_while_others_wait_are_behind_them() -> None:
    client = ClientFrames(LIMIT)
    got = client.receive(text("a") * 100)
    assert client.receive(text("b")) == []
    while client.unparsed:
        got += client.go_on()
    assert got == [(Opcode.TEXT, b"a")] * 100 + [(Opcode.TEXT, b"b")]


@pytest.mark.parametrize("pieces", [1, 100])
def test_a_bomb_is_refused_when_it_passes_the_limit(pieces: int) -> None:
    client = ClientFrames(LIMIT, 15)
    frame = compressed(Opcode.BINARY, squeezed(bytes(LIMIT + 1)))
    step = -(-len(frame) // pieces)
    for at in range(0, len(frame), step):
        assert client.receive(frame[at : at + step]) == []
        while client.unparsed:
            assert client.go_on() == []
        assert client.held <= LIMIT
    assert client.failure is not None
    assert client.failure.code == 1009
    assert "1,048,576" in client.failure.description


def test_compressed_text_is_checked_too() -> None:
    client = ClientFrames(LIMIT, 15)
    assert fails(client, compressed(Opcode.TEXT, squeezed(b"\xff"))).code == 1007


@pytest.mark.parametrize("head", [b"\xc9\x80", b"\xc8\x80"])
def test_a_control_frame_is_never_compressed(head: bytes) -> None:
    assert fails(ClientFrames(LIMIT, 15), head).code == 1002


# --- Close --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 3999, 4000, 4999])
@pytest.mark.parametrize("strict", [True, False])
def test_codes_that_a_client_may_send(code: int, strict: bool) -> None:
    assert close_of(code.to_bytes(2) + "é".encode(), strict=strict) == (code, "é")


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_other_codes_are_wrong_until_our_close_is_out(code: int) -> None:
    with pytest.raises(ClientError, match=f"1002: .*{code}"):
        close_of(code.to_bytes(2), strict=True)
    assert close_of(code.to_bytes(2), strict=False) == (code, "")


def test_a_close_without_a_code() -> None:
    assert close_of(b"", strict=True) == close_of(b"", strict=False) == (1005, "")


def test_half_a_code_and_a_reason_that_is_no_utf_8() -> None:
    with pytest.raises(ClientError, match="1002"):
        close_of(b"\x03", strict=True)
    with pytest.raises(ClientError, match="1007"):
        close_of(b"\x03\xe8\xff", strict=True)
    assert close_of(b"\x03", strict=False) == (1005, "")
    assert close_of(b"\x03\xe8a\xff", strict=False) == (1000, "a\ufffd")
