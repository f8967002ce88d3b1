"""The admin API: whom it refuses, and what it says to the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from starlette.datastructures import Headers

from roost.deploy.admin import make_app, refusal
from tests.unit.deploy.test_status import PICTURE


class Api:
    """Calls the ASGI app as a server would."""

    def __init__(self) -> None:
        self.downs = 0
        self._app = make_app(status=lambda: PICTURE, down=self._down, token="secret")

    def _down(self) -> None:
        self.downs += 1

    async def call(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
        given = {"host": "127.0.0.1:8788", **(headers or {})}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "scheme": "http",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent).decode()


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.mark.parametrize("host", ["127.0.0.1:8788", "127.0.0.1", "localhost:8788", "LocalHost", "[::1]:8788"])
def test_local_hosts_are_served(host: str) -> None:
    assert refusal(Headers({"host": host})) is None


@pytest.mark.parametrize("host", ["", "example.com", "example.com:8788", "127.0.0.1.example.com", "localhost:8788:1"])
def test_other_hosts_are_refused(host: str) -> None:
    """A page of a site whose name was made to point here (DNS rebinding) sends that name."""
    assert "is not" in str(refusal(Headers({"host": host})))


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://example.com"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:8787"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_pages_of_other_sites_are_refused(api: Api, headers: dict[str, str]) -> None:
    for method, path in (("POST", "/down"), ("GET", "/status")):
        status, body = await api.call(method, path, {"authorization": "Bearer secret", **headers})
        assert (status, body) == (403, "this API is not for pages of other sites\n")
    assert api.downs == 0


async def test_its_own_pages_and_the_address_bar_are_served(api: Api) -> None:
    for headers in ({"origin": "http://127.0.0.1:8788", "sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}):
        assert (await api.call("GET", "/status", headers))[0] == 200


async def test_down_needs_the_token(api: Api) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "secret"}):
        assert (await api.call("POST", "/down", headers))[0] == 401
    assert (await api.call("GET", "/down", {"authorization": "Bearer secret"}))[0] == 405
    assert api.downs == 0
    assert (await api.call("POST", "/down", {"authorization": "Bearer secret"}))[0] == 202
    assert api.downs == 1


async def test_metrics_are_labelled_and_typed(api: Api) -> None:
    status, text = await api.call("GET", "/metrics")
    assert status == 200
    lines = text.splitlines()
    for line in (
        'roost_member_up{kind="router",member="router-1"} 1.0',
        'roost_member_up{kind="shard",member="shard-2"} 0.0',
        'roost_member_restarts_total{kind="shard",member="shard-1"} 2.0',
        'roost_slots{kind="shard",member="shard-1"} 4096.0',
        "# TYPE roost_connections gauge",
        'roost_connections{kind="router",member="router-1"} 1200.0',
        "# TYPE roost_messages_in_total counter",
        'roost_messages_in_total{kind="router",member="router-1"} 5000.0',
        "roost_map_version 5.0",
    ):
        assert line in lines
