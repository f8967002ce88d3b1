"""Errors of roost's own in a real cluster: one connection ends, or a shard starts anew; nobody waits for ever.

The processes are the real ones, but for one place in each that raises once, when it meets a certain payload.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from roost.common.runtime.startup import DEFECT_EXIT_CODE
from tests.support.cluster import Cluster
from tests.support.waiting import until, within

APP = """
from roost.shard import DurableObject, Response, WebSocketPair
class Room(DurableObject):
    async def fetch(self, request):
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server)
        return Response(status=101, web_socket=client)
    async def web_socket_message(self, ws, message):
        for each in self.ctx.get_web_sockets():
            each.send(message)
"""
PLANT = """
import os, sys
from pathlib import Path
from unittest import mock
from roost.router.clients import writers
from roost.router.owners import receiving
from roost.shard.outgoing import outbox

met = Path(os.environ["ROOST_TEST_DEFECTS"])  # of all processes and their next lives

def raises(cls, name, word, given):
    original = getattr(cls, name)
    bug = mock.Mock(side_effect=RuntimeError(word))
    scope = {**globals(), "__name__": cls.__module__}
    def method(self, *args, **options):
        if word in str(given(self, args)):
            try:
                (met / word).touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                bug()
        return original(self, *args, **options)
    setattr(cls, name, type(method)(method.__code__, scope, name, None, method.__closure__))

def _payloads(box):
    return [getattr(entry, "data", None) for entry in box._entries or ()]

raises(receiving.Receiver, "send", "break the link", lambda self, args: args[1])
raises(writers.DirectWriter, "write", "break one connection", lambda self, args: args[0])
raises(outbox.Outbox, "drain", "break the shard's output", lambda self, args: _payloads(self))
"""


class Defective(Cluster):
    """A cluster whose processes have these errors in them."""

    def _program(self, kind: str) -> list[str]:
        return ["-c", f"{PLANT}\nfrom roost.{kind}.__main__ import main\nsys.exit(main())"]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Defective:
    (tmp_path / "met").mkdir()
    monkeypatch.setenv("ROOST_TEST_DEFECTS", str(tmp_path / "met"))
    (tmp_path / "app.py").write_text(APP)
    return Defective(tmp_path / "app.py", routers=2, fails_on_defects=False)


async def clients_of_both_routers(cluster: Cluster) -> list[ClientConnection]:
    """Two clients of one room, at different routers."""
    sockets: list[ClientConnection] = []
    counts = dict.fromkeys(("router-1", "router-2"), 0)
    while not all(counts.values()):
        sockets.append(await connect(cluster.ws("/room/lobby")))
        for name in counts:
            counts[name] = (await cluster.published(name))["connections"]
    return sockets


async def hears(socket: ClientConnection, text: str) -> None:
    """*text* comes; what comes again because of a crash is passed over."""
    while await within(repr(text), socket.recv(), 20) != text:
        pass


async def test_a_router_that_gives_a_link_up_wedges_nothing(cluster: Defective) -> None:
    with cluster:
        sockets = await clients_of_both_routers(cluster)
        shard = cluster.processes["shard-1"]
        await sockets[0].send("break the link")
        assert await asyncio.to_thread(shard.ended) == 1
        assert "has given the session up" in shard.log_text()
        await asyncio.to_thread(cluster.start, "shard", "shard-1")
        for number, socket in enumerate(sockets):
            await socket.send(f"{number} goes on")
            for each in sockets:
                await hears(each, f"{number} goes on")
        for name in ("router-1", "router-2"):
            counted = await cluster.published(name)
            assert counted["window_bytes"] == 0, "no event waits for an acknowledgement that never comes"
        for socket in sockets:
            await socket.close()


async def test_a_connection_is_ended_alone(cluster: Defective) -> None:
    with cluster:
        sockets = await clients_of_both_routers(cluster)
        await sockets[0].send("break one connection")
        heard = await asyncio.gather(
            *(within("an end", socket.recv(), 20) for socket in sockets), return_exceptions=True
        )
        ended = [socket for socket, got in zip(sockets, heard, strict=True) if isinstance(got, ConnectionClosed)]
        assert len(ended) == 1
        rest = [socket for socket in sockets if socket not in ended]
        await until("the room has heard", lambda: cluster.counters("shard-1")["sockets"] == len(rest))
        for socket in rest:
            await socket.send("on")
            await hears(socket, "on")
            await socket.close()
        assert cluster.processes["shard-1"].alive
        assert sum([(await cluster.published(name))["defects"] for name in ("router-1", "router-2")]) == 1


async def test_a_shard_whose_output_fails_ends_at_once_and_comes_back(cluster: Defective) -> None:
    with cluster:
        sockets = await clients_of_both_routers(cluster)
        shard = cluster.processes["shard-1"]
        await sockets[0].send("break the shard's output")
        assert await asyncio.to_thread(shard.ended) == DEFECT_EXIT_CODE
        assert shard.log_text().count("Traceback (most recent call last)") == 1
        await asyncio.to_thread(cluster.start, "shard", "shard-1")
        for socket in sockets:
            await hears(socket, "break the shard's output")
            await socket.close()
