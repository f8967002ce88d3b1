"""The opening handshake of a WebSocket (RFC 6455 4.2), in two halves.

The whole check is made before the object is asked, so that user code only sees upgrades that can succeed; the 101 is
sent when the object has accepted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from websockets.datastructures import Headers as WebSocketHeaders
from websockets.exceptions import InvalidHeader, InvalidMethod, InvalidProtocol, InvalidUpgrade
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from ...common.wire.records import Headers
from ..formats.compression import Encoder, encoder_for
from ..formats.http import HANDSHAKE_LISTS, HANDSHAKE_SINGLES, BadResponseHeader, Refusal, RequestHead, checked_headers
from .client_frames import ClientFrames

log = logging.getLogger("roost.router.websocket")
# The package's records would say again, per connection, what ours say.
log.setLevel(logging.ERROR)

_OURS = frozenset(
    (b"sec-websocket-accept", b"sec-websocket-extensions", b"sec-websocket-key", b"sec-websocket-version")
)

_VERSION = b"13"
"""Of several versions ours counts; two keys contradict each other."""

_DEFLATE = ServerPerMessageDeflateFactory(
    # Without context of ours one compressed frame serves all clients (``compression``). Without the client's, an idle
    # connection does not keep a decompressor with a window of up to 32 kB.
    server_no_context_takeover=True,
    client_no_context_takeover=True,
)


OFFER = ((b"upgrade", b"websocket"), (b"connection", b"upgrade"))
"""What a 426 says of the protocol that it asks for (RFC 9110 15.5.22)."""
_UPGRADE_REQUIRED = (*OFFER, (b"sec-websocket-version", b"13"))
"""And of the version that we do speak (RFC 6455 4.4)."""


class Handshake:
    """A handshake that is in order and waits for the object's answer.

    Attributes:
        protocol: What reads the client's frames.
        subprotocol: What the object chose; empty before ``complete`` and without one.
        encoder: What compresses messages to the client; ``None`` without compression.
    """

    __slots__ = ("_response", "encoder", "protocol", "subprotocol")

    def __init__(
        self,
        checked: ServerProtocol,
        response: Response,
        max_message_bytes: int,
        watch: Callable[[memoryview], object] | None,
    ) -> None:
        self.subprotocol = ""
        self.encoder: Encoder | None = None
        inflate_bits = 0
        for extension in checked.extensions:
            if isinstance(extension, PerMessageDeflate):
                self.encoder = encoder_for(extension.local_max_window_bits)
                inflate_bits = extension.remote_max_window_bits
        self.protocol = ClientFrames(max_message_bytes, inflate_bits, watch)
        self._response = response

    def complete(self, headers: Headers) -> bytes:
        """The object has accepted: make the 101.

        Args:
            headers: Header fields of the object's response. ``Sec-WebSocket-Protocol`` is sent as set, whatever the
                client offered.

        Returns:
            The bytes of the 101.

        Raises:
            BadResponseHeader: One of *headers* cannot be sent, or there are several subprotocols.
        """
        checked = [(name, value) for name, value in checked_headers(headers) if name.lower() not in _OURS]
        chosen = [value for name, value in checked if name.lower() == b"sec-websocket-protocol"]
        if len(chosen) > 1:
            raise BadResponseHeader("a WebSocket has one subprotocol, the response sets Sec-WebSocket-Protocol twice")
        for name, value in checked:
            self._response.headers[name.decode("ascii")] = value.decode("latin-1")
        if chosen:
            self.subprotocol = chosen[0].decode("latin-1")
        return self._response.serialize()


def begin(
    head: RequestHead,
    version: str,
    *,
    max_message_bytes: int,
    compression: bool,
    watch: Callable[[memoryview], object] | None = None,
) -> Handshake:
    """Check a request that asks for a WebSocket.

    Args:
        head: The request's head.
        version: Its HTTP version.
        max_message_bytes: Limit of an incoming message, all its fragments together.
        compression: Whether permessage-deflate may be agreed to.
        watch: Told of each piece of a large message (``common.discards``).

    Raises:
        Refusal: It is no valid handshake; the status is 400, 426 or 505.
    """
    if head.has_body:
        raise Refusal(400, "a WebSocket handshake may not have a body")
    protocol = ServerProtocol(
        extensions=[_DEFLATE] if compression else None,
        logger=log,
    )
    response = protocol.accept(Request(head.target, _headers(head), head.method, f"HTTP/{version}"))
    if response.status_code != 101:
        raise _refusal(protocol.handshake_exc, response.status_code)
    return Handshake(protocol, response, max_message_bytes, watch)


def _headers(head: RequestHead) -> WebSocketHeaders:
    """The header fields as ``websockets`` reads them. It refuses a line of a list without elements, which counts for
    nothing (RFC 9110 5.6.1), and whatever is said of a single value in several lines."""
    headers = WebSocketHeaders()
    singles: dict[bytes, list[bytes]] = {}
    for name, value in head.headers:
        if name in HANDSHAKE_SINGLES:
            elements = (element.strip(b" \t") for element in value.split(b","))
            singles.setdefault(name, []).extend(element for element in elements if element)
        elif name not in HANDSHAKE_LISTS or value.strip(b", \t"):
            headers[name.decode("latin-1")] = value.decode("latin-1")
    for name, values in singles.items():
        for value in [_VERSION] if name == b"sec-websocket-version" and _VERSION in values else values:
            headers[name.decode("latin-1")] = value.decode("latin-1")
    return headers


def _refusal(error: Exception | None, status: int) -> Refusal:
    sentence = f"this is no valid WebSocket handshake: {error}"
    if error is not None and error.__cause__ is not None:
        sentence += f": {error.__cause__}"
    if isinstance(error, InvalidMethod):
        return Refusal(400, "a WebSocket handshake must be a GET request")
    if isinstance(error, InvalidHeader) and error.name == "Sec-WebSocket-Version":
        return Refusal(426, f"{sentence}; this server speaks version 13", _UPGRADE_REQUIRED)
    if isinstance(error, InvalidUpgrade):
        return Refusal(426, sentence, _UPGRADE_REQUIRED)
    if isinstance(error, InvalidProtocol):
        return Refusal(505, "a WebSocket handshake must be an HTTP/1.1 request")
    return Refusal(status, sentence)
