"""The two examples, with real clients."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.cluster import Cluster
from tests.raw_client import request
from tests.waiting import within


async def opened(cluster: Cluster, path: str) -> ClientConnection:
    return await within("a handshake", connect(cluster.ws(path), proxy=None, compression=None, ping_interval=None))


async def heard(client: ClientConnection) -> Any:
    return json.loads(await within("a message", client.recv()))


# --- chat ---------------------------------------------------------------------------------------------------------


async def test_two_people_chat(chat: Cluster, name: str) -> None:
    path = f"/chat-room/{name}"
    async with await opened(chat, path + "?name=ann") as ann:
        assert await heard(ann) == {"what": "joined", "name": "ann", "text": "", "people": 1}
        async with await opened(chat, path + "?name=bob") as bob:
            for client in (ann, bob):
                assert await heard(client) == {"what": "joined", "name": "bob", "text": "", "people": 2}
            await ann.send("hello ä")
            for client in (ann, bob):
                assert await heard(client) == {"what": "said", "name": "ann", "text": "hello ä", "people": 2}
        assert await heard(ann) == {"what": "left", "name": "bob", "text": "", "people": 1}


async def test_a_room_that_slept_still_knows_its_people(chat: Cluster, name: str) -> None:
    """Rooms sleep after a tenth of a second here, so this one sleeps between most of these messages."""
    path = f"/chat-room/{name}"
    async with await opened(chat, path + "?name=ann") as ann, await opened(chat, path) as nobody:
        for _ in range(2):
            await heard(ann)
        assert (await heard(nobody))["name"] == "guest"
        for number in range(3):
            await chat.asleep("chat-room", name)
            await ann.send(f"message {number}")
            for client in (ann, nobody):
                said = await heard(client)
                assert (said["name"], said["text"], said["people"]) == ("ann", f"message {number}", 2)


async def test_rooms_are_apart(chat: Cluster, name: str) -> None:
    async with await opened(chat, f"/chat-room/{name}-1") as one, await opened(chat, f"/chat-room/{name}-2") as two:
        assert (await heard(one))["people"] == 1
        assert (await heard(two))["people"] == 1
        await one.send("only here")
        assert (await heard(one))["text"] == "only here"
        await two.send("and here")
        assert (await heard(two))["text"] == "and here"


async def test_binary_is_refused_by_the_chat(chat: Cluster, name: str) -> None:
    async with await opened(chat, f"/chat-room/{name}") as client:
        await heard(client)
        await client.send(b"\0")
        await within("the close", client.wait_closed())
        assert (client.close_code, client.close_reason) == (1003, "this room speaks text")


async def test_a_room_serves_its_page(chat: Cluster, name: str) -> None:
    reply = await request(chat.port, "GET", f"/chat-room/{name}")
    assert reply.status == 200
    assert reply.header("content-type") == "text/html; charset=utf-8"
    assert reply.text.startswith("<!doctype html>")


# --- counter ------------------------------------------------------------------------------------------------------


async def post(cluster: Cluster, path: str) -> Any:
    reply = await request(cluster.port, "POST", path)
    assert reply.status == 200, reply
    return json.loads(reply.body)


async def test_watchers_hear_of_their_topic(counter: Cluster, name: str) -> None:
    path = f"/counter/{name}"
    async with (
        await opened(counter, path + "?topic=apples") as apples,
        await opened(counter, path + "?topic=pears") as pears,
        await opened(counter, path) as everything,
    ):
        assert await heard(apples) == {"apples": 0}
        assert await heard(pears) == {"pears": 0}
        assert await heard(everything) == {}
        assert await post(counter, path + "?topic=apples") == {"apples": 1}
        assert await heard(apples) == {"apples": 1}
        assert await heard(everything) == {"apples": 1}
        await pears.send("+5")
        assert await heard(pears) == {"pears": 5}
        assert await heard(everything) == {"apples": 1, "pears": 5}
        assert json.loads((await request(counter.port, "GET", path)).body) == {"apples": 1, "pears": 5}
        await apples.send("many")
        assert "error" in await heard(apples)


async def test_a_count_outlives_sleep_as_long_as_it_is_watched(counter: Cluster, name: str) -> None:
    path = f"/counter/{name}"
    async with await opened(counter, path + "?topic=apples") as watcher:
        await heard(watcher)
        for count in range(1, 4):
            await counter.asleep("counter", name)
            await watcher.send("ping")
            assert await within("a pong", watcher.recv()) == "pong"
            assert await post(counter, path + "?topic=apples") == {"apples": count}
            assert await heard(watcher) == {"apples": count}


@pytest.mark.parametrize(
    ("method", "query", "status"),
    [("POST", "", 400), ("POST", "?topic=UPPER", 400), ("GET", "?topic=", 400), ("DELETE", "", 405), ("HEAD", "", 200)],
)
async def test_what_the_counter_answers(counter: Cluster, name: str, method: str, query: str, status: int) -> None:
    assert (await request(counter.port, method, f"/counter/{name}{query}")).status == status


async def test_the_counter_refuses_sockets_as_well(counter: Cluster, name: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await opened(counter, f"/counter/{name}?topic=UPPER")
    assert refused.value.response.status_code == 400
