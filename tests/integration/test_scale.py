"""``roost scale`` on a running cluster: sockets stay, messages in order and once, no slot moves that need not."""

from __future__ import annotations

import asyncio
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from roost.common.cluster.cluster_map import targets
from roost.common.errors import AppError
from roost.common.limits import SLOTS
from roost.deploy.commands import client
from tests.integration.roost import DEADLINE_S, Roost, processes_of, wait_for
from tests.integration.talkers import talking
from tests.support.waiting import within

APP = Path(__file__).with_name("app.py")


async def scale(roost: Roost, shards: int | None = None, routers: int | None = None) -> list[str]:
    """``roost scale`` without a process for it; returns what it said."""
    said: list[str] = []
    said.append(await asyncio.to_thread(client.scale, roost.data, shards=shards, routers=routers, say=said.append))
    return said


def shares(shards: int) -> dict[str, int]:
    """How many slots each of so many shards must own."""
    found = targets({f"shard-{n + 1}": 1.0 for n in range(shards)})
    return {seat: found.count(seat) for seat in set(found)}


async def test_shards_come_and_go_under_load(roost: Roost) -> None:
    await asyncio.to_thread(roost.start, APP, "--shards", 2)
    async with talking(roost.port):
        done = await asyncio.to_thread(roost.command, "scale", "--shards", 5)
        assert done.returncode == 0, done.stderr
        said = done.stdout.splitlines()
        assert roost.owned() == shares(5), "each has its share, and no slot is in transit"
        needed = SLOTS - sum(shares(5)[f"shard-{n}"] for n in (1, 2))
        assert said[0] == "  starting shard-3, shard-4, shard-5"
        assert re.match(rf"5 shards and 1 router: {needed:,} slots moved in [\d.]+ s; 0 sockets under accept", said[-1])
        found = roost.status()
        assert (found["change"], found["slots_in_transit"]) == ("", 0)
        assert {member["seat"] for member in found["members"] if member["kind"] == "shard"} == set(shares(5))

        said = await scale(roost, shards=1)
        assert roost.owned() == {"shard-1": SLOTS}
        assert re.match(rf"1 shard and 1 router: {SLOTS - shares(5)['shard-1']:,} slots moved", said[-1])
    assert len(processes_of(roost.data)) == 3, "those that left have ended"
    assert await asyncio.to_thread(roost.end) == 0
    assert not re.search("ERROR|Traceback", (roost.folder / "stderr").read_text())
    assert roost.left_behind() == []


async def test_a_router_that_leaves_tells_its_clients(roost: Roost) -> None:
    await asyncio.to_thread(roost.start, APP, "--shards", 1, "--routers", 1)
    await scale(roost, routers=3)
    sockets = [await connect(f"ws://127.0.0.1:{roost.port}/echo/{n}") for n in range(30)]

    def counted() -> dict[str, int]:
        found = {member["name"]: member["counters"].get("connections", 0) for member in roost.status()["members"]}
        return found if sum(found.values()) == 30 else {}

    held = await asyncio.to_thread(wait_for, "the counters", counted)
    said = await scale(roost, routers=1)
    leaving = held["router-2"] + held["router-3"]
    assert leaving, "the kernel spreads 30 connections over three"
    assert said[-1].endswith(f"; {leaving} clients told 1001")
    closed = [socket for socket in sockets if socket.close_code is not None]
    assert [socket.close_code for socket in closed] == [1001] * leaving
    for socket in sockets:
        if socket.close_code is None:
            await socket.send("still here")
            assert await within("an answer", socket.recv()) == "still here"
        await socket.close()
    assert [member.name for member in roost.map().routers] == ["router-1"]
    assert await asyncio.to_thread(roost.end) == 0


async def test_sockets_under_accept_are_closed_and_counted(roost: Roost) -> None:
    app = roost.folder / "app.py"
    app.write_text(
        "from roost.shard import DurableObject, Response, WebSocketPair\n"
        "class Plain(DurableObject):\n"
        "    async def fetch(self, request):\n"
        "        client, server = WebSocketPair()\n"
        "        server.accept()\n"
        "        return Response(status=101, web_socket=client)\n"
    )
    await asyncio.to_thread(roost.start, app, "--shards", 2)
    sockets = [await connect(f"ws://127.0.0.1:{roost.port}/plain/{n}") for n in range(20)]
    said = await scale(roost, shards=1)
    closed = [socket for socket in sockets if socket.close_code is not None]
    assert 0 < len(closed) < 20
    assert {socket.close_code for socket in closed} == {1012}
    assert f"; {len(closed)} socket" in said[-1]
    for socket in sockets:
        await socket.close()
    assert await asyncio.to_thread(roost.end) == 0


def post(roost: Roost, path: str, body: dict[str, Any]) -> Any:
    address = client.find(roost.data)
    return client.ask(address, "POST", path, body)


def test_what_cannot_be_is_refused_in_one_sentence(roost: Roost) -> None:
    app = roost.folder / "app.py"
    app.write_text(APP.read_text())
    roost.start(app, "--shards", 1, "--routers", 2, "--connections", 500)
    for numbers, sentence in (
        ({"shards": 0}, "shards must be at least 1, got 0"),
        ({"shards": 65}, "shards must be at most 64, got 65"),
        ({"routers": 0}, "routers must be at least 1, got 0"),
    ):
        with pytest.raises(client.Refused, match=f"^{sentence}$"):
            post(roost, "/scale", numbers)
    done = roost.command("scale", "--shards", 0)
    assert (done.returncode, done.stderr) == (1, "roost: shards must be at least 1, got 0\n")
    done = roost.command("scale")
    assert (done.returncode, "say how many" in done.stderr) == (2, True)

    # A shard that takes its time to start holds the change up, until it cannot.
    gate = roost.folder / "gate"
    app.write_text(f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.05)\n1 / 0\n")
    scaling = subprocess.Popen(
        roost.words("scale", "--shards", 2), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for("the change", lambda: roost.status()["change"] == "scaling to 2 shards and 2 routers")
    for path, body in (("/scale", {"routers": 3}), ("/reload", {})):
        with pytest.raises(client.Refused, match=r"^the cluster is scaling to 2 shards and 2 routers: wait until"):
            post(roost, path, body)
    with urllib.request.urlopen(f"{roost.status()['admin']}/metrics", timeout=DEADLINE_S) as response:
        assert b"roost_change_under_way 1.0" in response.read()
    gate.touch()
    _, stderr = scaling.communicate(timeout=DEADLINE_S)
    assert re.fullmatch(r"roost: nothing was changed: shard-2: .* ZeroDivisionError: division by zero\n", stderr)
    assert scaling.returncode == AppError.exit_code
    assert roost.owned() == {"shard-1": SLOTS}
    assert [member["name"] for member in roost.status()["members"]] == ["shard-1", "router-1", "router-2"]
    assert roost.end() == 0
    assert roost.left_behind() == []
