"""Both ends of a pair inside the object: what one says, the other hears."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from roost.common.errors import AlreadyAccepted, NotAccepted, OutboxFull, SocketClosed
from roost.common.limits import OUTBOX_BYTES
from roost.shard import Request, Response, WebSocket, WebSocketPair, WebSocketRequestResponsePair
from tests.unit.shard.harness import Room, World, on_virtual_time, turns

Said = list[Any]


class Lab(Room):
    """Does what a test says, and notes what its handlers hear."""

    heard: Said
    last: Any

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self.heard = []

    async def fetch(self, request: Request) -> Any:
        step = STEPS[0]
        result = step(self)
        if asyncio.iscoroutine(result):
            result = await result
        return result if isinstance(result, Response) else Response("done")

    def web_socket_message(self, ws: WebSocket, message: Any) -> Any:
        self.heard.append(("message", message))
        if message == "sync close":
            ws.close(4001, "mine")
        return self.later(ws, message) if message == "echo later" else None

    async def later(self, ws: WebSocket, message: Any) -> None:
        await asyncio.sleep(1)
        ws.send(message)

    async def take_long(self, ws: WebSocket) -> None:
        await asyncio.sleep(30)
        ws.send("too late")
        ws.close(4009, "too late")
        self.heard.append("done")

    def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> Any:
        if reason == "take long":
            return self.take_long(ws)
        self.heard.append(("close", code, reason, was_clean, ws.ready_state, ws in self.ctx.get_web_sockets()))
        if reason == "answer me":
            ws.send("last words")
            ws.close(4002, "answered")
        return None

    def web_socket_error(self, ws: WebSocket, error: Any) -> None:
        self.heard.append(("error", str(error)))


Lab.__name__ = "Room"
STEPS: list[Any] = [None]


def hears(ws: WebSocket, name: str, into: Said) -> WebSocket:
    """Note the events of a standard end."""
    ws.add_event_listener("message", lambda event: into.append((name, event.data)))
    ws.add_event_listener(
        "close",
        lambda event: into.append((name, "close", event.code, event.reason, event.was_clean, ws.ready_state)),
    )
    return ws


async def do(step: Any, seconds: float = 2.0, world: World | None = None) -> tuple[World, Any]:
    """Have the object call *step* in a fetch, and let what follows happen; the world and the response."""
    world = world or World(Lab)
    STEPS[0] = step
    world.router.request()
    await asyncio.sleep(seconds)
    (record,) = world.router.take("response")
    return world, record[1]


def both(lab: Lab, how: str) -> tuple[WebSocket, WebSocket]:
    client, server = WebSocketPair()
    if how == "hib":
        lab.ctx.accept_web_socket(server, ["mine"])
    elif how == "std":
        hears(server, "server", lab.heard).accept()
    hears(client, "client", lab.heard).accept()
    if how == "client first":
        hears(server, "server", lab.heard).accept()
    return client, server


@pytest.mark.parametrize("how", ["hib", "std", "client first"])
def test_messages_go_both_ways_in_their_order(how: str) -> None:
    @on_virtual_time
    async def scenario() -> None:
        def step(lab: Lab) -> None:
            client, server = both(lab, how)
            for each in ("one", b"\x00two", 3, {4: "four"}):
                client.send(each)
            server.send("five")
            server.send(b"six")
            assert lab.heard == [], "events come after the handler"

        world, response = await do(step)
        assert response.status == 200
        heard = world.instance().heard
        name = "message" if how == "hib" else "server"
        assert [what for what in heard if what[0] == name] == [
            (name, "one"),
            (name, b"\x00two"),
            (name, "3"),
            (name, '{"4":"four"}'),
        ]
        assert [what for what in heard if what[0] == "client"] == [("client", "five"), ("client", b"six")]
        assert world.router.take() == [], "no router hears of it"

    scenario()


def test_what_was_sent_before_the_other_end_was_accepted_is_passed_on() -> None:
    @on_virtual_time
    async def scenario() -> None:
        def step(lab: Lab) -> None:
            client, server = WebSocketPair()
            lab.ctx.accept_web_socket(server)
            server.send("early")
            server.close(4000, "and closed")
            hears(client, "client", lab.heard).accept()

        world, _ = await do(step)
        assert world.instance().heard == [
            ("client", "early"),
            ("client", "close", 4000, "and closed", True, 3),
            ("close", 4000, "and closed", True, 3, True),
        ]
        (owner,) = world.host.objects
        assert owner.outbox.size == 0

    scenario()


@pytest.mark.parametrize("how", ["hib", "std"])
def test_the_client_end_closes(how: str) -> None:
    @on_virtual_time
    async def scenario() -> None:
        def step(lab: Lab) -> None:
            client, server = both(lab, how)
            lab.last = (client, server)
            client.send("before")
            client.close(4000, "bye")
            assert client.ready_state == 2
            with pytest.raises(SocketClosed):
                client.send("after")
            client.close(4001, "a second one is ignored")

        world, _ = await do(step)
        lab = world.instance()
        if how == "hib":
            assert lab.heard == [
                ("message", "before"),
                ("close", 4000, "bye", True, 2, True),
                ("client", "close", 4000, "bye", True, 3),
            ]
        else:
            assert lab.heard == [
                ("server", "before"),
                ("server", "close", 4000, "bye", True, 3),
                ("client", "close", 4000, "bye", True, 3),
            ]
        client, server = lab.last
        assert (client.ready_state, server.ready_state) == (3, 2 if how == "hib" else 3)
        assert lab.ctx.get_web_sockets() == []

    scenario()


@on_virtual_time
async def test_a_close_handler_may_answer_with_its_own_code_and_send_before() -> None:
    def step(lab: Lab) -> None:
        client, _ = both(lab, "hib")
        client.close(4000, "answer me")

    world, _ = await do(step)
    assert world.instance().heard == [
        ("close", 4000, "answer me", True, 2, True),
        ("client", "last words"),
        ("client", "close", 4002, "answered", True, 3),
    ]


@on_virtual_time
async def test_a_close_handler_that_takes_long_does_not_keep_the_other_end() -> None:
    def step(lab: Lab) -> None:
        client, _ = both(lab, "hib")
        client.close(4000, "take long")

    world, _ = await do(step, seconds=9)
    lab = world.instance()
    assert lab.heard == []
    await asyncio.sleep(2)
    assert lab.heard == [("client", "close", 4000, "take long", True, 3)]
    await asyncio.sleep(22)
    assert lab.heard[1:] == ["done"]
    (owner,) = world.host.objects
    assert owner.outbox.size == 0


@pytest.mark.parametrize("how", ["hib", "std"])
def test_the_server_end_closes(how: str) -> None:
    @on_virtual_time
    async def scenario() -> None:
        def step(lab: Lab) -> None:
            _, server = both(lab, how)
            lab.last = server
            server.close(4000, "enough")
            if how == "hib":
                assert lab.ctx.get_web_sockets("mine") == [server]

        world, _ = await do(step)
        lab = world.instance()
        told = (
            ("close", 4000, "enough", True, 3, True) if how == "hib" else ("server", "close", 4000, "enough", True, 3)
        )
        assert lab.heard == [("client", "close", 4000, "enough", True, 3), told]
        with pytest.raises(SocketClosed):
            lab.last.send("after")
        assert lab.ctx.get_web_sockets() == []

    scenario()


@on_virtual_time
async def test_a_close_without_a_code_is_1005() -> None:
    def step(lab: Lab) -> None:
        client, _ = both(lab, "hib")
        client.close()

    world, _ = await do(step)
    assert world.instance().heard == [("close", 1005, "", True, 2, True), ("client", "close", 1005, "", True, 3)]


@on_virtual_time
async def test_both_close_at_once() -> None:
    def step(lab: Lab) -> None:
        client, server = both(lab, "std")
        client.close(4001)
        server.close(4002)

    world, _ = await do(step)
    assert world.instance().heard == [
        ("server", "close", 4001, "", True, 3),
        ("client", "close", 4002, "", True, 3),
    ]


@on_virtual_time
async def test_handlers_that_answer_later_and_close_in_a_message() -> None:
    def step(lab: Lab) -> None:
        client, _ = both(lab, "hib")
        client.send("echo later")
        client.send("sync close")
        client.send("behind")

    world, _ = await do(step, seconds=3)
    heard = world.instance().heard
    assert ("client", "close", 4001, "mine", True, 3) in heard
    assert ("message", "behind") in heard, "it was on its way before the close"
    assert ("client", "echo later") not in heard, "send() after close()"


@on_virtual_time
async def test_an_automatic_response_answers_a_hibernatable_end() -> None:
    def step(lab: Lab) -> None:
        lab.ctx.set_web_socket_auto_response(WebSocketRequestResponsePair("ping", "pong"))
        client, server = both(lab, "hib")
        client.send("ping")
        client.send("not ping")
        assert lab.ctx.get_web_socket_auto_response_timestamp(server) is not None

    world, _ = await do(step)
    assert world.instance().heard == [("client", "pong"), ("message", "not ping")]


@on_virtual_time
async def test_the_instance_stays_as_long_as_both_are_open_and_no_longer() -> None:
    def step(lab: Lab) -> None:
        lab.last = both(lab, "hib")

    world, _ = await do(step, world=World(Lab, hibernate_after_s=1.0))
    lab = world.instance()
    await asyncio.sleep(30)
    assert world.instance() is lab
    lab.last[0].close()
    lab.last = None
    await asyncio.sleep(30)
    (owner,) = [*world.host.objects] or [None]
    assert owner is None or owner.activation is None


@on_virtual_time
async def test_attachments_and_tags_work_and_go_nowhere() -> None:
    def step(lab: Lab) -> None:
        client, server = both(lab, "hib")
        server.serialize_attachment({"a": 1})
        client.serialize_attachment([2])
        assert (server.deserialize_attachment(), client.deserialize_attachment()) == ({"a": 1}, [2])
        assert lab.ctx.get_tags(server) == ["mine"]
        assert (server.url, server.protocol) == (None, "")

    world, response = await do(step)
    assert response.status == 200
    assert world.router.take() == []


@on_virtual_time
async def test_a_reset_ends_both_without_an_event() -> None:
    kept: Said = []

    def step(lab: Lab) -> None:
        kept.extend([*both(lab, "std"), lab.heard])
        lab.ctx.abort("over")

    world, response = await do(step)
    assert response.status == 500
    assert kept[2] == []
    assert world.counters.sockets == 0


# --- what is not allowed ------------------------------------------------------------------------------------------


def refused(step: Any, kind: type[Exception], words: str) -> None:
    """*step* raises that inside the object."""

    @on_virtual_time
    async def scenario() -> None:
        def checked(lab: Lab) -> Response:
            try:
                step(lab)
            except Exception as error:
                return Response(json.dumps([type(error).__name__, str(error)]))
            return Response('["nothing", ""]')

        _, response = await do(checked)
        name, text = json.loads(bytes(response.body))
        assert name == kind.__name__, text
        assert words in text

    scenario()


def test_the_client_end_is_not_used_before_its_own_accept() -> None:
    def send(lab: Lab) -> None:
        client, server = WebSocketPair()
        server.accept()
        client.send("x")

    refused(send, NotAccepted, "call accept() on this client end")


def test_accept_web_socket_takes_no_end_of_a_pair_whose_other_end_is_accepted() -> None:
    def server_second(lab: Lab) -> None:
        client, server = WebSocketPair()
        client.accept()
        lab.ctx.accept_web_socket(server)

    def client_second(lab: Lab) -> None:
        client, server = WebSocketPair()
        lab.ctx.accept_web_socket(server)
        lab.ctx.accept_web_socket(client)

    refused(server_second, AlreadyAccepted, "other end")
    refused(client_second, AlreadyAccepted, "other end")


def test_a_local_pair_cannot_be_returned(caplog: pytest.LogCaptureFixture) -> None:
    @on_virtual_time
    async def scenario() -> None:
        def step(lab: Lab) -> Response:
            client, _ = both(lab, "hib")
            return Response(status=101, web_socket=client)

        world = World(Lab)
        STEPS[0] = step
        world.router.request(upgrade=True)
        await turns()
        ((_, response),) = world.router.take("response")
        assert response.status == 500

    scenario()
    assert "used inside the object" in caplog.text


@on_virtual_time
async def test_a_returned_client_end_says_what_it_is() -> None:
    problems: Said = []

    def step(lab: Lab) -> Response:
        client, server = WebSocketPair()
        lab.ctx.accept_web_socket(server)
        lab.last = client
        return Response(status=101, web_socket=client)

    def misuse(lab: Lab) -> None:
        for action in (lambda: lab.last.send("x"), lambda: lab.last.close(), lambda: lab.last.accept()):
            try:
                action()
            except Exception as error:
                problems.append((type(error), str(error)))

    world = World(Lab)
    STEPS[0] = step
    world.router.request(upgrade=True)
    await turns()
    world.router.take()
    await do(misuse, world=world)
    assert [kind for kind, _ in problems] == [NotAccepted, NotAccepted, AlreadyAccepted]
    assert all("into a Response" in text or "in a Response" in text for _, text in problems)


@on_virtual_time
async def test_a_pair_that_was_dropped_cannot_be_joined_later() -> None:
    def step(lab: Lab) -> None:
        client, server = WebSocketPair()
        lab.ctx.accept_web_socket(server)
        lab.last = client

    def late(lab: Lab) -> None:
        with pytest.raises(AlreadyAccepted, match="dropped"):
            lab.last.accept()

    world, _ = await do(step)
    _, response = await do(late, world=world)
    assert response.status == 200


@pytest.mark.parametrize(("piece", "most"), [(bytes(1 << 20), 64), ("", OUTBOX_BYTES // 512)])
def test_what_an_object_says_to_itself_is_bounded(piece: Any, most: int) -> None:
    @on_virtual_time
    async def scenario() -> None:
        def step(lab: Lab) -> None:
            client, _ = both(lab, "std")
            lab.last = 0
            try:
                while lab.last <= most:
                    client.send(piece)
                    lab.last += 1
            except OutboxFull:
                pass

        world, response = await do(step)
        assert response.status == 200
        lab = world.instance()
        assert most - 3 < lab.last <= most
        assert len(lab.heard) >= lab.last, "all that were taken have come"

    scenario()


def test_moving_ends_a_local_pair() -> None:
    @on_virtual_time
    async def scenario() -> None:
        def step(lab: Lab) -> None:
            client, _ = both(lab, "std")

            def again(event: Any) -> None:
                client.send(event.data)

            client.add_event_listener("message", again)
            client.send("for ever")

        world, _ = await do(step)
        (owner,) = world.host.objects
        owner.leave()
        await asyncio.sleep(2)
        assert owner.unfinished == 0
        assert owner.try_to_leave()

    scenario()
