"""Frames by hand, against the protocol that the ``websockets`` package speaks."""

from __future__ import annotations

import random

import pytest
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from roost.deploy.loadtest import frames
from roost.deploy.loadtest.frames import BrokenFrames, FrameReader


def server(opcode: int, payload: bytes, fin: bool = True, mask: bool = False) -> bytes:
    return Frame(Opcode(opcode), payload, fin).serialize(mask=mask)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 100_000])
def test_a_server_reads_what_we_write(size: int) -> None:
    peer = Protocol(Side.SERVER, max_size=None)
    payload = bytes(size)
    peer.receive_data(frames.client_frame(frames.BINARY, payload))
    (event,) = peer.events_received()
    assert isinstance(event, Frame)
    assert (event.opcode, event.data) == (Opcode.BINARY, payload)


def test_a_server_reads_our_close() -> None:
    peer = Protocol(Side.SERVER)
    peer.receive_data(frames.close_frame(1000))
    assert peer.close_rcvd is not None
    assert peer.close_rcvd.code == 1000


@pytest.mark.parametrize("seed", range(20))
def test_the_stream_may_be_cut_anywhere(seed: int) -> None:
    rng = random.Random(seed)
    said = [(rng.choice((1, 2)), rng.randbytes(rng.choice((0, 5, 125, 126, 300, 70_000)))) for _ in range(12)]
    said.insert(3, (frames.PING, b"are you there"))
    stream = b"".join(server(opcode, payload) for opcode, payload in said)
    reader, found, at = FrameReader(), [], 0
    while at < len(stream):
        size = rng.choice((1, 2, 3, 50, 4_000, 100_000))
        found += reader.feed(stream[at : at + size])
        at += size
    assert found == said


def test_fragments_are_joined_and_control_frames_come_between() -> None:
    stream = (
        server(1, b"one ", fin=False)
        + server(frames.PING, b"p")
        + server(0, b"two ", fin=False)
        + server(0, b"three")
        + server(1, b"next")
    )
    assert FrameReader().feed(stream) == [(frames.PING, b"p"), (1, b"one two three"), (1, b"next")]


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (server(1, b"x" * 200, mask=True), "masked"),
        (b"\xc1\x01x", "reserved"),
        (server(0, b"x"), "does not belong"),
        (b"\x83\x00", "does not belong"),
        (server(1, b"a", fin=False) + server(1, b"b"), "in the middle"),
        (server(1, b"a", fin=False) + server(1, b"b", fin=False), "in the middle"),
        (b"\x09\x00", "control frame"),
        (b"\x82\x7f" + (1 << 40).to_bytes(8, "big"), "a frame of"),
    ],
)
def test_a_server_that_breaks_the_protocol_is_found(stream: bytes, why: str) -> None:
    with pytest.raises(BrokenFrames, match=why):
        FrameReader().feed(stream)


def test_close_codes() -> None:
    assert frames.close_code(b"\x03\xe9going") == 1001
    assert frames.close_code(b"") == 1005
