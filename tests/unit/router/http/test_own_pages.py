"""What the router answers itself."""

from __future__ import annotations

import pytest

from roost.common.cluster.cluster_map import ClusterMap
from tests.unit.router.http.rig import (
    UPGRADE,
    Rig,
    body,
    status,
)


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize("path", [b"/", b"/?x", b"/healthz"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_own_pages(rig: Rig, path: bytes, method: bytes) -> None:
    answer = rig.client().send(method + b" " + path + b" HTTP/1.1\r\nHost: h\r\n\r\n")
    assert status(answer) == 200
    assert (body(answer) == b"") == (method == b"HEAD")
    assert rig.asked() == []


@pytest.mark.parametrize(
    "line",
    [b"OPTIONS / HTTP/1.0", b"OPTIONS /healthz HTTP/1.0", b"OPTIONS * HTTP/1.1\r\nHost: h", b"OPTIONS * HTTP/1.0"],
)
def test_own_pages_say_what_they_allow(rig: Rig, line: bytes) -> None:
    """``OPTIONS / HTTP/1.0`` is how HAProxy looks whether a server lives, unless told otherwise."""
    answer = rig.client().send(line + b"\r\n\r\n")
    assert status(answer) == 204
    assert b"\r\nallow: GET, HEAD, OPTIONS\r\n" in answer
    assert body(answer) == b""
    assert b"content-length" not in answer
    assert rig.asked() == []


def test_own_pages_can_only_be_read(rig: Rig) -> None:
    answer = rig.client().send(b"DELETE / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert status(answer) == 405
    assert b"allow: GET, HEAD, OPTIONS" in answer
    assert status(rig.client().send(UPGRADE.replace(b"/chat-room/lobby?x=1", b"/"))) == 400


def test_health_before_there_is_an_owner() -> None:
    rig = Rig()
    rig.forwarding.take_map(ClusterMap(2))
    for method in (b"GET", b"HEAD", b"OPTIONS"):
        assert status(rig.client().send(method + b" /healthz HTTP/1.1\r\nHost: h\r\n\r\n")) == 503
