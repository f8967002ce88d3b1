"""What a ``fetch`` has returned, turned into what goes to the router.

Mistakes with pairs are answered as the reference answers them: a client end that was itself accepted, or a server end
in the client end's place, gives a 101 and then the end of the connection; a pair that nobody accepted gives a
connection whose messages go nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...common.errors import AlreadyAccepted
from ...common.header_fields import CONNECTIONS_OWN
from ...common.runtime import pages
from ...common.wire.records import AcceptMode, HttpRequest, HttpResponse
from ..api.request import Response
from ..api.web_socket import WebSocket, WebSocketPair
from .misuse import Mistake
from .sockets import Socket

SHOWN_CHARS = 200
"""Characters of a URL in a sentence for people."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a request.

    Attributes:
        response: The record for the router.
        socket: The connection that it opens; ``None`` if it opens none that the object holds.
        protocol: The subprotocol that it names, empty if none.
        broken: End the connection behind the 101: the wrong end was returned.
        mistake: What is to be said about it, to whoever writes the code.
    """

    response: HttpResponse
    socket: Socket | None = None
    protocol: str = ""
    broken: bool = False
    mistake: Mistake | None = None


def answer_of(owner: object, request: HttpRequest, result: Any) -> Answer:
    """What *owner* answers to *request* by returning *result*.

    Raises:
        TypeError: *result* is no Response, or one of a class that says what a Response cannot be, or opens a WebSocket
            that another object has accepted, or both ends of whose pair are accepted.
        InvalidResponse: It is of a class that says what a Response cannot be.
        AlreadyAccepted: Its WebSocket was in a Response before, or was dropped since it was in none when the request
            that it was accepted in ended.
    """
    if not isinstance(result, Response):
        raise TypeError(f"fetch must return a Response, got {result!r:.80}: {_instead_of(result)}")
    response: Response = result
    if type(result) is not Response:
        # A class of the user's may say anything, and something else each time: what it says now is checked and holds.
        response = Response(result.body, result.status, list(result.headers.pairs()), result.web_socket)
    headers = [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in response.headers.pairs()
        if name.lower() not in CONNECTIONS_OWN
    ]
    handle = response.web_socket
    if handle is None:
        return Answer(HttpResponse(request.request, response.status, AcceptMode.PLAIN, headers, response.body))
    if not request.connection:
        return Answer(_upgrade_required(request))
    if handle.used or handle.other is None:
        raise AlreadyAccepted(
            "the WebSocket of this Response was in a Response before: make a pair and a Response for each request"
        )
    socket = handle.other.socket
    if socket is not None and handle.socket is not None and not handle.socket.hibernatable:
        raise TypeError(
            "the WebSocket of this Response is used inside the object: both ends of its pair were accepted. Return a "
            "client end that was not accepted"
        )
    if socket is not None and socket.owner is not owner:
        raise TypeError("fetch returned a WebSocket whose other end was accepted by another object")
    if socket is not None and socket.gone:
        raise AlreadyAccepted("the WebSocket of this Response was dropped: the fetch that accepted it has ended before")
    protocol = response.headers.get("sec-websocket-protocol", "")
    wrong_end = handle.is_server_end or handle.socket is not None
    handle.mark_used()
    if wrong_end or socket is None:
        opened = HttpResponse(request.request, 101, AcceptMode.UNACCEPTED, headers)
        mistake = (
            Mistake.SERVER_END_RETURNED
            if handle.is_server_end
            else Mistake.CLIENT_END_ACCEPTED
            if wrong_end
            else Mistake.NOT_ACCEPTED
        )
        return Answer(opened, protocol=protocol, broken=wrong_end, mistake=mistake)
    assert isinstance(socket, Socket)
    mode = AcceptMode.HIBERNATABLE if socket.hibernatable else AcceptMode.STANDARD
    opened = HttpResponse(request.request, 101, mode, headers, b"", socket.ordinal, socket.tags, socket.attachment)
    return Answer(opened, socket, protocol)


def _instead_of(result: Any) -> str:
    """What a ``fetch`` should have returned."""
    if result is None:
        return "a path through it has no `return`"
    if isinstance(result, str | bytes | bytearray):
        return "return Response(text)"
    if isinstance(result, dict | list):
        return "return Response.json(value)"
    if isinstance(result, tuple):
        return "return Response(body, status=…, headers=…)"
    if isinstance(result, WebSocket | WebSocketPair):
        return "return Response(status=101, web_socket=client)"
    if hasattr(result, "status_code"):
        return "that is another library's; import Response from roost"
    return "import Response from roost"


def refusal(request: HttpRequest, status: int, sentence: str) -> HttpResponse:
    """The answer of the runtime itself to *request*, in place of one of the object's (see ``common.pages``)."""
    accept = [value for name, value in request.headers if name == b"accept"]
    content_type, body = pages.refusal(status, sentence, accept)
    return HttpResponse(request.request, status, AcceptMode.PLAIN, [content_type], body)


def _upgrade_required(request: HttpRequest) -> HttpResponse:
    """A browser's address bar, or curl, has asked for what is a WebSocket: its own mistake, and no error of the class,
    which need not look at the headers. The router adds to what an upgrade is wanted."""
    address = "ws" + request.url.removeprefix("http")
    shown = address if len(address) <= SHOWN_CHARS else address[:SHOWN_CHARS] + "…"
    return refusal(
        request,
        426,
        "this address is a WebSocket, and the request has no header 'Upgrade: websocket': open it with a WebSocket "
        f'client, in JavaScript new WebSocket("{shown}")',
    )
