"""Processes that end, die, block or hear garbage. Each test has a cluster of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from roost.common.ids import Incarnation
from roost.router.websocket.window import EVENT_BYTES
from tests.conformance import app
from tests.conformance.driver import Client, Reports, Room
from tests.support.client import RawClient, request
from tests.support.cluster import Cluster, Process, ProcessFailed
from tests.support.waiting import until, within


def probing(reports: Reports, **settings: Any) -> Cluster:
    shard = {"hibernate_after_s": 60.0, "vars": [f"REPORT={reports.path}"], **settings.pop("shard", {})}
    return Cluster(app.__name__, shard=shard, **settings)


# --- a router ends ------------------------------------------------------------------------------------------------


async def test_a_router_that_drains_closes_with_1001(reports: Reports, name: str) -> None:
    with probing(reports) as cluster:
        room = Room(cluster, reports, name)
        clients = [await room.connect(tags=[str(number)]) for number in range(5)]
        router = cluster.processes["router-1"]
        router.popen.send_signal(signal.SIGTERM)
        for client in clients:
            assert (await client.closed())[0] == 1001
        assert await asyncio.to_thread(router.popen.wait, 10) == 0
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(cluster.host, cluster.port)
        # Its successor serves the same object, which has heard of every close.
        cluster.forget(router.incarnation)
        await asyncio.to_thread(cluster.start, "router", "router-1")
        for _ in clients:
            await room.saw("close")
        assert await room.run(app.count) == 0


async def test_a_killed_router_is_a_1006_for_each_of_its_sockets_once(reports: Reports, name: str) -> None:
    with probing(reports, routers=2, shards=2) as cluster:
        rooms = [Room(cluster, reports, f"{name}-{number}") for number in range(4)]
        clients: list[tuple[Room, str, Client]] = []
        for room in rooms:
            clients += [(room, str(number), await room.connect(tags=[str(number)])) for number in range(6)]
        await asyncio.to_thread(cluster.kill_router, "router-1")
        dropped, alive = [], []
        for room, tag, client in clients:
            # A killed process's sockets are reset or ended by the kernel at once, the others answer a ping.
            try:
                await within("a pong or the end", await client.connection.ping())
                alive.append((room, tag, client))
            except Exception:
                dropped.append((room, tag, client))
        assert dropped, "the kernel gave none of 24 clients to that router"
        assert alive, "the kernel gave all of 24 clients to that router"
        for room in rooms:
            gone = {tag for other, tag, _ in dropped if other is room}
            reports_ = [await room.saw("close") for _ in gone]
            assert {report["tags"][0] for report in reports_} == gone
            for report in reports_:
                assert (report["code"], report["clean"]) == (1006, False)
                assert report["reason"] == "WebSocket disconnected without sending Close frame."
            assert await room.run(app.count) == 6 - len(gone)
        for room, _, client in alive:
            await client.send("still here")
            await room.saw("message")
        for room in rooms:
            assert len(room.all("close")) == len([1 for other, _, _ in dropped if other is room]), "once each"
        for _, _, client in alive:
            await client.close()


async def test_a_router_that_joins_later_serves(reports: Reports, name: str) -> None:
    with probing(reports, shards=2) as cluster:
        room = Room(cluster, reports, name)
        async with await room.connect() as client:
            await asyncio.to_thread(cluster.start, "router", "router-2")
            await asyncio.to_thread(cluster.processes["router-1"].stop)
            assert (await client.closed())[0] == 1001
        cluster.forget(cluster.processes["router-1"].incarnation)
        async with await room.connect() as client:
            await client.send("through the second")
            assert (await room.saw("message"))["data"] == "through the second"


# --- a shard ends -------------------------------------------------------------------------------------------------


async def remember_redelivery(probe: app.Probe, ws: Any, message: Any) -> None:
    probe.report("handled", data=message, redelivered=ws.redelivered, tags=probe.ctx.get_tags(ws))
    if message == "never ends":
        await asyncio.sleep(3600)
    ws.send(f"handled {message}")


@pytest.fixture
def handling_app(tmp_path: Path) -> Path:
    """``Probe`` with the handler above from its first moment on, in every process."""
    path = tmp_path / "handling.py"
    path.write_text(
        "from tests.conformance.app import *\n"
        "from tests.conformance.app import Probe as Base\n"
        "from tests.integration.test_processes import remember_redelivery\n"
        "\n"
        "class Handling(Base):\n"
        "    async def web_socket_message(self, ws, message):\n"
        "        await remember_redelivery(self, ws, message)\n"
    )
    return path


async def test_a_killed_shard_costs_no_socket_and_no_message(reports: Reports, name: str, handling_app: Path) -> None:
    settings = {"hibernate_after_s": 60.0, "vars": [f"REPORT={reports.path}"]}
    with Cluster(handling_app, routers=2, shards=1, shard=settings) as cluster:
        room = Room(cluster, reports, name, "handling")
        clients = [await room.connect(tags=[str(number), "all"]) for number in range(6)]
        await room.run(attach_numbers)
        await clients[0].send("done before")
        assert await clients[0].receive() == "handled done before"
        await clients[1].send("never ends")
        for _ in range(2):
            assert (await room.saw("handled"))["redelivered"] is False
        routers = [process for process in cluster.processes.values() if process.kind == "router"]
        await until(
            "the first message to be acknowledged",
            lambda: (
                sum(counted(router, cluster, "window_bytes") for router in routers) == len("never ends") + EVENT_BYTES
            ),
        )
        await asyncio.to_thread(cluster.kill, "shard-1")
        await clients[2].send("while it is away")
        await asyncio.to_thread(cluster.start, "shard", "shard-1")
        # What had not been acknowledged comes again and says so; what was sent meanwhile comes for the first time.
        seen = [await room.saw("handled") for _ in range(2)]
        by_data = {report["data"]: report for report in seen}
        assert by_data.keys() == {"never ends", "while it is away"}
        assert by_data["never ends"]["redelivered"] is True
        assert by_data["while it is away"]["redelivered"] is False
        assert await clients[2].receive() == "handled while it is away"
        # The sockets are as they were: order, tags, attachments.
        assert await room.run(app.tags) == [[str(number), "all"] for number in range(5, -1, -1)]
        assert await room.run(attached) == [5, 4, 3, 2, 1, 0]
        for client in (clients[0], clients[4]):
            await client.send("after")
            assert await client.receive() == "handled after"
        assert [report["data"] for report in room.all("handled")].count("done before") == 1
        assert room.all("close") == []
        for client in clients:
            await client.connection.close()


def attach_numbers(probe: app.Probe) -> None:
    for ws in probe.ctx.get_web_sockets():
        ws.serialize_attachment(int(probe.ctx.get_tags(ws)[0]))


def attached(probe: app.Probe) -> list[int]:
    return [ws.deserialize_attachment() for ws in probe.ctx.get_web_sockets()]


async def test_a_client_that_leaves_while_its_shard_is_away(reports: Reports, name: str) -> None:
    with probing(reports) as cluster:
        room = Room(cluster, reports, name)
        clean, gone = await room.connect(tags=["clean"]), await room.raw(tags=["gone"])
        stays = await room.connect(tags=["stays"])
        await asyncio.to_thread(cluster.kill, "shard-1")
        gone.reset()
        closing = asyncio.ensure_future(clean.close(4000, "bye"))
        await asyncio.to_thread(cluster.start, "shard", "shard-1")
        seen = [await room.saw("close") for _ in range(2)]
        by_tag = {report["tags"][0]: (report["code"], report["clean"]) for report in seen}
        assert by_tag == {"clean": (4000, True), "gone": (1006, False)}
        await closing
        assert await room.run(app.tags) == [["stays"]]
        await stays.close()


async def test_an_auto_response_needs_no_shard(reports: Reports, name: str) -> None:
    with probing(reports) as cluster:
        room = Room(cluster, reports, name)
        await room.run(app.set_auto_response)
        async with await room.connect() as client:
            await asyncio.to_thread(cluster.kill, "shard-1")
            await client.send("ping")
            assert await client.receive() == "pong"
            await asyncio.to_thread(cluster.start, "shard", "shard-1")
            assert await room.run(has_stamp_and_pair) == [True, "ping"]


def has_stamp_and_pair(probe: app.Probe) -> list[Any]:
    (ws,) = probe.ctx.get_web_sockets()
    stamp = probe.ctx.get_web_socket_auto_response_timestamp(ws)
    return [stamp is not None, probe.ctx.get_web_socket_auto_response().get_request()]


async def wait_for_ever(probe: app.Probe) -> None:
    probe.report("waiting")
    await asyncio.sleep(3600)


async def test_a_request_that_reached_a_dead_shard_is_a_502_and_one_that_did_not_waits(
    reports: Reports, name: str
) -> None:
    with probing(reports) as cluster:
        room = Room(cluster, reports, name)
        path = room.path(step=f"{__name__}:wait_for_ever")
        begun = asyncio.ensure_future(request(cluster.port, "POST", path, body=b"{}"))
        await room.saw("waiting")
        await asyncio.to_thread(cluster.kill, "shard-1")
        waiting = asyncio.ensure_future(room.run(app.life))
        await asyncio.to_thread(cluster.start, "shard", "shard-1")
        reply = await begun
        assert reply.status == 502
        assert "may" in reply.text
        assert await waiting == 1


async def test_standard_sockets_of_a_dead_shard_get_1012(reports: Reports, name: str) -> None:
    with probing(reports) as cluster:
        room = Room(cluster, reports, name)
        async with await room.connect(app.accept_standard) as client:
            await asyncio.to_thread(cluster.kill, "shard-1")
            await asyncio.to_thread(cluster.start, "shard", "shard-1")
            assert (await client.closed())[0] == 1012


# --- user code that holds the loop --------------------------------------------------------------------------------


def hold_the_loop(probe: app.Probe, ws: Any, seconds: float) -> None:
    import time

    time.sleep(seconds)
    ws.send("done")


async def test_a_handler_that_blocks_the_loop_is_reported_by_name(reports: Reports, name: str) -> None:
    with probing(reports) as cluster:
        room = Room(cluster, reports, name)
        shard = cluster.processes["shard-1"]
        async with await room.connect() as client:
            await client.say(hold_the_loop, seconds=1.6)
            await until(
                "a report of the handler's name while it blocks", lambda: "web_socket_message" in shard.log_text(), 1.5
            )
            assert f"probe/{name}" in shard.log_text()
            assert await client.receive() == "done"


# --- garbage between the members ----------------------------------------------------------------------------------


def counted(process: Process, cluster: Cluster, counter: str) -> int:
    return cluster.counters(process.name)[counter]


async def test_garbage_on_the_zeromq_socket_is_dropped_and_counted(reports: Reports, name: str) -> None:
    with probing(reports) as cluster:
        room = Room(cluster, reports, name)
        shard = cluster.processes["shard-1"]
        endpoint = cluster.map().members[Incarnation(shard.incarnation)].endpoint
        async with await room.connect() as client:
            context = zmq.Context()
            try:
                stranger = context.socket(zmq.DEALER)
                stranger.linger = 0
                stranger.connect(endpoint)
                for parts in ([b""], [b"garbage"], [b"\0" * 1000], [b"a", b"b", b"c"], [b"\xff" * 64, b""]):
                    stranger.send_multipart(parts)
                await until("the garbage to be counted", lambda: counted(shard, cluster, "wire_garbage") >= 5)
                stranger.close()
            finally:
                context.term()
            # Not even ZeroMQ's own protocol.
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as raw:
                raw.connect(endpoint.removeprefix("ipc://"))
                raw.sendall(b"GET / HTTP/1.1\r\n\r\n" * 100)
            await client.send("and on")
            assert (await room.saw("message"))["data"] == "and on"
        assert shard.log_text().count("garbage") <= 2, "logged once a minute"


# --- starts that cannot work --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "fact"),
    [
        ("import nonexistent_module\n", "nonexistent_module"),
        ("def broken(:\n", "syntax"),
        ("x = 1\n", "DurableObject"),
        (
            "from roost.shard import DurableObject\n"
            "class Twice(DurableObject):\n"
            "    def web_socket_message(self, ws, message): ...\n"
            "    def webSocketMessage(self, ws, message): ...\n",
            "webSocketMessage",
        ),
        (
            "from roost.shard import DurableObject\n"
            "class ChatRoom(DurableObject): ...\n"
            "class Chat_Room(DurableObject): ...\n",
            "chat-room",
        ),
    ],
    ids=["import fails", "syntax error", "no class", "both spellings", "one namespace twice"],
)
def test_an_app_that_cannot_be_hosted_stops_the_start(tmp_path: Path, source: str, fact: str) -> None:
    path = tmp_path / "app.py"
    path.write_text(source)
    cluster = Cluster(path)
    with pytest.raises(ProcessFailed, match="shard-1 cannot start") as failed:
        cluster.__enter__()
    assert fact.lower() in str(failed.value).lower()
    assert not cluster.folder.exists()


def test_an_app_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailed, match="cannot start"):
        Cluster(tmp_path / "nowhere.py").__enter__()


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_a_port_that_another_program_holds_stops_the_start(taken: int) -> None:
    cluster = Cluster(Path(__file__).with_name("app.py"), port=taken)
    with pytest.raises(ProcessFailed, match=rf"router-1 cannot start.*{taken}"):
        cluster.__enter__()


async def test_two_members_of_one_name_are_refused() -> None:
    with Cluster(Path(__file__).with_name("app.py")) as cluster:
        first = cluster.processes["shard-1"]
        with pytest.raises(ProcessFailed, match=r"shard-1.*running already"):
            cluster.start("shard", "shard-1")
        cluster.processes["shard-1"] = first
        async with await RawClient.open(cluster.port) as client:
            assert json.loads((await client.request("GET", "/web/x")).body)["count"] == 1
