"""Frames made by hand must be those that the library would make."""

from __future__ import annotations

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from roost.router.formats.frames import PING, close_frame, data_frame


def received(data: bytes) -> list[Frame]:
    client = ClientProtocol(parse_uri("ws://x/"), state=State.OPEN, max_size=None)
    client.receive_data(data)
    assert client.parser_exc is None
    return [event for event in client.events_received() if isinstance(event, Frame)]


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 200_000])
@pytest.mark.parametrize("binary", [False, True])
def test_data_frames(length: int, binary: bool) -> None:
    payload = b"x" * length
    opcode = Opcode.BINARY if binary else Opcode.TEXT
    assert data_frame(payload, binary) == Frame(opcode, payload).serialize(mask=False)


def test_close_frames() -> None:
    (frame,) = received(close_frame(4001, "bye"))
    assert Close.parse(frame.data) == Close(4001, "bye")


def test_a_close_without_a_code() -> None:
    (frame,) = received(close_frame(1005, "ignored"))
    assert frame.data == b""


def test_a_close_reason_is_cut_at_a_character() -> None:
    (frame,) = received(close_frame(1013, "é" * 100))
    assert Close.parse(frame.data) == Close(1013, "é" * 61)


def test_codes_that_the_library_would_not_send_are_sent() -> None:
    assert close_frame(2999, "")[2:] == (2999).to_bytes(2, "big")


def test_the_ping_is_a_ping() -> None:
    (frame,) = received(PING)
    assert (frame.opcode, frame.data) == (Opcode.PING, b"")
