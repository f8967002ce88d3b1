"""The admin API: whom it refuses, and what it says to the others."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
from starlette.datastructures import Headers

from roost.common.errors import ConfigError
from roost.deploy.plan.changes import Change, ChangeRefused, Outcome
from roost.deploy.plan.config import UpConfig
from roost.deploy.plan.scaling import Scaling
from roost.deploy.plan.staffing import Staff
from roost.deploy.report.status import ClusterStatus
from roost.deploy.supervisor.admin import MAX_BODY_BYTES, make_app, refusal
from tests.unit.deploy.report.test_status import PICTURE


class Api:
    """Calls the ASGI app as a server would."""

    def __init__(self) -> None:
        self.downs = 0
        self.asked: list[tuple[Any, ...]] = []
        self.change: Change | None = None
        self.refuses: Exception | None = None
        self._app = make_app(self, token="secret", now=time.monotonic)

    # What a supervisor does.

    def status(self) -> ClusterStatus:
        return PICTURE

    def ask_to_end(self) -> None:
        self.downs += 1

    async def scale(self, shards: int | None, routers: int | None) -> int:
        return self._begin("scale", shards, routers)

    async def reload(self, app: str | None, canary_s: float) -> int:
        return self._begin("reload", app, canary_s)

    def _begin(self, *words: Any) -> int:
        if self.refuses is not None:
            raise self.refuses
        self.asked.append(words)
        return 7

    def find_change(self, number: int) -> Change | None:
        return self.change if number == 7 else None

    async def post(self, path: str, body: str, token: str = "secret") -> tuple[int, str]:
        return await self.call("POST", path, {"authorization": f"Bearer {token}"}, body.encode())

    async def call(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, str]:
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
            return {"type": "http.request", "body": body, "more_body": False}

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


@pytest.mark.parametrize(
    ("method", "path", "code"), [("GET", "/", 404), ("GET", "/down", 405), ("POST", "/x\ny<", 404)]
)
async def test_what_there_is_not_is_answered_with_what_there_is(api: Api, method: str, path: str, code: int) -> None:
    status, text = await api.call(method, path)
    assert status == code
    assert f"no {method} {path!r}; there are GET /status, GET /metrics" in text
    assert text.count("\n") == 1


async def test_changes_need_the_token(api: Api) -> None:
    for path in ("/scale", "/reload"):
        assert (await api.post(path, "{}", token="wrong"))[0] == 401
        assert (await api.call("GET", path))[0] == 405
    assert api.asked == []


async def test_changes_begin_and_are_told_of(api: Api) -> None:
    for path, body, words in (
        ("/scale", '{"shards": 5}', ("scale", 5, None)),
        ("/scale", '{"routers": 2, "shards": null}', ("scale", None, 2)),
        ("/reload", "", ("reload", None, 2.0)),
        ("/reload", '{"app": "x.py", "canary_s": 0.5}', ("reload", "x.py", 0.5)),
    ):
        status, text = await api.post(path, body)
        assert (status, json.loads(text)) == (202, {"state": "changing", "change": 7})
        assert api.asked[-1] == words
    assert (await api.call("GET", "/changes/7"))[0] == 404
    api.change = Scaling(Staff.first(UpConfig(shards=2)), shards=3, routers=None, descriptors=1000)
    api.change.lines.append("starting shard-3")
    status, text = await api.call("GET", "/changes/7")
    found = json.loads(text)
    assert (status, found["lines"], found["done"]) == (200, ["starting shard-3"], False)
    api.change.outcome = Outcome("it cannot be", 72)
    found = json.loads((await api.call("GET", "/changes/7"))[1])
    assert (found["done"], found["sentence"], found["exit_code"]) == (True, "it cannot be", 72)
    assert (await api.call("GET", "/changes/8"))[0] == 404


async def test_why_a_change_cannot_begin(api: Api) -> None:
    for error, status in ((ChangeRefused("another one is under way"), 409), (ConfigError("too many"), 400)):
        api.refuses = error
        assert await api.post("/scale", "{}") == (status, f"{error}\n")


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("/scale", "{", "the request's body is no JSON"),
        ("/scale", "[]", "the request's body must be a JSON object"),
        ("/scale", '{"shards": "5"}', "shards must be a number that is not negative, got '5'"),
        ("/scale", '{"shards": true}', "shards must be a number that is not negative, got True"),
        ("/scale", '{"routers": 1.5}', "routers must be a number that is not negative, got 1.5"),
        ("/reload", '{"app": 5}', "app must be a string, got 5"),
        ("/reload", '{"canary_s": -1}', "canary_s must be a number that is not negative, got -1"),
        ("/reload", "[" * 60_000, "the request's body is nested too deeply"),
        ("/scale", '{"":' * 15_000, "the request's body is nested too deeply"),  # from Python 3.12 on 5,000 are read
        ("/scale", '{"shards": ' + "[" * 30_000 + "]" * 30_000 + "}", "the request's body is nested too deeply"),
        ("/scale", '{"shards": 1' + "0" * 5_000 + "}", "the request's body is no JSON"),
        ("/reload", '{"app": "a\\u0000b"}', "app must be a path or a module's name, which 'a\\x00b' cannot be"),
        ("/reload", '{"app": "\\ud800"}', "app must be a path or a module's name, which '\\ud800' cannot be"),
        ("/reload", '{"app": "a\\u001b[2J"}', "app must be a path or a module's name"),
        ("/reload", " " * (MAX_BODY_BYTES + 1), "the request's body is larger than"),
    ],
)
async def test_a_wrong_body_is_named(api: Api, path: str, body: str, sentence: str) -> None:
    status, text = await api.post(path, body)
    assert status == 400
    assert text.startswith(sentence)
    assert api.asked == []


@pytest.mark.parametrize("number", ["9" * 5_000, "-1", "7x", "%00", "\u0667"])
async def test_a_change_whose_number_is_none_is_not_found(api: Api, number: str) -> None:
    status, _ = await api.call("GET", f"/changes/{number}")
    assert status == 404


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
        "# HELP roost_connections WebSockets that are open",
        "# HELP roost_messages_in_total Messages taken from clients",
        "# TYPE roost_longest_collection_us gauge",
        'roost_connections{kind="router",member="router-1"} 1200.0',
        "# TYPE roost_messages_in_total counter",
        'roost_messages_in_total{kind="router",member="router-1"} 5000.0',
        'roost_member_seated{kind="shard",member="shard-1",seat="shard-1"} 1.0',
        "roost_map_version 5.0",
        "roost_slots_in_transit 12.0",
        "roost_change_under_way 1.0",
    ):
        assert line in lines
