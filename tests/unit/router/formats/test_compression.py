"""Compressed frames must say what the library understands, whether they were made at once or in steps."""

from __future__ import annotations

import os
import zlib

import pytest
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from roost.router.formats.compression import DEFLATE_STEP, encoder_for


def received(frames: list[bytes]) -> list[Frame]:
    """What the library's client makes of them."""
    client = ClientProtocol(parse_uri("ws://x/"), state=State.OPEN, max_size=None)
    client.extensions = [PerMessageDeflate(True, True, 15, 15)]
    for frame in frames:
        client.receive_data(frame)
    assert client.parser_exc is None
    return [event for event in client.events_received() if isinstance(event, Frame)]


@pytest.mark.parametrize("length", [0, 1, 125, 300, 70_000])
@pytest.mark.parametrize("window_bits", [9, 15])
def test_deflated_frames_are_understood(length: int, window_bits: int) -> None:
    payload = bytes(range(256)) * (length // 256) + b"y" * (length % 256)
    (frame,) = received([encoder_for(window_bits).frame(payload, True)])
    assert (frame.opcode, bytes(frame.data)) == (Opcode.BINARY, payload)


@pytest.mark.parametrize("window_bits", range(9, 16))
def test_nothing_refers_back_farther_than_was_agreed(window_bits: int) -> None:
    far = os.urandom((1 << window_bits) + 100)
    for frame in (encoder_for(window_bits).frame(far + far, True), _in_steps(window_bits, far + far)):
        at = 4 if frame[1] == 126 else 10
        inflate = zlib.decompressobj(wbits=-window_bits)
        assert inflate.decompress(frame[at:] + b"\0\0\xff\xff") == far + far


def _in_steps(window_bits: int, data: bytes) -> bytes:
    deflating = encoder_for(window_bits).begin([data], True)
    while not deflating.step():
        pass
    return b"".join(deflating.frame)


def test_a_long_text_is_smaller_deflated() -> None:
    assert len(encoder_for(15).frame(b"roost " * 1000, False)) < 100


@pytest.mark.parametrize("size", [1, 100, DEFLATE_STEP, 5 * DEFLATE_STEP + 3])
@pytest.mark.parametrize("piece", [1000, DEFLATE_STEP, 3 * DEFLATE_STEP])
@pytest.mark.parametrize("window_bits", [9, 15])
def test_a_frame_compressed_in_steps_says_the_same(size: int, piece: int, window_bits: int) -> None:
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    deflating = encoder_for(window_bits).begin(
        [memoryview(data)[at : at + piece] for at in range(0, size, piece)], True
    )
    steps = 1
    while not deflating.step():
        steps += 1
    assert steps >= size // DEFLATE_STEP
    assert deflating.step(), "it stays done"
    frame = b"".join(deflating.frame)
    whole = encoder_for(window_bits).frame(data, True)
    assert frame[:1] == whole[:1]
    length = frame[1]
    at = 2 if length < 126 else 4 if length == 126 else 10
    assert length < 126 or int.from_bytes(frame[2:at], "big") == len(frame) - at
    inflate = zlib.decompressobj(wbits=-window_bits)
    assert inflate.decompress(frame[at:] + b"\0\0\xff\xff") == data


def test_clients_with_one_window_are_a_group() -> None:
    assert encoder_for(15) is encoder_for(15)
    assert encoder_for(15) is not encoder_for(9)
    with pytest.raises(KeyError):
        encoder_for(8)
