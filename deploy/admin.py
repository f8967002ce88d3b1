"""The admin API, on 127.0.0.1 within the supervisor.

::

    GET  /status    the cluster as JSON
    GET  /metrics   the same for Prometheus
    POST /down      drain and end the cluster; needs the token from the run folder

A port on 127.0.0.1 is open to every program and to every web page on this machine. Pages of other sites are kept out
by the checks of ``refusal``, also those that had a name of theirs point here (DNS rebinding); other users of the
machine are kept from ``/down`` by a token in a file that only the owner can read.
"""

from __future__ import annotations

import contextlib
import hmac
import socket
from collections.abc import Callable, Iterator

import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from .status import LEVELS, ClusterStatus

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


def make_app(*, status: Callable[[], ClusterStatus], down: Callable[[], None], token: str) -> ASGIApp:
    """The admin API as an ASGI app.

    Args:
        status: Gives the present picture.
        down: Begins to end the cluster; must return at once.
        token: What a ``POST /down`` must bring as ``Authorization: Bearer …``.
    """
    registry = CollectorRegistry()
    registry.register(_ClusterCollector(status))

    async def get_status(request: Request) -> Response:
        return JSONResponse(status().to_dict())

    async def get_metrics(request: Request) -> Response:
        return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})

    async def post_down(request: Request) -> Response:
        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {token}".encode()):
            return PlainTextResponse("the token of this cluster is needed: use `roost down`\n", 401)
        down()
        return JSONResponse({"state": "ending"}, 202)

    return _Guard(
        Starlette(
            routes=[
                Route("/status", get_status),
                Route("/metrics", get_metrics),
                Route("/down", post_down, methods=["POST"]),
            ]
        )
    )


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
                    make = GaugeMetricFamily if name in LEVELS else CounterMetricFamily
                    family = families[name] = make(f"roost_{name}", name.replace("_", " "), labels=labels)
                assert isinstance(family, GaugeMetricFamily | CounterMetricFamily)
                family.add_metric(values, value)
        version = GaugeMetricFamily("roost_map_version", "Version of the cluster map", value=picture.map_version)
        yield from (up, uptime, restarts, slots, version)
        yield from families.values()


class AdminServer(uvicorn.Server):
    """A uvicorn that serves one socket within another program: signals stay that program's."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app, lifespan="off", log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=1
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def run_on(self, listening: socket.socket) -> None:
        """Serve until ``should_exit`` is set."""
        await self.serve(sockets=[listening])
