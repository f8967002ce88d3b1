"""What follows when objects have ended their shards: what was at work is noted, and who did it again is refused.

Who that is, ``poison`` says. Here it is carried out: connections are closed, events dropped, requests answered.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from ...common.close_codes import TRY_AGAIN_LATER
from ...common.cluster.cluster_map import Member
from ...common.errors import Unavailable
from ...common.ids import ObjectId
from ..clients.context import ClientContext
from ..clients.objects import ObjectEntry
from ..websocket.connection import Connection
from .closing import Closing
from .desk import REFUSED, RequestDesk
from .poison import Death, Deaths

log = logging.getLogger("roost.router")

POISONED = "a message of this connection ended its object's process"


class Verdicts:
    """Carries out what the deaths of shards say of objects.

    Args:
        shared: What all connections share.
        deaths: The account of them.
        desk: Where requests are answered.
        closing: Where connections are closed.
    """

    __slots__ = ("_closing", "_deaths", "_desk", "_shared")

    def __init__(self, shared: ClientContext[Connection], deaths: Deaths, desk: RequestDesk, closing: Closing) -> None:
        self._shared = shared
        self._deaths = deaths
        self._desk = desk
        self._closing = closing

    def judge(self, member: Member, death: Death | None, attached_at: float | None) -> Iterator[None]:
        """A shard has died that had slots of ours, or objects that we may hear of: note what was at work, in steps.

        Args:
            member: The shard.
            death: What its last words say, if there are any.
            attached_at: When it was given its first slots, if it ever was.
        """
        now = self._shared.wheel.seconds
        if death is None:
            return
        running = death.running
        if running is not None:
            log.warning(
                "%s died while object %s ran (connection %d, event %d)%s",
                member.name,
                self._in_words(running.object_id),
                running.connection,
                running.seq,
                f", which had held the loop for {death.stood_s:.0f} s" if death.is_hang else "",
            )
        if death.waiting:
            log.warning(
                "%s died while %d events of %d objects had begun and not ended",
                member.name,
                len(death.waiting),
                len({each.object_id for each in death.waiting}),
            )
        for object_id in self._deaths.note(death, member.seat, now, 0.0 if attached_at is None else now - attached_at):
            self._shared.counters.objects_refused += 1
            log.error(
                "object %s was at work at deaths of shards again and again: it is refused for %g s",
                self._in_words(object_id),
                self._deaths.refusal_s(object_id),
            )
            for request in self._desk.requests.parked_for(object_id):
                self._desk.fail(request, Unavailable(REFUSED))
            entry = self._shared.objects.get(object_id)
            if entry is not None:
                yield from self._refuse(entry)

    def prepare(self, entry: ObjectEntry[Connection], poisoned: Mapping[int, list[int]]) -> Iterator[None]:
        """Do what an object's new owner is not to have to do with.

        Args:
            entry: The object.
            poisoned: Events that may not be sent to that owner, by connection.
        """
        if self._deaths.refuses_any and self._deaths.refuses(entry.object_id, self._shared.wheel.seconds):
            yield from self._refuse(entry)
        if poisoned:
            self._drop_poisoned(entry, poisoned)

    def _refuse(self, entry: ObjectEntry[Connection]) -> Iterator[None]:
        """Close the sockets of an object that ends shards. It does not hear of that, nor of what they sent: any of
        these events might do it again."""
        for connection in list(entry.connections.values()):
            if connection.known:
                self._closing.forget_and_close(connection, TRY_AGAIN_LATER, "the object is refused for a while")
                yield

    def _drop_poisoned(self, entry: ObjectEntry[Connection], poisoned: Mapping[int, list[int]]) -> None:
        """Close the object's connections with events that must not be sent, and forget these events."""
        for connection in [connection for number, connection in entry.connections.items() if number in poisoned]:
            for seq in poisoned[connection.number]:
                self._deaths.forget(connection.number, seq)
                if connection.poison(seq, POISONED):
                    self._shared.counters.poisoned += 1
                    log.error(
                        "connection %d of object %s is closed: event %d, which may have ended a shard, is dropped",
                        connection.number,
                        self._in_words(entry.object_id),
                        seq,
                    )

    def _in_words(self, object_id: ObjectId) -> str:
        """An object for logs: namespace and name where a connection of it tells them, else its id."""
        entry = self._shared.objects.get(object_id)
        if entry is None or not entry.name:
            return object_id.hex()
        return f"{entry.namespace}/{entry.name}"
