"""The host between its routers: gates, restores, acknowledgements, lost routers, requests, bounds, the end."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import cbor2
import pytest

from roost.common.close_codes import VANISHED
from roost.common.cluster.cluster_map import ClusterMap
from roost.common.cluster.directory import MapWatch
from roost.common.ids import Incarnation, id_from_name
from roost.common.limits import MAILBOX_BYTES, MAILBOX_EVENTS, SLOTS
from roost.common.machine.last_words import LastWords, RunningEvent, read_last_words
from roost.common.wire.records import AcceptMode, ObjectState
from roost.common.wire.remembered import ENTRY_BYTES, Remembered
from roost.shard import Request, Response, WebSocket, WebSocketPair, WebSocketRequestResponsePair
from roost.shard.api.current import current
from roost.shard.events import LastEvents
from roost.shard.host import Host
from roost.shard.moving.release import Release
from roost.shard.objects.hosted import HostedObject
from roost.shard.outgoing.output import Output
from roost.shard.running.reasons import Reason
from tests.support.links import LinkToRouter
from tests.unit.shard.harness import OTHER_SHARD, SHARD, Room, Router, World, on_virtual_time, turns

WORD: contextvars.ContextVar[str] = contextvars.ContextVar("word", default="none")
LOBBY = id_from_name("room", "lobby")


class Echo(Room):
    """Echoes, and notes what it met in the class, so that tests see it from outside."""

    log: list[Any]

    def __init_subclass__(cls) -> None:
        cls.__name__ = "Room"
        cls.log = []

    def web_socket_message(self, ws: WebSocket, message: str | bytes) -> Any:
        self.log.append(("message", message))
        ws.send(message)

    def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> Any:
        self.log.append(("close", code, reason, was_clean))

    def web_socket_error(self, ws: WebSocket, error: Exception) -> Any:
        self.log.append(("error", str(error)))


def statuses(router: Router) -> list[int]:
    return [record[1].status for record in router.take("response")]


# --- acknowledgements ---------------------------------------------------------------------------------------------


@on_virtual_time
async def test_a_message_is_answered_and_acknowledged_in_one_group() -> None:
    class Lobby(Echo): ...

    world = World(Lobby)
    counter = await world.router.connect()
    world.router.take()
    world.router.message(counter, "one")
    world.router.message(counter, b"two")
    await turns()
    assert len(world.router.link.groups) == 1
    assert world.router.take() == [("send", [counter], "one"), ("send", [counter], b"two"), ("ack", [(counter, 1, 2)])]
    assert (world.counters.events, world.counters.sends) == (3, 2)


@on_virtual_time
async def test_handlers_that_interleave_are_acknowledged_as_they_end() -> None:
    class Lobby(Echo):
        async def web_socket_message(self, ws: WebSocket, message: Any) -> None:
            await asyncio.sleep(float(message))

    world = World(Lobby)
    counter = await world.router.connect()
    world.router.take()
    for message in ("3", "1", "2"):
        world.router.message(counter, message)
    await asyncio.sleep(1.5)
    assert world.router.take() == [("ack", [(counter, 2, 2)])]
    await asyncio.sleep(1)
    assert world.router.take() == [("ack", [(counter, 3, 3)])]
    await asyncio.sleep(1)
    assert world.router.take() == [("ack", [(counter, 1, 1)])]


@on_virtual_time
async def test_a_broadcast_is_acknowledged_when_the_other_router_has_confirmed_it() -> None:
    class Lobby(Echo):
        def web_socket_message(self, ws: WebSocket, message: Any) -> None:
            for each in self.ctx.get_web_sockets():
                each.send(message)

    world = World(Lobby, routers=2)
    here, there = world.routers
    mine, theirs = await here.connect(), await there.connect()
    here.link.confirm()
    there.link.confirm()
    await turns()
    for router in world.routers:
        router.take()
    here.message(mine, "news")
    await turns()
    assert here.take() == [("send", [mine], "news")]
    assert there.take() == [("send", [theirs], "news")]
    there.link.confirm()
    await turns()
    assert here.take() == [("ack", [(mine, 1, 1)])]


@on_virtual_time
async def test_events_of_connections_that_are_not_here_are_dropped() -> None:
    world = World()
    world.router.message(77, "late")
    world.router.closed(78)
    await turns()
    assert world.router.take() == [], "an acknowledgement could be taken for one of the same event at a later owner"
    assert world.counters.events_dropped == 2


@on_virtual_time
async def test_without_a_handler_events_are_acknowledged_all_the_same() -> None:
    world = World()
    counter = await world.router.connect()
    world.router.take()
    world.router.message(counter)
    world.router.closed(counter)
    await turns()
    assert world.router.take() == [("ack", [(counter, 1, 2)])]
    assert world.counters.sockets == 0


@on_virtual_time
async def test_a_connection_ends_once_whatever_its_router_says() -> None:
    class Lobby(Echo):
        async def web_socket_close(self, ws: WebSocket, *end: Any) -> None:
            self.log.append(end)
            await asyncio.sleep(0)

    world = World(Lobby)
    counter = await world.router.connect()
    world.router.take()
    world.router.closed(counter, 4000)
    world.router.closed(counter, 4001)
    world.router.failed(counter)
    await turns()
    world.router.closed(counter, 4002)
    await turns()
    assert Lobby.log == [(4000, "", True)]
    acknowledged = {
        seq for record in world.router.take("ack") for _, first, last in record[1] for seq in range(first, last + 1)
    }
    assert acknowledged == {1}


@on_virtual_time
async def test_objects_do_not_inherit_the_context_of_who_woke_them() -> None:
    seen: list[str] = []

    class Lobby(Echo):
        def fetch(self, request: Request) -> Response:
            seen.append(WORD.get())
            return Response("ok")

    world = World(Lobby)
    context = contextvars.copy_context()
    context.run(WORD.set, "somebody's")
    context.run(world.router.request)
    await turns()
    assert seen == ["none"]


# --- requests -----------------------------------------------------------------------------------------------------


@on_virtual_time
async def test_what_was_done_before_the_101_follows_it_in_order() -> None:
    class Lobby(Echo):
        def fetch(self, request: Request) -> Response:
            client, server = WebSocketPair()
            self.ctx.accept_web_socket(server, ["a", "b"])
            server.send("first")
            server.serialize_attachment({"name": "ada"})
            server.send("second")
            server.close(4000, "bye")
            return Response(status=101, web_socket=client, headers={"Sec-WebSocket-Protocol": "chat"})

    world = World(Lobby)
    counter = await world.router.connect()
    records = world.router.take()
    response = records[0][1]
    assert (response.status, response.mode, response.tags) == (101, AcceptMode.HIBERNATABLE, ("a", "b"))
    assert cbor2.loads(response.attachment) == {"name": "ada"}
    assert [record[0] for record in records] == ["response", "send", "send", "close"]
    assert records[1:] == [
        ("send", [counter], "first"),
        ("send", [counter], "second"),
        ("close", counter, 4000, "bye", False),
    ]
    (socket,) = world.object().sockets
    assert (socket.protocol, socket.url) == ("chat", "http://localhost/room/lobby?")


@on_virtual_time
async def test_a_lone_surrogate_sent_before_the_101_hurts_nobody_but_that_fetch() -> None:
    class Lobby(Echo):
        def fetch(self, request: Request) -> Response:
            client, server = WebSocketPair()
            self.ctx.accept_web_socket(server)
            if "bad" in request.query:
                server.send("\ud800")
            return Response(status=101, web_socket=client)

    world = World(Lobby)
    world.router.request(query="bad=1", upgrade=True)
    await turns()
    assert statuses(world.router) == [500]
    counter = await world.router.connect()
    world.router.message(counter, "still here")
    await turns()
    assert ("send", [counter], "still here") in world.router.take()


@pytest.mark.parametrize(
    ("result", "status"),
    [(None, 500), ("text", 500), (Response("fine", 201), 201)],
)
def test_what_fetch_returns_becomes_the_answer(result: Any, status: int) -> None:
    @on_virtual_time
    async def scenario() -> None:
        class Lobby(Echo):
            def fetch(self, request: Request) -> Any:
                return result

        world = World(Lobby)
        world.router.request()
        await turns()
        assert statuses(world.router) == [status]

    scenario()


@on_virtual_time
async def test_a_fetch_that_raises_is_500_and_the_object_goes_on() -> None:
    class Lobby(Echo):
        def fetch(self, request: Request) -> Response:
            if "fail" in request.query:
                raise ValueError("secret")
            return Response("ok")

    world = World(Lobby)
    world.router.request(query="fail=1")
    world.router.request()
    await turns()
    bad, good = (record[1] for record in world.router.take("response"))
    assert (bad.status, good.status) == (500, 200)
    assert b"secret" not in bad.body
    assert world.counters.errors == 1


class Ledger(Room):
    public = False


@on_virtual_time
async def test_a_class_that_is_not_public_is_404_and_makes_no_object() -> None:
    world = World(Room, Ledger)
    world.router.request("x", namespace="ledger")
    await turns()
    assert statuses(world.router) == [404]
    assert world.find("x", "ledger") is None


@on_virtual_time
async def test_a_namespace_that_is_not_hosted_is_404() -> None:
    world = World()
    world.router.request(namespace="nowhere")
    await turns()
    assert statuses(world.router) == [404]


@on_virtual_time
async def test_a_class_without_fetch_answers_501() -> None:
    class Lobby(Echo):
        fetch = None  # type: ignore[assignment]

    world = World(Lobby)
    world.router.request()
    await turns()
    assert statuses(world.router) == [501]


@on_virtual_time
async def test_a_socket_that_is_not_returned_is_dropped_when_its_fetch_ends() -> None:
    class Lobby(Echo):
        async def fetch(self, request: Request) -> Response:
            _, server = WebSocketPair()
            self.ctx.accept_web_socket(server)
            server.send("goes nowhere")
            await asyncio.sleep(float(request.query["wait"]))
            return Response("no")

    world = World(Lobby)
    world.router.request(query="wait=5")
    world.router.request(query="wait=1")
    await asyncio.sleep(2)
    assert Lobby.log == [("close", 1006, VANISHED, False)], "the other fetch has not ended"
    assert len(world.object().sockets) == 1
    await asyncio.sleep(5)
    assert Lobby.log == [("close", 1006, VANISHED, False)] * 2
    assert len(world.object().sockets) == 0
    assert world.object().outbox.size == 0


@on_virtual_time
async def test_a_101_for_a_router_that_has_gone_is_a_connection_that_vanished() -> None:
    class Lobby(Echo):
        async def fetch(self, request: Request) -> Response:
            client, server = WebSocketPair()
            self.ctx.accept_web_socket(server)
            await asyncio.sleep(1)
            asyncio.get_running_loop().call_later(0.5, server.send, "to nobody")
            return Response(status=101, web_socket=client)

    world = World(Lobby, routers=2)
    gone = world.routers[1]
    gone.request(upgrade=True)
    await turns()
    world.lose(gone)
    await asyncio.sleep(3)
    assert Lobby.log == [("close", 1006, VANISHED, False)]
    assert world.counters.sockets == 0


@on_virtual_time
async def test_a_socket_of_another_object_or_one_dropped_before_cannot_be_returned() -> None:
    kept: list[Any] = []

    class Lobby(Echo):
        def fetch(self, request: Request) -> Response:
            if "keep" in request.query:
                client, server = WebSocketPair()
                self.ctx.accept_web_socket(server)
                kept.append(client)
                if "wait" in request.query:
                    return asyncio.sleep(10, Response("late"))  # type: ignore[return-value]
                return Response("kept")
            return Response(status=101, web_socket=kept.pop())

    world = World(Lobby)
    world.router.request(query="keep=1")
    await turns()
    world.router.request(upgrade=True)
    await turns()
    assert statuses(world.router) == [200, 500]
    world.router.request("other", query="keep=1&wait=1")
    await turns()
    world.router.request("lobby", upgrade=True)
    await turns()
    assert statuses(world.router) == [500]
    assert world.counters.sockets == 0


# --- what objects have set ----------------------------------------------------------------------------------------


class Setter(Echo):
    """Sets the auto-response that the query or message says."""

    def fetch(self, request: Request) -> Any:
        if "set" in request.query:
            self.web_socket_message(None, request.query["set"])  # type: ignore[arg-type]
            return Response("set")
        return Room.fetch(self, request)

    def web_socket_message(self, ws: WebSocket, message: Any) -> None:
        if message == "abort":
            self.ctx.abort()
        pair = WebSocketRequestResponsePair("ping", message) if message else None
        self.ctx.set_web_socket_auto_response(pair)


@on_virtual_time
async def test_a_router_is_told_before_its_first_101_and_at_each_change() -> None:
    class Lobby(Setter): ...

    world = World(Lobby, routers=2)
    here, there = world.routers
    here.request(query="set=pong")
    await turns()
    told = [("object_state", 1, 0, ("ping", "pong"))]
    assert here.take("object_state") == there.take("object_state") == told, "they remember it for the next owner"
    counter = await here.connect()
    assert [record[0] for record in here.take()] == ["object_state", "response"]
    await here.connect()
    assert here.take("object_state") == [], "it knows"
    here.message(counter, "other")
    await turns()
    assert here.take("object_state") == [("object_state", 2, 0, ("ping", "other"))]
    await there.connect()
    assert there.take("object_state") == 2 * [("object_state", 2, 0, ("ping", "other"))], "it may have had no room"


@on_virtual_time
async def test_a_router_that_has_forgotten_the_object_is_told_again() -> None:
    """With the last connection of an object a router forgets what it has set."""

    class Lobby(Setter): ...

    world = World(Lobby)
    world.router.request(query="set=pong")
    first, second = await world.router.connect(), await world.router.connect()
    world.router.closed(first)
    await turns()
    world.router.take()
    await world.router.connect()
    assert world.router.take("object_state") == [], "another one was there all the time"
    for counter in (second, second + 1):
        world.router.closed(counter)
    await turns()
    await world.router.connect()
    assert world.router.take("object_state") == [("object_state", 1, 0, ("ping", "pong"))]


@on_virtual_time
async def test_a_reset_unsets_and_routers_hear_it_before_the_close() -> None:
    class Lobby(Setter): ...

    world = World(Lobby)
    world.router.request(query="set=pong")
    counter = await world.router.connect()
    world.router.take()
    world.router.message(counter, "abort")
    await turns()
    records = world.router.take()
    assert records[0] == ("object_state", 2, 0, None)
    assert records[1][:3] == ("close", counter, 1011)


@on_virtual_time
async def test_what_a_later_life_of_a_forgotten_object_sets_counts_above_the_former() -> None:
    class Lobby(Setter): ...

    world = World(Lobby, hibernate_after_s=1.0)
    for text in ("a", "b", ""):
        world.router.request(query=f"set={text}")
    await asyncio.sleep(5)
    assert world.find() is None
    assert [record[1:] for record in world.router.take("object_state")][-1] == (3, 0, None)
    world.router.request(query="set=c")
    await world.router.connect()
    assert set(world.router.take("object_state")) == {("object_state", 4, 0, ("ping", "c"))}


@on_virtual_time
async def test_what_an_object_has_set_outlives_its_sockets_and_its_memory() -> None:
    class Lobby(Setter): ...

    world = World(Lobby, hibernate_after_s=1.0)
    world.router.request(query="set=pong")
    await turns()
    world.object().set_event_timeout(700)
    await asyncio.sleep(5)
    assert world.find() is None
    world.host.count_objects()
    assert world.counters.settings_remembered == 1
    await world.router.connect()
    assert world.object().auto_response == ("ping", "pong")
    assert world.object().event_timeout_ms == 700


@on_virtual_time
async def test_what_an_object_has_set_is_forgotten_when_there_is_too_much() -> None:
    class Lobby(Setter): ...

    world = World(Lobby, hibernate_after_s=1.0)
    world.host.remembered = Remembered(2 * ENTRY_BYTES + 100)
    for name in ("a", "b", "c"):
        world.router.request(name, "set=pong")
        await asyncio.sleep(5)
    world.host.count_objects()
    assert (world.counters.settings_remembered, world.counters.settings_forgotten) == (2, 1)
    for name, pair in (("a", None), ("b", ("ping", "pong")), ("c", ("ping", "pong"))):
        await world.router.connect(name)
        assert world.object(name).auto_response == pair


@on_virtual_time
async def test_what_an_object_without_sockets_has_set_comes_from_routers_to_its_next_owner() -> None:
    class Lobby(Setter): ...

    world = World(Lobby, routers=2, restored=False)
    here, there = world.routers
    here.events.object_state(ObjectState(LOBBY, 4, 100, ("ping", "old")))
    here.restored()
    there.events.object_state(ObjectState(LOBBY, 7, 700, ("ping", "pong")))
    there.restored()
    await turns()
    told = ("object_state", 7, 700, ("ping", "pong"))
    assert here.take("object_state") == [told], "it had an older one"
    assert there.take("object_state") == []
    late = world.add_router()
    late.restored()
    await turns()
    assert late.take("object_state") == [told], "one day it may be the only one that is left"
    await here.connect()
    assert (world.object().auto_response, world.object().event_timeout_ms) == (("ping", "pong"), 700)


@on_virtual_time
async def test_what_is_remembered_goes_with_the_slot() -> None:
    class Lobby(Setter): ...

    world = World(Lobby, hibernate_after_s=1.0)
    world.router.link.prompt = True
    world.router.request(query="set=pong")
    await asyncio.sleep(5)
    assert world.find() is None
    world.send_away("lobby")
    await turns()
    assert world.released
    assert len(world.host.remembered) == 0


# --- slots and restores -------------------------------------------------------------------------------------------


@on_virtual_time
async def test_nothing_starts_before_every_router_has_restored_the_slot() -> None:
    class Lobby(Echo):
        def __init__(self, ctx: Any, env: Any) -> None:
            super().__init__(ctx, env)
            self.log.append(("awake with", len(ctx.get_web_sockets())))

    world = World(Lobby, routers=2, restored=False)
    here, there = world.routers
    here.restore(5, ordinal=4)
    here.message(5, "waiting")
    here.request("lobby", upgrade=True)  # from an earlier stay of the slot: it comes again
    here.restored()
    here.request("lobby", upgrade=True)
    await turns()
    assert Lobby.log == []
    there.restore(6, ordinal=2)
    there.message(6, "from there")
    there.restored("elsewhere")
    await turns()
    assert Lobby.log == []
    there.restored("lobby")
    await turns()
    assert Lobby.log == [("awake with", 2), ("message", "waiting"), ("message", "from there")]
    assert statuses(here) == [101]


@on_virtual_time
async def test_a_router_that_dies_before_it_has_restored_is_not_waited_for() -> None:
    class Lobby(Echo): ...

    world = World(Lobby, routers=2, restored=False)
    here, there = world.routers
    here.restore(5)
    here.message(5, "hello")
    here.restored()
    there.restore(6)
    await turns()
    assert world.counters.slots_waiting > 0
    world.lose(there)
    await turns()
    assert world.counters.slots_waiting == 0
    assert sorted(Lobby.log) == [("close", 1006, VANISHED, False), ("message", "hello")]


@on_virtual_time
async def test_a_router_that_joins_later_closes_no_gate() -> None:
    class Lobby(Echo): ...

    world = World(Lobby)
    counter = await world.router.connect()
    late = world.add_router()
    world.router.message(counter, "hello")
    await turns()
    assert Lobby.log == [("message", "hello")]
    await late.connect()
    assert statuses(late) == [101]


@on_virtual_time
async def test_restored_sockets_are_as_they_were_in_the_order_of_accepts() -> None:
    class Lobby(Echo):
        def web_socket_message(self, ws: WebSocket, message: Any) -> None:
            for each in self.ctx.get_web_sockets():
                self.log.append((each.deserialize_attachment(), self.ctx.get_tags(each), each.ready_state, each.url))
            self.log.append([each.deserialize_attachment() for each in self.ctx.get_web_sockets("x")])
            self.log.append(self.ctx.get_web_socket_auto_response_timestamp(ws).timestamp())  # type: ignore[union-attr]

    world = World(Lobby, restored=False)
    url = "http://localhost/room/lobby"
    world.router.restore(7, ordinal=9, attachment=cbor2.dumps("new"), tags=("x", "y"), auto_response_time=12.5)
    world.router.restore(8, ordinal=3, attachment=cbor2.dumps("old"), tags=("x",), closed_by_object=True)
    world.router.restored()
    world.router.message(7, "list")
    await turns()
    assert Lobby.log == [("new", ["x", "y"], 1, url), ("old", ["x"], 2, url), ["old", "new"], 12.5]
    counter = await world.router.connect()
    assert world.router.peer.sockets[counter].ordinal > 9, "those accepted now come behind all"


@on_virtual_time
async def test_the_highest_revision_of_a_restored_object_wins_and_all_routers_learn_it() -> None:
    class Lobby(Setter): ...

    world = World(Lobby, routers=3, restored=False)
    for number, (router, revision) in enumerate(zip(world.routers, (4, 7, 5), strict=True)):
        router.restore(number + 1)
        router.events.object_state(ObjectState(LOBBY, revision, 100 * revision, ("ping", f"pong{revision}")))
        router.restored()
    await turns()
    for router in world.routers:
        assert set(router.take("object_state")) == {("object_state", 7, 700, ("ping", "pong7"))}
    world.router.request(query="set=x")
    await turns()
    assert world.routers[1].take("object_state")[0][1] == 8


@on_virtual_time
async def test_a_router_with_sockets_learns_what_one_without_remembers() -> None:
    """The shard before died when it had told one of them and not the other."""

    class Lobby(Setter): ...

    world = World(Lobby, routers=2, restored=False)
    holder, other = world.routers
    holder.restore(1)
    holder.restored()
    other.events.object_state(ObjectState(LOBBY, 4, 100, ("ping", "pong")))
    other.restored()
    await turns()
    assert holder.take("object_state") == [("object_state", 4, 100, ("ping", "pong"))]


@on_virtual_time
async def test_a_connection_of_a_namespace_that_is_gone_is_closed_for_good() -> None:
    world = World(restored=False)
    world.router.restore(5, namespace="retired")
    assert [record[:3] + record[4:] for record in world.router.take()] == [("close", 5, 1011, True)]


# --- a router is lost ---------------------------------------------------------------------------------------------


@on_virtual_time
async def test_each_connection_of_a_lost_router_closes_with_1006_exactly_once() -> None:
    class Lobby(Echo): ...

    world = World(Lobby, routers=2)
    here, gone = world.routers
    await here.connect()
    for _ in range(2):
        await gone.connect()
    world.lose(gone)
    await turns()
    assert Lobby.log == [("close", 1006, VANISHED, False)] * 2
    assert len(world.object().sockets) == 1
    assert world.counters.sockets == 1
    world.publish()
    await turns()
    assert len(Lobby.log) == 2


@on_virtual_time
async def test_a_close_that_waits_or_runs_when_its_router_is_lost_is_the_only_one() -> None:
    class Lobby(Echo):
        def fetch(self, request: Request) -> Any:
            if "block" in request.query:
                self.ctx.block_concurrency_while(lambda: asyncio.sleep(5))
                return Response("blocked")
            return Room.fetch(self, request)

        async def web_socket_close(self, ws: WebSocket, *end: Any) -> None:
            self.log.append(end)
            await asyncio.sleep(3)

    world = World(Lobby, routers=2)
    here, gone = world.routers
    running = await gone.connect()
    waiting, silent = await gone.connect(), await gone.connect()
    gone.closed(running, 4000)
    await turns()
    here.request(query="block=1")
    await turns()
    gone.closed(waiting, 4001)
    await turns()
    world.lose(gone)
    await asyncio.sleep(20)
    assert Lobby.log == [(4000, "", True), (4001, "", True), (1006, VANISHED, False)]
    assert silent not in (waiting, running)
    assert world.counters.sockets == 0


@on_virtual_time
async def test_sends_to_connections_of_a_lost_router_go_nowhere() -> None:
    class Lobby(Echo):
        def web_socket_message(self, ws: WebSocket, message: Any) -> None:
            for each in self.ctx.get_web_sockets():
                each.send(message)
                each.serialize_attachment(1)

    world = World(Lobby, routers=2)
    here, gone = world.routers
    counter = await here.connect()
    await gone.connect()
    here.take()
    here.message(counter, "x")
    world.lose(gone)
    await turns()
    assert ("send", [counter], "x") in here.take()


# --- bounds -------------------------------------------------------------------------------------------------------


class Stalled(Echo):
    """Its handlers wait until the gate opens."""

    gate: asyncio.Event

    async def web_socket_message(self, ws: WebSocket, message: Any) -> None:
        await type(self).gate.wait()


@pytest.mark.parametrize(("size", "fits"), [(0, MAILBOX_EVENTS), (1 << 20, MAILBOX_BYTES >> 20)])
def test_a_full_mailbox_holds_the_clients_until_it_is_half_empty(size: int, fits: int) -> None:
    @on_virtual_time
    async def scenario() -> None:
        class Lobby(Stalled): ...

        Lobby.gate = asyncio.Event()
        world = World(Lobby, routers=2)
        counter = await world.router.connect()
        for router in world.routers:
            router.link.confirm()
            router.take()
        for _ in range(fits):
            world.router.message(counter, bytes(size))
        await asyncio.sleep(1)
        assert world.router.take("hold") == []
        world.router.message(counter, b"one more")
        for router in world.routers:
            assert router.take("hold") == [("hold", LOBBY, True)]
        late = world.add_router()
        assert late.take("hold") == [("hold", LOBBY, True)]
        await asyncio.sleep(1)
        activation = world.object().activation
        assert activation is not None
        jobs = sorted(activation.jobs, key=lambda job: job.seq)
        assert len(jobs) == fits + 1
        for job in jobs[: fits // 2]:
            job.cancel(Reason.TOO_LONG)
        await asyncio.sleep(1)
        assert world.router.take("hold") == []
        jobs[fits // 2].cancel(Reason.TOO_LONG)
        await asyncio.sleep(1)
        for router in world.routers:
            assert router.take("hold") == [("hold", LOBBY, False)]
        Lobby.gate.set()
        await asyncio.sleep(1)

    scenario()


# --- the end ------------------------------------------------------------------------------------------------------


def ending(world: World) -> list[LastEvents]:
    return [LastEvents(router.peer) for router in world.routers]


@on_virtual_time
async def test_at_the_end_handlers_may_end_and_the_rest_is_left_to_the_next_owner() -> None:
    class Lobby(Echo):
        async def web_socket_message(self, ws: WebSocket, message: Any) -> None:
            self.log.append(message)
            await asyncio.sleep(float(message))
            ws.send(message)

    world = World(Lobby)
    counter = await world.router.connect()
    world.router.take()
    world.router.message(counter, "1")
    world.router.message(counter, "60")
    end = asyncio.ensure_future(world.host.aclose(5.0))
    (sink,) = ending(world)
    await turns()
    sink.message(counter, 3, 0, "too late")
    sink.closed(counter, 4, 0, 1000, "", True)
    begin = world.loop.time()
    await asyncio.sleep(5.5)
    assert Lobby.log == ["1", "60"]
    assert world.router.take() == [("send", [counter], "1"), ("ack", [(counter, 1, 1)])]
    world.router.link.confirm()
    await end
    assert world.loop.time() - begin < 6.5
    assert len(world.object().sockets) == 1, "it is the next owner's"


@on_virtual_time
async def test_at_the_end_a_request_is_refused_and_not_begun() -> None:
    class Lobby(Echo): ...

    world = World(Lobby)
    await world.router.connect()
    world.router.take()
    request = LastRequest()
    ending(world)[0].request(request.record)
    assert statuses(world.router) == [503]


class LastRequest:
    """A request made by hand: the harness hands its own to another sink."""

    def __init__(self) -> None:
        from roost.common.wire.records import HttpRequest

        self.record = HttpRequest(1, 0, LOBBY, "room", "lobby", "GET", "http://localhost/room/lobby", [], b"")


@on_virtual_time
async def test_the_end_waits_for_routers_to_confirm_but_not_for_ever() -> None:
    class Lobby(Echo): ...

    world = World(Lobby)
    counter = await world.router.connect()
    world.router.message(counter, "x")
    begin = world.loop.time()
    end = asyncio.ensure_future(world.host.aclose(5.0))
    await asyncio.sleep(0.5)
    assert not end.done()
    world.router.link.confirm()
    await end
    assert world.loop.time() - begin == pytest.approx(0.5)
    world.router.link.session.sent += 1
    await world.host.aclose(5.0)
    assert world.loop.time() - begin == pytest.approx(5.5)


@on_virtual_time
async def test_the_end_resets_no_object_that_is_blocked() -> None:
    class Lobby(Echo):
        def fetch(self, request: Request) -> Any:
            if "block" in request.query:
                self.ctx.block_concurrency_while(lambda: asyncio.sleep(20))
                return Response("blocked")
            return Room.fetch(self, request)

    world = World(Lobby)
    counter = await world.router.connect()
    world.router.request(query="block=1")
    await turns()
    world.router.message(counter, "waits")
    world.router.take()
    world.router.link.confirm()
    await world.host.aclose(0.1)
    assert world.router.take() == []
    assert world.counters.resets == 0


def test_a_fake_link_counts_what_left() -> None:
    link = LinkToRouter()
    link.flush()
    assert link.session.sent == 0
    link.writer.hold(LOBBY, True)
    link.flush()
    assert (link.session.sent, link.take()) == (1, [("hold", LOBBY, True)])


@on_virtual_time
async def test_output_leaves_in_the_runtimes_context_whoever_sent_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lobby(Echo): ...

    world = World(Lobby)
    counter = await world.router.connect()
    contexts: list[Any] = []
    flush = world.router.link.flush
    monkeypatch.setattr(world.router.link, "flush", lambda: (contexts.append(current.get()), flush()))
    world.router.message(counter, "x")
    await turns()
    assert contexts
    assert set(contexts) == {None}, "a task that begins there would be taken for one of the object's"


@on_virtual_time
async def test_output_that_was_cut_off_ends_the_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lobby(Echo): ...

    world = World(Lobby)
    counter = await world.router.connect()
    defects: list[Exception] = []
    world.host.errors.on_defect = defects.append
    monkeypatch.setattr(world.router.link, "flush", mock.Mock(side_effect=MemoryError))
    world.router.message(counter, "x")
    await turns()
    assert [type(error) for error in defects] == [MemoryError]
    world.loop.faults.clear()


@on_virtual_time
async def test_an_error_of_our_own_ends_the_shard_wherever_it_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a flush that a move, an acknowledgement or a router's news brings about, by a timer, at a handler's end."""
    for module, name in (
        (Output, "flush"),
        (Release, "_settle"),
        (Host, "_set_sleep_timer"),
        (HostedObject, "finished"),
    ):
        world = World()
        defects: list[Exception] = []
        world.host.errors.on_defect = defects.append
        counter = await world.router.connect()
        with monkeypatch.context() as patch:
            patch.setattr(module, name, mock.Mock(side_effect=ValueError(name)))
            world.router.message(counter, "x")
            if module is Release:
                world.send_away("lobby")
            await asyncio.sleep(60)
        assert [str(error) for error in defects][:1] == [name]
        world.loop.faults.clear()


@on_virtual_time
async def test_an_error_of_the_users_code_ends_no_shard() -> None:
    class Careless(Echo):
        def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            loop = asyncio.get_running_loop()
            loop.call_soon(lambda: 1 / 0)
            loop.call_soon(ws.send)  # the argument is missing
            loop.call_soon(ws.close, 1006)
            self.task = loop.create_task(self.fail())

        async def fail(self) -> None:
            raise KeyError("mine")

    world = World(Careless)
    world.host.errors.on_defect = lambda error: pytest.fail(f"taken for a defect: {error!r}")
    counter = await world.router.connect()
    world.router.message(counter, "x")
    await turns()
    assert world.counters.errors >= 3
    world.loop.faults.clear()


@on_virtual_time
async def test_a_map_that_gives_slots_away_unreleased_is_not_served_past() -> None:
    """Two owners would serve them: the shard must end, not go on with the map before."""
    world = World()
    defects: list[Exception] = []
    world.host.errors.on_defect = defects.append

    async def changes() -> AsyncIterator[ClusterMap]:
        yield ClusterMap(world.version, world.members, (SHARD,) * SLOTS)
        yield ClusterMap(world.version + 1, world.members, (OTHER_SHARD,) * SLOTS)

    directory = mock.Mock(changes=changes)
    watch = MapWatch(directory, partial(world.host.follow, links={Incarnation(1): world.router.link}))  # type: ignore[dict-item]
    await watch.start()
    await asyncio.sleep(1)
    assert "gives 4096 slots away that were not released" in str(defects[0])
    await watch.aclose()
    world.loop.faults.clear()


@on_virtual_time
async def test_a_router_that_attaches_later_hears_that_an_object_is_held() -> None:
    class Slow(Echo):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            await asyncio.sleep(60)

    world = World(Slow, routers=2, restored=False)
    here, there = world.routers
    here.restore(5)
    for _ in range(MAILBOX_EVENTS + 1):
        here.message(5, "x")
    here.restored()
    assert there.take("hold") == [("hold", LOBBY, True)], "it drops that, having attached nothing yet"
    there.restored()
    assert there.take("hold") == [("hold", LOBBY, True)]


# --- last words ---------------------------------------------------------------------------------------------------


@on_virtual_time
async def test_the_event_whose_code_runs_is_noted_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "shard-1-9.running"
    seen: list[Any] = []

    class Noted(Room):
        def __init__(self, ctx: Any, env: Any) -> None:
            super().__init__(ctx, env)
            seen.append(read_last_words(path))

        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            seen.append(read_last_words(path))
            await asyncio.sleep(1)
            seen.append(read_last_words(path))

    def noted() -> list[RunningEvent | None]:
        return [None if said is None else said.running for said in seen]

    def waiting() -> set[RunningEvent]:
        said = read_last_words(path)
        assert said is not None
        assert said.running is None
        return set(said.waiting)

    Noted.__name__ = "Room"
    world = World(Noted, last_words=LastWords(path))
    first, second = await world.router.connect("one"), await world.router.connect("two")
    constructed, seen[:] = noted(), []
    assert constructed == [RunningEvent(Incarnation(0), 0, 0, id_from_name("room", name)) for name in ("one", "two")]
    world.router.message(first)
    world.router.message(second)
    await turns()
    router = world.router.link.remote
    one = RunningEvent(router, first, 1, id_from_name("room", "one"))
    two = RunningEvent(router, second, 1, id_from_name("room", "two"))
    assert waiting() == {one, two}, "both wait"
    await asyncio.sleep(2)
    assert waiting() == set()
    assert noted()[:2] == [one, two]
    assert sorted(noted()[2:], key=lambda event: event.connection if event else 0) == [one, two], "at the same moment"


@on_virtual_time
async def test_an_event_is_at_work_until_all_that_it_has_started_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "shard-1-9.running"
    running: list[Any] = []

    class Leaving(Room):
        def __init__(self, ctx: Any, env: Any) -> None:
            super().__init__(ctx, env)
            self.left: list[asyncio.Task[None]] = []

        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            if message == "task":
                self.left.append(asyncio.create_task(self.later(1)))
            elif message == "nested":
                self.left.append(asyncio.create_task(self.nested()))
            elif message == "wait_until":
                self.ctx.wait_until(self.later(1))
            elif message == "wait":
                await self.later(1)

        async def nested(self) -> None:
            self.left.append(asyncio.create_task(self.later(2)))

        async def later(self, seconds: float) -> None:
            await asyncio.sleep(seconds)
            said = read_last_words(path)
            assert said is not None
            running.append(said.running)

    Leaving.__name__ = "Room"
    world = World(Leaving, last_words=LastWords(path))
    number = await world.router.connect("one")
    router, one = world.router.link.remote, id_from_name("room", "one")

    def waiting() -> set[int]:
        said = read_last_words(path)
        assert said is not None
        assert all(each.object_id == one and each.router == router for each in said.waiting)
        return {each.seq for each in said.waiting}

    for message in ("task", "nested", "wait_until", "wait", "nothing"):
        world.router.message(number, message)
    await turns()
    assert waiting() == {1, 2, 3, 4}
    await asyncio.sleep(1.5)
    assert waiting() == {2}
    await asyncio.sleep(1)
    assert waiting() == set()
    assert sorted(event.seq for event in running) == [1, 2, 3, 4], "each step is noted as the event's own"
    said = read_last_words(path)
    assert said is not None
    assert said.running is None


@on_virtual_time
async def test_a_handler_that_is_given_up_and_a_shard_that_ends_leave_no_suspects(tmp_path: Path) -> None:
    path = tmp_path / "shard-1-9.running"

    class Stubborn(Room):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            if message == "reset":
                self.ctx.abort("enough")
            while True:
                try:
                    await asyncio.sleep(10)
                except asyncio.CancelledError:
                    pass

    Stubborn.__name__ = "Room"
    world = World(Stubborn, last_words=LastWords(path))
    one, two = await world.router.connect("one"), await world.router.connect("two")
    for number in (one, two):
        world.router.message(number, "wait")
    await turns()

    def waiting() -> set[int]:
        said = read_last_words(path)
        assert said is not None
        return {each.connection for each in said.waiting}

    assert waiting() == {one, two}
    world.router.message(one, "reset")
    await asyncio.sleep(5)
    assert waiting() == {two}
    await world.host.aclose(1.0)
    assert waiting() == set()


@on_virtual_time
async def test_the_end_of_thousands_of_handlers_is_awaited_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Echo):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            await asyncio.sleep(float(message))

    world = World(Slow)
    counter = await world.router.connect()
    for number in range(300):
        world.router.message(counter, str(0.01 * number))
    await turns()
    waits: list[int] = []
    wait = asyncio.wait

    async def noted(tasks: set[asyncio.Task[None]], **options: Any) -> Any:
        waits.append(len(tasks))
        return await wait(tasks, **options)

    monkeypatch.setattr(asyncio, "wait", noted)
    world.router.link.prompt = True
    world.router.link.confirm()
    await world.host.aclose(10)
    assert sum(waits) < 2 * 300, "each time that one ends all others would be looked at again"


@pytest.mark.parametrize(("character", "width"), [("x", 1), ("é", 1), ("漢", 2), ("😀", 4)])
@on_virtual_time
async def test_a_mailbox_holds_no_more_memory_than_its_bound(character: str, width: int) -> None:
    """Four bytes a character are four times the bytes: the bound is of memory, not of characters."""

    class Slow(Echo):
        async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
            await asyncio.sleep(60)

    world = World(Slow)
    counter = await world.router.connect()
    message = character * 20_000
    held = 0
    while not world.router.take("hold"):
        world.router.message(counter, message)
        held += 1
        await turns()
    assert (held - 1) * width * len(message) <= MAILBOX_BYTES < held * (width * len(message) + 100)
