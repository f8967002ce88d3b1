"""Objects move between live shards, and from dead ones: whatever they and their sockets knew comes along."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.client import request
from tests.support.cluster import Cluster
from tests.support.waiting import until, within

APP = Path(__file__).with_name("moving_app.py")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two routers, two shards; moves are asked for by tests."""
    with Cluster(APP, routers=2, shards=2, shard={"hibernate_after_s": 0.2}) as made:
        yield made


async def move(cluster: Cluster, *shards: str) -> None:
    """Have all slots on *shards*, or on all of them, and wait until it is so."""
    cluster.send_to(*shards)
    await until("the slots to have moved", lambda: not cluster.map().next_owners)


def elsewhere(cluster: Cluster, name: str) -> str:
    """The shard that does not have the object."""
    here = cluster.owner("witness", name).name
    return "shard-1" if here == "shard-2" else "shard-2"


async def truth(cluster: Cluster, name: str) -> Any:
    answer = await request(cluster.port, "GET", f"/witness/{name}")
    assert answer.status == 200, answer.text
    return json.loads(answer.body)


async def running(cluster: Cluster, name: str, count: int) -> None:
    """So many handlers of the object wait as they were told."""
    while json.loads((await request(cluster.port, "GET", f"/witness/{name}?running")).body) < count:
        pass


async def tell(client: ClientConnection, message: str) -> dict[str, Any]:
    """Have the object do something, and return what it says when it has."""
    await client.send(message)
    answer: dict[str, Any] = json.loads(await within(f"the answer to {message!r}", client.recv()))
    assert answer["done"] == message
    return answer


async def test_all_that_is_known_comes_through_moves_and_deaths(cluster: Cluster, name: str) -> None:
    clients = [
        await connect(cluster.ws(f"/witness/{name}?tag=all&tag=client-{number}"), ping_interval=None)
        for number in range(6)
    ]
    for number, client in enumerate(clients):
        await tell(client, f'attach {{"number": {number}}}')
    await tell(clients[0], "pair ping pong")
    await tell(clients[0], "timeout 5000")
    await clients[1].send("ping")
    assert await clients[1].recv() == "pong"
    # Its Close is not answered, since the client does not read: the socket stays, closed by the object.
    clients[2].transport.pause_reading()
    await clients[2].send("close enough")
    async with asyncio.timeout(10):
        while True:
            before = await truth(cluster, name)
            # The Close is on its way, and the time of an automatic response comes a little later.
            if before["sockets"][3]["state"] == 2 and before["sockets"][4]["time"] != "None":
                break
    assert [socket["attachment"]["number"] for socket in before["sockets"]] == [5, 4, 3, 2, 1, 0]
    assert before["pair"] == ["ping", "pong"]
    assert before["timeout"] == 5000
    await move(cluster, elsewhere(cluster, name))
    assert await truth(cluster, name) == before, "after a move"
    await move(cluster)
    assert await truth(cluster, name) == before, "after a move to where it belongs"
    owner = cluster.owner("witness", name).name
    await asyncio.to_thread(cluster.kill, owner)
    await asyncio.to_thread(cluster.start, "shard", owner)
    assert await truth(cluster, name) == before, "after a death"
    await clients[0].send("ping")
    assert await clients[0].recv() == "pong", "the routers still answer"
    for client in clients[:2] + clients[3:]:
        assert not (await tell(client, "hello"))["again"]
    clients[2].transport.resume_reading()
    for client in clients:
        await client.close()


async def test_standard_sockets_are_told_to_come_again(cluster: Cluster, name: str) -> None:
    def closed() -> int:
        return sum(cluster.counters(f"router-{number}")["standard_closed"] for number in (1, 2))

    before = closed()
    async with connect(cluster.ws(f"/witness/{name}?standard")) as client:
        await move(cluster, elsewhere(cluster, name))
        with pytest.raises(ConnectionClosed) as end:
            await within("the end", client.recv())
        assert end.value.rcvd is not None
        assert end.value.rcvd.code == 1012
    await until("it to be counted", lambda: closed() == before + 1)
    await move(cluster)


async def test_handlers_and_requests_that_run_end_first(cluster: Cluster, name: str) -> None:
    async with connect(cluster.ws(f"/witness/{name}")) as client:
        begun = asyncio.ensure_future(request(cluster.port, "POST", f"/witness/{name}?wait=0.6", body=b"begun"))
        message = asyncio.ensure_future(tell(client, "sleep 0.6"))
        await running(cluster, name, 2)
        moved = asyncio.ensure_future(move(cluster, elsewhere(cluster, name)))
        await until("the move to begin", lambda: bool(cluster.map().next_owners))
        late = asyncio.ensure_future(request(cluster.port, "POST", f"/witness/{name}?wait=0.1", body=b"late"))
        assert not (await message)["again"]
        assert (await begun).body == b"begun after 0.6 s"
        assert (await within("the answer of the next owner", late)).body == b"late after 0.1 s"
        await moved
        assert not (await tell(client, "hello"))["again"]
    await move(cluster)


async def test_a_handler_that_takes_too_long_runs_again_and_is_told_so(name: str) -> None:
    shard = {"hibernate_after_s": 0.2, "move_timeout_s": 0.3}
    with Cluster(APP, routers=1, shards=2, shard=shard) as cluster:
        async with connect(cluster.ws(f"/witness/{name}")) as client:
            answer = asyncio.ensure_future(tell(client, "sleep 1"))
            await running(cluster, name, 1)
            await move(cluster, elsewhere(cluster, name))
            assert (await answer)["again"]


async def test_two_moves_at_once_end_where_the_last_one_says(cluster: Cluster, name: str) -> None:
    async with connect(cluster.ws(f"/witness/{name}")) as client:
        for shards in (["shard-1"], ["shard-2"], [], ["shard-2"], ["shard-1"], []):
            cluster.send_to(*shards)
            await tell(client, "hello")
        await move(cluster)
        assert not (await tell(client, "hello"))["again"]
