"""What one client sends, byte by byte: frames are checked, unmasked, inflated and joined to messages (RFC 6455 5).

The ``websockets`` package parses frames, too, but hands a frame out only when it is whole, and forgets what came before
a frame that is wrong. A server for strangers needs more: text that is no UTF-8 is refused at its first wrong byte, not
32 MiB later; what an unfinished message takes is known at any time (see ``unfinished``); a Close between two fragments
is one; and the messages before a bad frame are handed out. So this is a parser of our own, which the package's is the
measure of (a property test compares the two).

Nearly all frames are whole messages of less than 64 KiB, in one piece with nothing before them: ``receive`` takes those
apart at once. Anything else goes byte range by byte range through ``_read``, whose state is three parts: the head that
is incomplete, the data frame whose payload is coming, and the message that is not finished.

Bytes are taken apart in **steps**: of ``STEP_FRAMES`` frames, or as much payload as takes as long. One read of a socket
may hold 40,000 frames, or 256 MiB deflated. What is left after a step waits as it came (``unparsed``), which takes less
memory than what would become of it, until ``go_on``.
"""

from __future__ import annotations

import zlib
from codecs import utf_8_decode
from collections.abc import Callable

from websockets.frames import Opcode

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without the compiled part
    from websockets.utils import apply_mask

from ...common.close_codes import INVALID_DATA, MESSAGE_TOO_BIG, NO_STATUS, PROTOCOL_ERROR
from ...common.wire.records import Form
from ..clients.gathering import Gathering, Payload, form_of
from ..formats.frames import pong_frame

STEP_FRAMES = 64
"""Frames that are taken apart at once: some 0.2 ms."""

ClientFrame = tuple[Opcode, Payload]
"""TEXT or BINARY with a whole message, text being valid UTF-8, a large one in pieces; or CLOSE with its body as it
came."""

_CONT, _TEXT, _BINARY, _CLOSE, _PING = Opcode.CONT, Opcode.TEXT, Opcode.BINARY, Opcode.CLOSE, Opcode.PING
_OPCODES = {int(opcode): opcode for opcode in Opcode}
_WHOLE_TEXT, _WHOLE_BINARY = 0x81, 0x82
_FIN, _RSV1, _RSV2_AND_3, _OPCODE, _CONTROL = 0x80, 0x40, 0x30, 0x0F, 0x08
_MASKED, _LENGTH = 0x80, 0x7F
_HEAD_BYTES = 6
"""Of a masked frame of less than 126 bytes: two bytes and the mask (RFC 6455 5.2)."""
_MAX_CONTROL_BYTES = 125
_STEP = range(STEP_FRAMES)
_PLAIN_BYTES = 16 << 10
"""Bytes of payload that take about as long as a frame of their own."""
_INFLATED_BYTES = 4 << 10
"""The same for bytes that come out of a deflated payload."""
_DEFLATED_BYTES = 4 << 10
"""Bytes that are inflated at once: what they leave over is copied."""
_EMPTY_BLOCK = b"\x00\x00\xff\xff"
"""What a sender of compressed messages leaves out at the end (RFC 7692 7.2.1)."""


class ClientError(Exception):
    """The client has broken the protocol.

    Attributes:
        code: The close code that says how (RFC 6455 7.4.1).
        description: What was wrong, for the Close and for the object.
    """

    def __init__(self, code: int, description: str) -> None:
        self.code = code
        self.description = description
        super().__init__(f"{code}: {description}")


def is_one_message(data: bytes) -> bool:
    """Whether a read seems to be one whole message of less than 126 bytes, or the beginning of a longer one."""
    first, length = data[0], data[1] & _LENGTH if len(data) > 1 else 0
    if first != _WHOLE_TEXT and first != _WHOLE_BINARY:
        return False
    return len(data) == _HEAD_BYTES + length if length < 126 else len(data) <= 8 + int.from_bytes(data[2:4])


class ClientFrames:
    """The receiving half of the WebSocket protocol for one open connection.

    Args:
        max_message_bytes: Limit of a message, all its fragments together, inflated.
        inflate_bits: Window of compressed messages (RFC 7692), which keep no context; 0 without compression.
        watch: Told of each piece of a large message (``common.discards``).

    Attributes:
        failure: How the client has broken the protocol. What it sends after that is not looked at.
        held: Bytes that have come of the message that is not finished.
        left: Bytes that are still to come of its present frame.
        has_news: More than plain frames has come: one of these five may have changed. For the caller to reset.
        pongs: Frames that answer the client's pings; for the caller to write and clear.
        unparsed: Bytes that wait for ``go_on``.
    """

    __slots__ = (
        "_between",
        "_decoder",
        "_fin",
        "_head",
        "_inflate_bits",
        "_is_over",
        "_mask",
        "_max_message_bytes",
        "_message",
        "_opcode",
        "_rest",
        "_tail",
        "_watch",
        "failure",
        "has_news",
        "held",
        "left",
        "pongs",
        "unparsed",
    )

    def __init__(
        self,
        max_message_bytes: int,
        inflate_bits: int = 0,
        watch: Callable[[memoryview], object] | None = None,
    ) -> None:
        self.failure: ClientError | None = None
        self.held = self.left = self.unparsed = 0
        self.has_news = False
        self.pongs: list[bytes] = []
        self._max_message_bytes = max_message_bytes
        self._inflate_bits = inflate_bits
        self._watch = watch
        self._is_over = False
        self._between = True  # two messages: the next may be here in whole
        # Most connections are between two frames most of the time: what only a frame or message needs is made for it.
        self._head: bytearray | None = None
        self._mask = b""
        self._fin = False
        self._message: Gathering | None = None
        self._opcode = _TEXT
        self._decoder: zlib._Decompress | None = None
        self._tail = self._rest = b""

    def receive(self, data: bytes, start: int = 0) -> list[ClientFrame]:
        """Take bytes of the client, from *start* on, and a step of them apart. Look at ``has_news`` afterwards.

        Returns:
            What is complete, in order. Nothing comes after a Close or a failure.
        """
        if self.unparsed:
            self._keep(self._rest[-self.unparsed :] + data, 0)
            return []
        frames: list[ClientFrame] = []
        if self._between:
            end = len(data)
            for _ in _STEP:
                if end - start < _HEAD_BYTES:
                    break
                first, length = data[start], data[start + 1] - _MASKED
                if first != _WHOLE_TEXT and first != _WHOLE_BINARY:
                    break
                body = start + _HEAD_BYTES
                if length == 126:
                    length = data[start + 2] << 8 | data[start + 3]
                    body += 2
                elif not 0 <= length < 126:
                    break  # not masked, or longer than 16 bits can say
                stop = body + length
                if stop > end or length > self._max_message_bytes:
                    break
                payload = apply_mask(data[body:stop], data[body - 4 : body])
                if first == _WHOLE_BINARY:
                    frames.append((_BINARY, payload))
                else:
                    if not payload.isascii():
                        try:
                            payload.decode()
                        except UnicodeDecodeError:
                            break  # the other road says where, and what to do
                    frames.append((_TEXT, payload))
                start = stop
            if start == end:
                return frames
        if not self._is_over:
            self.has_news = True
            try:
                start = self._read(data, start, frames)
            except ClientError as error:
                self.failure = error
                self.give_up()
            self._between = self._message is None and self._head is None and not self._is_over
            if start < len(data) and not self._is_over:
                self._keep(data, start)
        return frames

    def put_off(self, data: bytes) -> None:
        """Take bytes of the client, and leave them unparsed: as ``receive`` would what is more than a step."""
        if not self._is_over:
            self._keep(self._rest[-self.unparsed :] + data if self.unparsed else data, 0)

    def go_on(self) -> list[ClientFrame]:
        """Take another step of what is unparsed apart, as ``receive`` does."""
        data, self._rest = self._rest, b""
        start, self.unparsed = len(data) - self.unparsed, 0
        self.has_news = True
        return self.receive(data, start)

    def _keep(self, data: bytes, start: int) -> None:
        self._rest, self.unparsed = data, len(data) - start
        self.has_news = True

    def give_up(self) -> None:
        """Look at nothing more of what the client sends, and forget what is not finished."""
        self._is_over = self.has_news = True
        self._between = False
        self._head = self._message = self._decoder = None
        self._rest = b""
        self.held = self.left = self.unparsed = 0

    def _read(self, data: bytes, start: int, frames: list[ClientFrame]) -> int:
        """Take *data* from *start* on apart, as far as a step goes in which *frames* came before.

        Returns:
            Where it stopped.

        Raises:
            ClientError: There is something wrong in it. What was complete before is in *frames*.
        """
        end, budget = len(data), STEP_FRAMES - len(frames)
        while start < end and budget > 0 and not self._is_over:
            if self.left:
                stop = min(start + self.left, end)
                if self._decoder is not None:
                    stop = min(stop, start + _DEFLATED_BYTES)
                used, cost = self._take_payload(data[start:stop] if stop - start < end else data, budget)
                budget -= cost
                self.left -= used
                start += used
                if not self.left:
                    self._end_frame(frames)
            else:
                budget -= 1
                start = self._take_head(data, start, frames)
        return start

    # --- heads and control frames ---

    def _take_head(self, data: bytes, start: int, frames: list[ClientFrame]) -> int:
        """Go on with a frame's head, to which the whole of a control frame belongs; returns where *data* goes on."""
        head = self._head
        if head is None:
            self._head = head = bytearray()
        wanted = 2
        while True:
            if len(head) < wanted:
                piece = data[start : start + wanted - len(head)]
                head += piece
                start += len(piece)
                if len(head) < wanted:
                    return start
            known, wanted = wanted, self._head_bytes(head)
            if known == wanted:
                break
        self._head = None
        opcode = _OPCODES[head[0] & _OPCODE]
        if opcode & _CONTROL:
            length = head[1] & _LENGTH
            mask_at = len(head) - length - 4
            payload = apply_mask(bytes(head[mask_at + 4 :]), bytes(head[mask_at : mask_at + 4]))
            if opcode is _PING:
                self.pongs.append(pong_frame(payload))
            elif opcode is _CLOSE:
                frames.append((_CLOSE, payload))
                self.give_up()  # a Close may come between two fragments (RFC 6455 5.4)
        else:
            self._begin_frame(head, opcode, frames)
        return start

    def _head_bytes(self, head: bytearray) -> int:
        """Bytes of the head, as far as *head*, which has two bytes at least, tells; checks it meanwhile."""
        first, length = head[0], head[1] & _LENGTH
        opcode = _OPCODES.get(first & _OPCODE)
        if opcode is None:
            raise ClientError(PROTOCOL_ERROR, f"unknown opcode {first & _OPCODE}")
        if first & _RSV2_AND_3:
            raise ClientError(PROTOCOL_ERROR, "reserved bits 2 and 3 must be 0")
        if first & _RSV1 and (not self._inflate_bits or opcode is _CONT or opcode & _CONTROL):
            raise ClientError(
                PROTOCOL_ERROR,
                "reserved bit 1 must be 0 here"
                if self._inflate_bits
                else "reserved bit 1 must be 0: compression was not negotiated",
            )
        if not head[1] & _MASKED:
            raise ClientError(PROTOCOL_ERROR, "a client's frames must be masked")
        if opcode & _CONTROL:
            if length > _MAX_CONTROL_BYTES:
                raise ClientError(PROTOCOL_ERROR, "a control frame of more than 125 bytes")
            if not first & _FIN:
                raise ClientError(PROTOCOL_ERROR, "a fragmented control frame")
            return 2 + 4 + length
        if opcode is _CONT:
            if self._message is None:
                raise ClientError(PROTOCOL_ERROR, "a continuation frame of no message")
        elif self._message is not None:
            raise ClientError(PROTOCOL_ERROR, "a new message before the end of a fragmented one")
        return 2 + (2 if length == 126 else 8 if length == 127 else 0) + 4

    # --- data frames ---

    def _begin_frame(self, head: bytearray, opcode: Opcode, frames: list[ClientFrame]) -> None:
        length = head[1] & _LENGTH
        if length > _MAX_CONTROL_BYTES:
            length = int.from_bytes(head[2:-4])
            if length >> 63:
                raise ClientError(PROTOCOL_ERROR, "a frame's length has 63 bits at most")
        size = self.held + length
        if not (self._decoder or head[0] & _RSV1):
            limit = self._max_message_bytes
        else:
            limit = self._max_message_bytes + (self._max_message_bytes >> 10) + 64  # deflate may add so much
            size = length
        if size > limit:
            raise self._too_big(f"{size:,} bytes")
        self._mask = bytes(head[-4:])
        self._fin = bool(head[0] & _FIN)
        if self._message is None:
            self._message = Gathering(self._watch)
            self._opcode = opcode
            if head[0] & _RSV1:
                self._decoder = zlib.decompressobj(wbits=-self._inflate_bits)
        self.left = length
        if not length:
            self._end_frame(frames)

    def _too_big(self, size: str) -> ClientError:
        return ClientError(MESSAGE_TOO_BIG, f"a message of {size} is larger than {self._max_message_bytes:,} bytes")

    def _take_payload(self, piece: bytes, budget: int) -> tuple[int, int]:
        """Go on with a frame's payload; returns how much of *piece* was used, and what of *budget*."""
        mask, used = self._mask, len(piece)
        plain, cost = apply_mask(piece, mask), 1 + used // _PLAIN_BYTES
        if self._decoder is not None:
            plain, left = self._inflate(plain, budget * _INFLATED_BYTES)
            used -= left
            cost += len(plain) // _INFLATED_BYTES
        turn = used & 3
        if turn:
            self._mask = mask[turn:] + mask[:turn]
        self._add(plain)
        return used, cost

    def _inflate(self, piece: bytes, limit: int) -> tuple[bytes, int]:
        """Inflate *piece* to at most *limit* bytes; returns them, and how much of *piece* is left for next time."""
        decoder = self._decoder
        assert decoder is not None
        room = self._max_message_bytes - self.held
        try:
            plain = decoder.decompress(piece, min(room + 1, limit))  # whatever a bomb would make of it
        except zlib.error as error:
            raise ClientError(PROTOCOL_ERROR, "invalid compressed data") from error
        if len(plain) > room:
            raise self._too_big("more, inflated,")
        return plain, len(decoder.unconsumed_tail)

    def _add(self, plain: bytes) -> None:
        message = self._message
        assert message is not None
        if self._opcode is _TEXT:
            self._check_text(plain, message)
        message.add(plain)
        self.held = message.size

    def _check_text(self, plain: bytes, message: Gathering) -> None:
        """Text must be UTF-8 (RFC 6455 8.1), whatever pieces it comes in."""
        tail = self._tail
        if tail:
            plain = tail + plain
        elif plain.isascii():
            message.add_text(len(plain), Form.ASCII)
            return
        at = self.held - len(tail)
        try:
            text, read = utf_8_decode(plain, "strict", False)
        except UnicodeDecodeError as error:
            raise _not_utf_8(error.reason, at + error.start) from error
        self._tail = tail = plain[read:]  # the beginning of a character
        if tail[:1] == b"\xed" and tail[1:] >= b"\xa0":
            # Of a surrogate: the codec would wait for its end, since it can be told to let surrogates pass.
            raise _not_utf_8("a surrogate", at + read)
        if text:
            message.add_text(len(text), form_of(text))

    def _end_frame(self, frames: list[ClientFrame]) -> None:
        if not self._fin:
            return
        if self._decoder is not None:
            # What the decoder may still keep is the end of one match, 258 bytes.
            self._add(self._inflate(_EMPTY_BLOCK, _INFLATED_BYTES)[0])
            self._decoder = None
        if self._tail:
            self._tail = b""
            raise _not_utf_8("an unfinished character", self.held - 1)
        message, self._message = self._message, None
        assert message is not None
        self.held = 0
        frames.append((self._opcode, message.whole()))


def _not_utf_8(what: str, at: int) -> ClientError:
    return ClientError(INVALID_DATA, f"a text message is not UTF-8: {what} at byte {at:,}")


def close_of(body: bytes, *, strict: bool) -> tuple[int, str]:
    """Code and reason of a client's Close; 1005 and nothing for one without.

    Args:
        body: What is in the frame.
        strict: Hold it to RFC 6455 7.4. Once our own Close is out nothing is left to be failed: then the client's ends
            the connection whatever is in it, be it the echo of a code that the object has sent.

    Raises:
        ClientError: It is strict, and the body is of 1 byte, has a code that may not be sent, or a reason that is not
            UTF-8.
    """
    if len(body) < 2:
        if body and strict:
            raise ClientError(PROTOCOL_ERROR, "a Close with half a code")
        return NO_STATUS, ""
    code = int.from_bytes(body[:2])
    if strict and not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise ClientError(PROTOCOL_ERROR, f"a Close with the code {code}, which may not be sent (RFC 6455 7.4)")
    try:
        return code, body[2:].decode("utf-8", "strict" if strict else "replace")
    except UnicodeDecodeError as error:
        raise ClientError(INVALID_DATA, f"a close reason is not UTF-8: {error.reason} at byte {error.start}") from error
