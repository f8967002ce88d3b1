"""The two examples, with real clients."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlencode

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.support.client import RawClient, request
from tests.support.cluster import Cluster
from tests.support.frames import BINARY, TEXT, frame
from tests.support.waiting import within


async def opened(cluster: Cluster, path: str) -> ClientConnection:
    return await within("a handshake", connect(cluster.ws(path), proxy=None, compression=None, ping_interval=None))


async def heard(client: ClientConnection) -> Any:
    return json.loads(await within("a message", client.recv()))


# --- chat ---------------------------------------------------------------------------------------------------------


async def test_two_people_chat(chat: Cluster, name: str) -> None:
    path = f"/chat-room/{name}"
    async with await opened(chat, path + "?name=ann") as ann:
        joined = {"what": "joined", "name": "ann", "text": "", "people": 1}
        assert await heard(ann) == joined | {"you": True, "here": ["ann"]}
        async with await opened(chat, path + "?name=bob") as bob:
            joined = {"what": "joined", "name": "bob", "text": "", "people": 2}
            assert await heard(ann) == joined
            assert await heard(bob) == joined | {"you": True, "here": ["bob", "ann"]}
            await ann.send("hello ä")
            said = {"what": "said", "name": "ann", "text": "hello ä", "people": 2}
            assert await heard(ann) == said | {"you": True}
            assert await heard(bob) == said
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


@pytest.mark.parametrize(
    ("asked", "name_is"),
    [
        ("x" * 10_000, "x" * 40),
        ("\u202egnirts", "gnirts"),
        ("a\nb\t\0c", "a b c"),
        ("\u200b\u200d \u00ad", "guest"),
        ("", "guest"),
        ("👩‍🚀", "👩‍🚀"),
        ("<b>&amp;", "<b>&amp;"),
        ("مرحبا", "مرحبا"),
    ],
)
async def test_names_are_one_short_line(chat: Cluster, name: str, asked: str, name_is: str) -> None:
    async with await opened(chat, f"/chat-room/{name}?{urlencode({'name': asked})}") as client:
        joined = await heard(client)
        assert (joined["name"], joined["here"]) == (name_is, [name_is])
        assert bool(joined["text"]) == (len(asked) > 40), "a name that was cut is said to be"


async def test_a_line_that_is_too_long_comes_back_to_its_sender_in_words(chat: Cluster, name: str) -> None:
    path = f"/chat-room/{name}"
    async with await opened(chat, path + "?name=ann") as ann, await opened(chat, path + "?name=bob") as bob:
        for client, count in ((ann, 2), (bob, 1)):
            for _ in range(count):
                await heard(client)
        for line in ("x" * 2_001, " \n", '{"what": "left"', "x" * 2_000):
            await ann.send(line)
        refused = await heard(ann)
        assert (refused["what"], refused["people"]) == ("refused", 2)
        assert "2,000" in refused["text"]
        assert "2,001" in refused["text"]
        for client in (ann, bob):
            assert [(await heard(client))["text"] for _ in range(2)] == ['{"what": "left"', "x" * 2_000]


async def test_who_breaks_the_protocol_or_does_not_answer_its_close_takes_nobody_along(
    chat: Cluster, name: str
) -> None:
    path, before = f"/chat-room/{name}", chat.log_positions()
    async with await opened(chat, path + "?name=ann") as ann, await RawClient.open(chat.port) as mallory:
        await heard(ann)
        await mallory.handshake(path + "?name=mallory")
        assert (await heard(ann))["people"] == 2
        await mallory.expect(TEXT)
        await mallory.send(frame(BINARY, b"\0") + frame(TEXT, "x" * 3_000) + frame(TEXT, "unheard") + frame(BINARY))
        await mallory.expect_close(1003)  # which is never answered
        await ann.send("still here?")
        said = await heard(ann)
        assert (said["text"], said["people"]) == ("still here?", 1)
        async with await RawClient.open(chat.port) as eve:
            await eve.handshake(path + "?name=eve")
            assert (await heard(ann))["name"] == "eve"
            await eve.send(frame(3))  # an opcode that there is not: an error, and no close behind it
            left = await heard(ann)
            assert (left["what"], left["name"], left["people"]) == ("left", "eve", 1)
    assert "Traceback" not in chat.logs_since(before)


async def test_the_room_answers_a_ping_in_its_sleep(chat: Cluster, name: str) -> None:
    async with await opened(chat, f"/chat-room/{name}") as client:
        await heard(client)
        await chat.asleep("chat-room", name)
        await client.send("/ping")
        assert await within("a pong", client.recv()) == "/pong"
        await chat.asleep("chat-room", name)


async def test_a_room_with_any_name_serves_its_page(chat: Cluster) -> None:
    reply = await request(chat.port, "GET", "/chat-room/%3Cscript%3Ealert(1)%3C%2Fscript%3E".replace("%2F", ""))
    assert reply.status == 200
    assert "<script>alert" not in reply.text
    assert "<h1>&lt;script&gt;alert(1)&lt;script&gt;</h1>" in reply.text


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
        assert await heard(everything) == {"apples": 0, "pears": 0}
        assert await post(counter, path + "?topic=apples") == {"apples": 1}
        assert await heard(apples) == {"apples": 1}
        assert await heard(everything) == {"apples": 1, "pears": 0}
        await pears.send("+5")
        assert await heard(pears) == {"pears": 5}
        assert await heard(everything) == {"apples": 1, "pears": 5}
        assert json.loads((await request(counter.port, "GET", path)).body) == {"apples": 1, "pears": 5}
        await apples.send("many")
        assert "error" in await heard(apples)


async def test_watchers_cannot_open_more_topics_than_there_may_be(counter: Cluster, name: str) -> None:
    """Everybody's attachment holds all that it was told: with more topics it would be refused, for every watcher."""
    path = f"/counter/{name}"
    async with AsyncExitStack() as stack:
        topics = [f"topic-{number:02}-{'x' * 20}" for number in range(32)]
        for topic in topics:
            watcher = await stack.enter_async_context(await opened(counter, f"{path}?topic={topic}"))
            await heard(watcher)
        with pytest.raises(InvalidStatus) as refused:
            await opened(counter, path + "?topic=one-more")
        assert refused.value.response.status_code == 409
        assert (await request(counter.port, "POST", path + "?topic=one-more")).status == 409
        everything = await stack.enter_async_context(await opened(counter, path))
        assert await heard(everything) == dict.fromkeys(topics, 0)
        await watcher.send("999999")
        assert (await heard(everything))[topics[-1]] == 999_999
        await watcher.send("١")  # a digit, and none that is meant
        assert await heard(watcher) == {topics[-1]: 999_999}
        assert "error" in await heard(watcher)


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
