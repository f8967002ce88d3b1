"""The admin API, on 127.0.0.1 within the supervisor.

::

    GET  /status        the cluster as JSON
    GET  /metrics       the same for Prometheus
    GET  /changes/{n}   how far a change is: {"title", "lines", "done", "sentence", "exit_code"}
    POST /scale         {"shards": N, "routers": M}, either may be missing: begin to change the number of members
    POST /reload        {"app": "…", "canary_s": 2}, both may be missing: begin to give all shards new code
    POST /down          drain and end the cluster

Each ``POST`` needs the token from the run folder and returns at once; the first two answer with the number of the
change, or with 409 and the reason when it cannot begin now, 400 when it never could.

A port on 127.0.0.1 is open to every program and to every web page on this machine. Pages of other sites are kept out
by the checks of ``refusal``, also those that had a name of theirs point here (DNS rebinding); other users of the
machine are kept from the ``POST`` requests by a token in a file that only the owner can read.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ...common.errors import RoostError
from ...common.machine.counters import Kind
from ..plan.changes import Change, ChangeRefused
from ..plan.reloading import CANARY_S
from ..report.status import ClusterStatus
from .sparing import Sparing

_CHANGE_NUMBER = re.compile(r"[0-9]{1,9}")
_LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})


def refusal(headers: Headers) -> str | None:
    """Why a request may not be served, judged by what a browser says about it; ``None``: it may."""
    host = headers.get("host", "")
    if _name_of(host) not in _LOCAL_NAMES:
        return f"this API is local; the Host {host[:100]!r} is not"
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{host}":
        return "this API is not for pages of other sites"
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return "this API is not for pages of other sites"
    return None


def _name_of(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


class _Guard:
    """Refuses requests before they reach a route."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            why = refusal(Headers(scope=scope))
            if why is not None:
                await PlainTextResponse(why + "\n", 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


MAX_BODY_BYTES = 65_536
"""Bytes of a request's body."""


class Cluster(Protocol):
    """What the API needs of a supervisor."""

    def status(self) -> ClusterStatus:
        """The present picture."""
        ...

    def ask_to_end(self) -> None:
        """Begin to end the cluster."""
        ...

    async def scale(self, shards: int | None, routers: int | None) -> int:
        """Begin to change the number of members; returns the change's number, or raises ``RoostError``."""
        ...

    async def reload(self, app: str | None, canary_s: float) -> int:
        """Begin to give all shards new code; returns the change's number, or raises ``RoostError``."""
        ...

    def find_change(self, number: int) -> Change | None:
        """A change that has begun not too long ago."""
        ...


class _BadBody(RoostError):
    """A request's body is not what it should be."""


def make_app(cluster: Cluster, *, token: str, now: Callable[[], float]) -> ASGIApp:
    """The admin API as an ASGI app.

    Args:
        cluster: What it shows and steers.
        token: What each ``POST`` must bring as ``Authorization: Bearer …``.
        now: Monotonic seconds.
    """
    registry = CollectorRegistry()
    registry.register(_ClusterCollector(cluster.status))

    status = Sparing(lambda: JSONResponse(cluster.status().to_dict()).body, now)
    metrics = Sparing(lambda: generate_latest(registry), now)

    async def get_status(request: Request) -> Response:
        return Response(status(), media_type="application/json")

    async def get_metrics(request: Request) -> Response:
        return Response(metrics(), headers={"content-type": CONTENT_TYPE_LATEST})

    async def get_change(request: Request) -> Response:
        number = request.path_params["number"]
        change = cluster.find_change(int(number)) if _CHANGE_NUMBER.fullmatch(number) else None
        if change is None:
            return PlainTextResponse("there is no such change, or it is too long ago\n", 404)
        return JSONResponse(change.to_dict())

    def guarded(
        act: Callable[[dict[str, Any]], Awaitable[int | None]], state: str
    ) -> Callable[[Request], Awaitable[Response]]:
        async def post(request: Request) -> Response:
            given = request.headers.get("authorization", "").encode()
            if not hmac.compare_digest(given, f"Bearer {token}".encode()):
                return PlainTextResponse("the token of this cluster is needed: use the command `roost`\n", 401)
            try:
                number = await act(await _json_of(request))
            except ChangeRefused as error:
                return PlainTextResponse(f"{error}\n", 409)
            except RoostError as error:
                return PlainTextResponse(f"{error}\n", 400)
            return JSONResponse({"state": state} | ({} if number is None else {"change": number}), 202)

        return post

    async def scale(body: dict[str, Any]) -> int:
        shards, routers = (_number(body, name, int) for name in ("shards", "routers"))
        return await cluster.scale(shards, routers)

    async def reload(body: dict[str, Any]) -> int:
        app, canary_s = body.get("app"), _number(body, "canary_s", float)
        if app is not None and not isinstance(app, str):
            raise _BadBody(f"app must be a string, got {app!r:.100}")
        if app is not None and not app.isprintable():
            raise _BadBody(f"app must be a path or a module's name, which {app!r:.100} cannot be")
        return await cluster.reload(app, CANARY_S if canary_s is None else canary_s)

    async def down(body: dict[str, Any]) -> None:
        cluster.ask_to_end()

    return _Guard(
        Starlette(
            routes=[
                Route("/status", get_status),
                Route("/metrics", get_metrics),
                Route("/changes/{number}", get_change),
                Route("/scale", guarded(scale, "changing"), methods=["POST"]),
                Route("/reload", guarded(reload, "changing"), methods=["POST"]),
                Route("/down", guarded(down, "ending"), methods=["POST"]),
            ],
            exception_handlers={404: _elsewhere, 405: _elsewhere},
        )
    )


def _elsewhere(request: Request, error: Exception) -> Response:
    """A path that there is not, or another method than it takes."""
    assert isinstance(error, HTTPException)
    there_are = "GET /status, GET /metrics, GET /changes/<number>, POST /scale, POST /reload and POST /down"
    asked = f"{request.method} {request.scope['path'][:80]!r}"
    return PlainTextResponse(
        f"this is the admin API of roost, which has no {asked}; there are {there_are}\n",
        error.status_code,
        error.headers,
    )


async def _json_of(request: Request) -> dict[str, Any]:
    """The body of a request as an object; nothing at all is an empty one.

    Raises:
        _BadBody: It is something else, or too long.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise _BadBody(f"the request's body is larger than {MAX_BODY_BYTES} bytes")
    try:
        found = json.loads(body or b"{}")
    except ValueError as error:
        raise _BadBody(f"the request's body is no JSON: {error}") from error
    except RecursionError as error:
        raise _BadBody("the request's body is nested too deeply") from error
    if not isinstance(found, dict):
        raise _BadBody("the request's body must be a JSON object")
    return found


def _number(body: dict[str, Any], name: str, kind: type[Any]) -> Any:
    value = body.get(name)
    fits = isinstance(value, (int, float) if kind is float else int) and not isinstance(value, bool)
    if value is not None and not (fits and value >= 0):
        raise _BadBody(f"{name} must be a number that is not negative, got {value!r:.100}")
    return value


class _ClusterCollector(Collector):
    """Turns a picture of the cluster into metrics at each scrape."""

    def __init__(self, status: Callable[[], ClusterStatus]) -> None:
        self._status = status

    def describe(self) -> list[Metric]:
        return []  # the names are only known from the counters: nothing to check at registration

    def collect(self) -> Iterator[Metric]:
        picture = self._status()
        labels = ["member", "kind"]
        up = GaugeMetricFamily("roost_member_up", "1 while the member serves", labels=labels)
        uptime = GaugeMetricFamily("roost_member_uptime_seconds", "Age of the member's process", labels=labels)
        restarts = CounterMetricFamily("roost_member_restarts", "Starts of the member after the first", labels=labels)
        slots = GaugeMetricFamily("roost_slots", "Slots that the shard owns", labels=labels)
        families: dict[str, Metric] = {}
        for member in picture.members:
            values = [member.name, member.kind]
            up.add_metric(values, float(member.state == "ready"))
            uptime.add_metric(values, member.uptime_s)
            restarts.add_metric(values, member.restarts)
            if member.kind == "shard":
                slots.add_metric(values, member.slots)
            for name, value in member.counters.items():
                family = families.get(name)
                if family is None:
                    figure = picture.figures[name]
                    make = CounterMetricFamily if figure.kind is Kind.TOTAL else GaugeMetricFamily
                    family = families[name] = make(f"roost_{name}", figure.help, labels=labels)
                assert isinstance(family, GaugeMetricFamily | CounterMetricFamily)
                family.add_metric(values, value)
        version = GaugeMetricFamily("roost_map_version", "Version of the cluster map", value=picture.map_version)
        transit = GaugeMetricFamily(
            "roost_slots_in_transit", "Slots on their way to another shard", value=picture.slots_in_transit
        )
        changing = GaugeMetricFamily(
            "roost_change_under_way", "1 while the cluster is scaled or reloaded", value=float(bool(picture.change))
        )
        seated = GaugeMetricFamily("roost_member_seated", "1 while the shard holds a seat", labels=[*labels, "seat"])
        for member in picture.members:
            if member.kind == "shard":
                seated.add_metric([member.name, member.kind, member.seat], float(member.holds_seat))
        yield from (up, uptime, restarts, slots, seated, version, transit, changing)
        yield from families.values()
