"""Our parser of clients' frames against the ``websockets`` package's, whose frames are joined in the plainest way."""

from __future__ import annotations

from collections.abc import Sequence
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from roost.router.formats.frames import pong_frame
from roost.router.websocket.client_frames import ClientFrames

LIMIT = 70_000

payloads = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=20).map(str.encode),
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


class Pieces(list[bytes]):
    """Prints short."""

    def __repr__(self) -> str:
        return " | ".join(f"{piece[:16].hex()}{f'… ({len(piece)})' * (len(piece) > 16)}" for piece in self)


@st.composite
def streams(draw: st.DrawFn) -> Pieces:
    """Bytes of a client, in pieces: mostly valid frames, sometimes an unmasked one or garbage behind them."""
    data = b""
    for frame in draw(st.lists(frames, max_size=6)):
        whole = bytearray(frame.serialize(mask=draw(st.integers(0, 15)) > 0))
        if draw(st.integers(0, 15)) == 0:
            whole[0] |= 0x40  # a reserved bit
        data += whole
    data += draw(st.one_of(st.just(b""), st.binary(max_size=12)))
    return cut(data, draw(st.lists(st.integers(0, len(data)), max_size=5)))


def cut(data: bytes, at: list[int]) -> Pieces:
    ends = sorted(at)
    pieces = [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]
    return Pieces(piece for piece in pieces if piece)


Outcome = tuple[list[tuple[Opcode, bytes]], list[bytes], int | None]


def expected(data: bytes, extensions: Sequence[Extension] = ()) -> tuple[Outcome, bytes]:
    """What *data* comes to by the package's frames: messages and Close, pongs, close code; and the text, of a message
    that is not finished, that its frames have brought."""
    reader = StreamReader()
    reader.feed_data(data)
    found: list[tuple[Opcode, bytes]] = []
    pongs: list[bytes] = []
    opcode, message = None, b""

    def outcome(code: int | None = None) -> tuple[Outcome, bytes]:
        return (found, pongs, code), message if opcode is Opcode.TEXT else b""

    while True:
        room = None if reader.buffer and reader.buffer[0] & 8 else LIMIT - len(message)
        parser = Frame.parse(reader.read_exact, mask=True, max_size=room, extensions=extensions)
        try:
            next(parser)
        except StopIteration as stop:
            frame = stop.value
        except PayloadTooBig:
            return outcome(1009)
        except ProtocolError:
            return outcome(1002)
        else:
            return outcome()  # it wants more
        if frame.opcode is Opcode.PING:
            pongs.append(pong_frame(bytes(frame.data)))
        elif frame.opcode is Opcode.CLOSE:
            found.append((Opcode.CLOSE, bytes(frame.data)))
            message = b""
            return outcome()
        elif frame.opcode is not Opcode.PONG:
            if (frame.opcode is Opcode.CONT) != (opcode is not None):
                return outcome(1002)
            opcode = opcode or frame.opcode
            message += frame.data
            if opcode is Opcode.TEXT and not begins_utf_8(message, frame.fin):
                return outcome(1007)
            if frame.fin:
                found.append((opcode, message))
                opcode, message = None, b""


def begins_utf_8(data: bytes, whole: bool) -> bool:
    """In the plainest way: whether *data* is UTF-8, or with up to three bytes behind it would be."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        if whole or error.reason != "unexpected end of data":
            return False
    return True


@given(streams())
def test_the_package_finds_the_same(pieces: Pieces) -> None:
    protocol = ClientFrames(LIMIT)
    got = [frame for piece in pieces for frame in protocol.receive(piece)]
    (found, pongs, code), unfinished = expected(b"".join(pieces))
    assert (got, protocol.pongs) == (found, pongs)
    if code is not None:
        assert protocol.failure is not None
        # A head that is wrong in two ways: the package looks at the length before the reserved bits.
        assert protocol.failure.code == code or (code, protocol.failure.code) == (1009, 1002)
    elif protocol.failure is not None:
        # It does not wait for a frame's end where the beginning is wrong already.
        assert protocol.failure.code in (1002, 1007)
    if found and found[-1][0] is Opcode.CLOSE:
        assert protocol.failure is None
    if protocol.failure is None and unfinished:
        assert protocol.held >= len(unfinished)


def deflate(window_bits: int) -> PerMessageDeflate:
    """The package's compression as routers agree to it."""
    return PerMessageDeflate(True, True, window_bits, window_bits)


@st.composite
def compressed_streams(draw: st.DrawFn) -> tuple[int, Pieces]:
    """A window, and bytes of a client that compresses some messages by it and others not, in fragments, in pieces."""
    window_bits = draw(st.integers(9, 15))
    encoder, data = deflate(window_bits), b""
    for _ in range(draw(st.integers(1, 4))):
        opcode = draw(st.sampled_from([Opcode.TEXT, Opcode.BINARY]))
        payload = draw(st.one_of(payloads, st.binary(max_size=300)))
        extensions = draw(st.sampled_from([[encoder], [encoder], []]))
        ends = sorted({*draw(st.lists(st.integers(0, len(payload)), max_size=2)), len(payload)})
        start = 0
        for end in ends:
            data += Frame(opcode, payload[start:end], end == len(payload)).serialize(mask=True, extensions=extensions)
            start, opcode = end, Opcode.CONT
            if draw(st.booleans()):
                data += Frame(Opcode.PING, b"alive").serialize(mask=True, extensions=[encoder])
    return window_bits, cut(data, draw(st.lists(st.integers(0, len(data)), max_size=5)))


@given(compressed_streams())
def test_the_package_inflates_the_same(stream: tuple[int, Pieces]) -> None:
    window_bits, pieces = stream
    protocol = ClientFrames(LIMIT, window_bits)
    got = [frame for piece in pieces for frame in protocol.receive(piece)]
    while protocol.unparsed:
        got += protocol.go_on()
    (found, pongs, code), _ = expected(b"".join(pieces), [deflate(window_bits)])
    assert (got, protocol.pongs) == (found, pongs)
    assert (protocol.failure and protocol.failure.code) == code


@given(st.binary(max_size=200), st.integers(0, 200), st.lists(st.integers(0, 220), max_size=8))
def test_wrong_text_is_found_at_its_first_wrong_byte(tail: bytes, cut_at: int, cuts: list[int]) -> None:
    text = "aé€\U0001f600".encode() * 5 + tail
    split = min(cut_at, len(text))
    first = Frame(Opcode.TEXT, text[:split], fin=False).serialize(mask=True)
    data = first + Frame(Opcode.CONT, text[split:], fin=False).serialize(mask=True)
    protocol = ClientFrames(LIMIT)
    taken = b""
    for piece in cut(data, [min(at, len(data)) for at in cuts]):
        protocol.receive(piece)
        taken += piece
        # The same text in one call says the same.
        whole = ClientFrames(LIMIT)
        whole.receive(taken)
        assert (whole.failure is None) == (protocol.failure is None)
        assert str(whole.failure) == str(protocol.failure)
    assert (protocol.failure is None) == begins_utf_8(text, whole=False)


@given(streams())
def test_how_it_comes_in_pieces_does_not_matter(pieces: Pieces) -> None:
    data = b"".join(pieces)
    at_once, byte_by_byte = ClientFrames(LIMIT), ClientFrames(LIMIT)
    one = at_once.receive(data) if data else []
    step = max(1, len(data) // 200)
    many = [f for at in range(0, len(data), step) for f in byte_by_byte.receive(data[at : at + step])]
    assert one == many
    assert at_once.pongs == byte_by_byte.pongs
    assert str(at_once.failure) == str(byte_by_byte.failure)
    assert (at_once.held, at_once.left) == (byte_by_byte.held, byte_by_byte.left)


def test_plain_frames_take_the_short_cut_and_others_do_not() -> None:
    protocol = ClientFrames(LIMIT)
    with mock.patch.object(ClientFrames, "_read", autospec=True, side_effect=ClientFrames._read) as parser:
        small = Frame(Opcode.TEXT, b"hello").serialize(mask=True)
        large = Frame(Opcode.BINARY, bytes(60_000)).serialize(mask=True)
        wanted = [(Opcode.TEXT, b"hello"), (Opcode.BINARY, bytes(60_000)), (Opcode.TEXT, b"hello")]
        assert protocol.receive(small + large + small) == wanted
        parser.assert_not_called()
        assert protocol.receive(small + small[:7]) == [(Opcode.TEXT, b"hello")]
        assert parser.call_count == 1
        # In the middle of a frame the bytes of the next call are not a frame's beginning, whatever they look like.
        assert protocol.receive(small[7:] + small) == [(Opcode.TEXT, b"hello")] * 2
        assert parser.call_count == 2
        assert protocol.receive(small) == [(Opcode.TEXT, b"hello")]
        assert parser.call_count == 2
