"""The URL and the opening handshake."""

from __future__ import annotations

import pytest
from websockets.server import ServerProtocol

from roost.common.errors import ConfigError
from roost.deploy.loadtest.target import HandshakeRefused, Target


@pytest.mark.parametrize(
    ("url", "host", "port", "secure", "path"),
    [
        ("ws://127.0.0.1:8787/room/{object}?a=1", "127.0.0.1", 8787, False, "/room/{object}?a=1"),
        ("wss://example.org", "example.org", 443, True, "/"),
        ("ws://[::1]/x", "::1", 80, False, "/x"),
        ("ws://h/ein raum/ü", "h", 80, False, "/ein%20raum/%C3%BC"),
        ("ws://h/a%20b", "h", 80, False, "/a%20b"),
    ],
)
def test_urls(url: str, host: str, port: int, secure: bool, path: str) -> None:
    target = Target.of(url)
    assert (target.host, target.port, target.secure, target.path) == (host, port, secure, path)


@pytest.mark.parametrize(
    "url", ["http://h/", "ws:///x", "h:80", "ws://h:99999/", "ws://u:p@h/", "ws://h/#x", "ws://{object}/"]
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ConfigError):
        Target.of(url)


@pytest.mark.parametrize("line", ["x", "a b: c", "X: a\r\nY: b", "Sec-WebSocket-Key: x", "Upgrade: y", "X: ü"])
def test_headers_that_cannot_be(line: str) -> None:
    with pytest.raises(ConfigError):
        Target.of("ws://h/", (line,))


def answer(target: Target, **changes: str) -> tuple[bytes, bytes]:
    """What a real server says to our request, and what we expect of it."""
    request, accept = target.request(4, bytes(16))
    server = ServerProtocol(subprotocols=["chat"] if target.protocols else None)  # type: ignore[list-item]
    server.receive_data(request)
    (event,) = server.events_received()
    response = server.accept(event)  # type: ignore[arg-type]
    for name, value in changes.items():
        name = name.replace("_", "-")
        if name in response.headers:
            del response.headers[name]
        if value:
            response.headers[name] = value
    return response.serialize().removesuffix(b"\r\n\r\n"), accept


def test_a_server_takes_our_request_and_we_its_answer() -> None:
    target = Target.of("ws://example.org:81/r/{object}/x", ("Origin: https://a.b", "Sec-WebSocket-Protocol: chat, x"))
    request, _ = target.request(4, bytes(16))
    assert request.startswith(b"GET /r/4/x HTTP/1.1\r\nHost: example.org:81\r\nOrigin: https://a.b\r\n")
    target.check(*answer(target))


def test_the_host_may_be_another() -> None:
    request, _ = Target.of("ws://127.0.0.1/", ("Host: example.org",)).request(0, bytes(16))
    assert request.count(b"Host:") == 1
    assert b"Host: example.org\r\n" in request


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Sec_WebSocket_Accept": "AAAA"}, "wrong Sec-WebSocket-Accept"),
        ({"Sec_WebSocket_Accept": ""}, "wrong Sec-WebSocket-Accept"),
        ({"Upgrade": ""}, "without the upgrade"),
        ({"Connection": "close"}, "without the upgrade"),
        ({"Sec_WebSocket_Extensions": "permessage-deflate"}, "extension"),
        ({"Sec_WebSocket_Protocol": "other"}, "subprotocol"),
    ],
)
def test_an_upgrade_that_is_none_is_refused(changes: dict[str, str], reason: str) -> None:
    target = Target.of("ws://h/")
    with pytest.raises(HandshakeRefused, match=reason):
        target.check(*answer(target, **changes))


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nX: y", "HTTP 503"),
        (b"SSH-2.0-x", "no HTTP answer"),
        (b"", "no HTTP answer"),
    ],
)
def test_another_answer_is_counted_by_its_status(head: bytes, reason: str) -> None:
    with pytest.raises(HandshakeRefused) as caught:
        Target.of("ws://h/").check(head, b"")
    assert caught.value.reason == reason
