"""What tests of connections have in common."""

from __future__ import annotations

from tests.unit.router.fakes import World, state


def closed(number: int, seq: int, code: int, reason: str, clean: bool) -> tuple[object, ...]:
    """What a shard hears of an end."""
    return ("closed", number, seq, 0, code, reason, clean)


def respond(world: World, request: str = "ping", response: str = "pong") -> None:
    """The object sets an automatic response."""
    entry = world.entry()
    revision = entry.state.revision + 1 if entry.state else 1
    entry.set_state(state(entry.object_id, revision, (request, response)))
