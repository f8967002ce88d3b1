"""The router's own pages: what it answers itself, at paths that are no object's."""

from __future__ import annotations

from typing import NamedTuple

from ...common.errors import BadRequest
from ...common.limits import SLOTS
from ...common.wire.records import Headers
from ..formats import page
from ..formats.http import ALLOWED, Refusal, RequestHead
from ..formats.urls import path_of
from .front import Front

OWN_PATHS = ("/", "/healthz", "*")
"""Those paths; ``*`` is the server as a whole, about which OPTIONS can ask."""
_ALLOW = (b"allow", ALLOWED)


class OwnPage(NamedTuple):
    """An answer."""

    status: int
    headers: Headers
    body: bytes


def own_page(head: RequestHead, front: Front) -> OwnPage | None:
    """The answer to a request for a page of the router's own; ``None`` if the request is for an object.

    Raises:
        RequestError: The page is there, and cannot be asked for that way.
    """
    path = path_of(head.target)
    if path not in OWN_PATHS:
        return None
    if head.method not in ("GET", "HEAD", "OPTIONS"):
        raise Refusal(405, f"{path} can be read with GET, HEAD and OPTIONS only", [_ALLOW])
    if head.wants_websocket:
        raise BadRequest(f"{path} is no object: a WebSocket is opened at /<namespace>/<name>")
    if path == "/healthz":
        status, body = page.health(slots_attached=front.forwarding.attached, slots=SLOTS, draining=front.ending)
        if status == 200 and head.method == "OPTIONS":
            status, body = 204, b""
        return OwnPage(status, [page.JSON, _ALLOW, (b"cache-control", b"no-store")], body)
    if head.method == "OPTIONS":
        return OwnPage(204, [_ALLOW], b"")
    return OwnPage(200, [page.HTML], page.home(front.namespaces, starting=not front.has_shards))
