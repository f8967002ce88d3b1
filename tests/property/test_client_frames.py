"""Frames come out the same whether they took the short cut or the package's own parser."""

from __future__ import annotations

from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from roost.router import client_frames
from roost.router.client_frames import ClientFrames

LIMIT = 70_000

payloads = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"", bytes(125), bytes(126), bytes(127), bytes(65_535), bytes(65_536), bytes(LIMIT), bytes(LIMIT + 1)]
    ),
)
frames = st.one_of(
    st.builds(Frame, st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT]), payloads, st.booleans()),
    st.builds(Frame, st.sampled_from([Opcode.TEXT, Opcode.BINARY]), payloads),
    st.builds(Frame, st.sampled_from([Opcode.PING, Opcode.PONG]), st.binary(max_size=125)),
    st.builds(Frame, st.just(Opcode.CLOSE), st.sampled_from([b"", b"\x03\xe8bye", b"\x03"])),
)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Bytes of a client, in pieces: mostly valid frames, sometimes an unmasked one or garbage behind them."""
    data = b""
    for frame in draw(st.lists(frames, max_size=6)):
        whole = bytearray(frame.serialize(mask=draw(st.integers(0, 15)) > 0))
        if draw(st.integers(0, 15)) == 0:
            whole[0] |= 0x40  # a reserved bit
        data += whole
    data += draw(st.one_of(st.just(b""), st.binary(max_size=12)))
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=5)))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return [piece for piece in pieces if piece]


def outcome(protocol: ServerProtocol, frames: list[tuple[Opcode, bytes, bool]]) -> tuple[object, ...]:
    sent = protocol.close_sent
    return frames, b"".join(protocol.data_to_send()), sent and (sent.code, sent.reason), type(protocol.parser_exc)


@given(streams())
def test_the_short_cut_changes_nothing(pieces: list[bytes]) -> None:
    plain = ServerProtocol(state=State.OPEN, max_size=LIMIT, logger=client_frames.log)
    quick = ClientFrames(LIMIT)
    expected: list[tuple[Opcode, bytes, bool]] = []
    got: list[tuple[Opcode, bytes, bool]] = []
    for piece in pieces:
        plain.receive_data(piece)
        expected += [(f.opcode, bytes(f.data), f.fin) for f in plain.events_received()]  # type: ignore[union-attr]
        got += quick.receive(piece)
    assert outcome(quick, got) == outcome(plain, expected)


def test_plain_frames_take_it_and_others_do_not() -> None:
    protocol = ClientFrames(LIMIT)
    with mock.patch.object(protocol, "receive_data", wraps=protocol.receive_data) as parser:
        small = Frame(Opcode.TEXT, b"hello").serialize(mask=True)
        large = Frame(Opcode.BINARY, bytes(60_000)).serialize(mask=True)
        assert protocol.receive(small + large + small) == [
            (Opcode.TEXT, b"hello", True),
            (Opcode.BINARY, bytes(60_000), True),
            (Opcode.TEXT, b"hello", True),
        ]
        parser.assert_not_called()
        assert protocol.receive(small + small[:7]) == [(Opcode.TEXT, b"hello", True)]
        parser.assert_called_once_with(small[:7])
        # In the middle of a frame the bytes of the next call are not a frame's beginning, whatever they look like.
        assert protocol.receive(small[7:] + small) == [(Opcode.TEXT, b"hello", True)] * 2
        assert parser.call_count == 2
        assert protocol.receive(small) == [(Opcode.TEXT, b"hello", True)]
        assert parser.call_count == 2
