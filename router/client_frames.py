"""The frames of one client, read by the ``websockets`` package, with a short cut for the plain ones.

Nearly all frames are whole messages of less than 64 KiB, in one piece with nothing before them. Going through the
package's parser costs about 4 µs each, most of it for what such a frame does not have. So whole plain frames that
begin where the parser expects a frame are taken apart here; anything else (control frames, fragments, compression,
frames in pieces, all that is wrong) goes through the parser, which keeps the state of the connection. What comes out
is the same whichever way a frame took.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from typing import cast

from websockets.extensions import Extension
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.streams import StreamReader

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without the compiled part
    from websockets.utils import apply_mask

log = logging.getLogger("roost.router.websocket")
# Its records would say again, per connection, what ours say.
log.setLevel(logging.ERROR)

ClientFrame = tuple[Opcode, bytes, bool]
"""Opcode, payload, and whether the message ends with it."""

_TEXT, _BINARY, _OPEN = Opcode.TEXT, Opcode.BINARY, State.OPEN
_WHOLE_TEXT, _WHOLE_BINARY = 0x81, 0x82
_MASKED = 0x80
_HEAD_BYTES = 6
"""Of a masked frame of less than 126 bytes: two bytes and the mask (RFC 6455 5.2)."""


class _Reader(StreamReader):
    """Knows whether the parser waits for the first byte of a frame."""

    def __init__(self) -> None:
        super().__init__()
        self.between_frames = False

    def at_eof(self) -> Generator[None, None, bool]:
        # The parser asks this before each frame, and nowhere else.
        self.between_frames = True
        ended = yield from super().at_eof()
        self.between_frames = False
        return ended


class ClientFrames(ServerProtocol):
    """The protocol of an open connection.

    Args:
        max_message_bytes: Limit of a message, all fragments together.
        extensions: What was agreed on in the handshake.
    """

    def __init__(self, max_message_bytes: int, extensions: Sequence[Extension] = ()) -> None:
        super().__init__(state=_OPEN, max_size=max_message_bytes, logger=log)
        self.extensions = list(extensions)
        self._max_message_bytes = max_message_bytes
        # The parser that the constructor has started reads from the plain reader.
        self.parser.close()
        self._reader = self.reader = _Reader()
        self.parser = self.parse()
        next(self.parser)

    def receive(self, data: bytes) -> list[ClientFrame]:
        """Take bytes of the client. As after ``receive_data``, ``writes`` may hold an answer.

        Returns:
            The frames that are complete, in order; pings, pongs and Close among them.
        """
        frames: list[ClientFrame] = []
        if self._reader.between_frames and self._state is _OPEN and self.current_size is None and not self.extensions:
            start, end = 0, len(data)
            while end - start >= _HEAD_BYTES:
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
                frames.append((_TEXT if first == _WHOLE_TEXT else _BINARY, payload, True))
                start = stop
            if start == end:
                return frames
            if start:
                data = data[start:]
        self.receive_data(data)
        if self.events:
            events = cast("list[Frame]", self.events_received())  # after the handshake there are only frames
            frames += [(frame.opcode, cast(bytes, frame.data), frame.fin) for frame in events]
        return frames
