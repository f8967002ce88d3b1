from __future__ import annotations

from typing import Any

from roost.shard import DurableObject


class Settings:
    GREETING: str


class Room(DurableObject[Settings]):
    pass


def test_the_base_takes_the_type_of_its_environment() -> None:
    ctx: Any = object()
    env: Any = object()
    room = Room(ctx, env)
    assert (room.ctx, room.env) == (ctx, env)
    assert Room.public


def test_no_handler_is_there_that_nobody_has_defined() -> None:
    for name in ("fetch", "web_socket_message", "webSocketMessage", "web_socket_close", "web_socket_error"):
        assert not hasattr(Room, name)


def test_a_handler_of_a_mixin_behind_the_base_counts() -> None:
    class Mixin:
        def fetch(self, request: Any) -> str:
            return "mixed in"

    class Mixed(DurableObject, Mixin):
        pass

    from roost.shard.objects.loader import HostedClass

    nothing: Any = None
    bound = HostedClass(Mixed).bound(Mixed(nothing, nothing), "fetch")
    assert bound is not None
    assert bound(None) == "mixed in"
