"""Errors of roost's own code, raised on purpose: once, at one place, in one simulated process.

``SITES`` are the places: sinks, what takes a map, timers, flushes, what a thread does, in routers and shards. The fault
``defect`` of a plan arms one of them in one process; the next time that process gets there, ``OurOwnError`` is raised
instead. What follows is the business of the real code (``common.runtime.defects``); the run must end as if nothing had
happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from roost.common.cluster.cluster_map import MemberKind
from roost.common.runtime import defects
from roost.common.wire.records import EventWriter
from roost.common.wire.session import Session
from roost.router.clients.auto_response import Reports
from roost.router.clients.writers import TransportWriter
from roost.router.http.connection import HttpConnection
from roost.router.owners.forwarding import Forwarding
from roost.router.owners.receiving import Receiver
from roost.router.websocket.connection import Connection
from roost.shard.events import RouterEvents
from roost.shard.host import Host
from roost.shard.moving.handover import Handover
from roost.shard.moving.release import Release
from roost.shard.moving.slots import Slots
from roost.shard.objects.hosted import HostedObject
from roost.shard.objects.jobs import SocketJob
from roost.shard.outgoing.outbox import Outbox
from roost.shard.outgoing.peers import Peer

from .clients import Client
from .loops import OurOwnError

_AT_ROUTERS: tuple[tuple[type, str], ...] = (
    (Receiver, "send"),
    (Receiver, "acknowledge"),
    (Receiver, "response"),
    (Receiver, "released"),
    (Receiver, "attachment"),
    (TransportWriter, "write"),
    (Connection, "acknowledge"),
    (Connection, "object_closed"),
    (Connection, "accept"),
    (Connection, "passport"),
    (EventWriter, "restore"),
    (Forwarding, "take_map"),
    (Forwarding, "on_second"),
    (Reports, "flush"),
    (Session, "tick"),
    (Session, "send"),
)
_AT_SHARDS: tuple[tuple[type, str], ...] = (
    (RouterEvents, "message"),
    (RouterEvents, "closed"),
    (RouterEvents, "request"),
    (RouterEvents, "restore"),
    (RouterEvents, "restored"),
    (Slots, "follow"),
    (Slots, "handed_over"),
    (Handover, "_until_proposed"),
    (Outbox, "drain"),
    (Peer, "write_acks"),
    (Release, "_let_go"),
    (HostedObject, "finished"),
    (SocketJob, "finish"),
    (Host, "handed_over"),
    (Session, "tick"),
    (Session, "send"),
)
_STANDING_FOR_OURS = tuple(f"tests.simulation.{module}" for module in ("loops", "network", "outside", "planted"))
SITES: dict[MemberKind, tuple[tuple[type, str], ...]] = {
    MemberKind.ROUTER: _AT_ROUTERS,
    MemberKind.SHARD: _AT_SHARDS,
}
"""Where a process of each kind may meet an error of its own."""


def _is_due(cls: type, name: str) -> bool:
    """Whether the process that runs is to raise here, now; it is so once."""
    try:
        process: Any = asyncio.get_running_loop().process  # type: ignore[attr-defined]
    except RuntimeError:
        return False
    if getattr(process, "armed", None) != (cls, name):
        return False
    process.armed = None
    history = process.cluster.history
    history.defects[process] = history.now
    if history.tracing:
        history.note(f"{process.name} meets an error of its own in {cls.__name__}.{name}")
    return True


def _raising(cls: type, name: str) -> Callable[..., Any]:
    original = getattr(cls, name)

    def method(*arguments: Any, **options: Any) -> Any:
        if _is_due(cls, name):
            raise OurOwnError(f"{cls.__name__}.{name}")
        return original(*arguments, **options)

    # As if it were in the module that it stands for: whose fault an error is, is told by what it came through.
    scope = {**globals(), "__name__": cls.__module__}
    return types.FunctionType(method.__code__, scope, name, None, method.__closure__)


def _noting(cls: type[Connection] | type[HttpConnection]) -> Callable[..., None]:
    """``break_off`` of *cls*, noting the client whose connection is ended."""
    break_off = cls.break_off

    def noting(self: Any, error: Exception) -> None:
        process: Any = asyncio.get_running_loop().process  # type: ignore[attr-defined]
        if isinstance(self, Connection):
            number = int(self._url.partition("c=")[2].partition("&")[0])  # its TCP may be over
            client = next(each for each in process.cluster.clients if each.number == number)
        else:
            client = getattr(self._transport, "_client", None)
        if isinstance(client, Client) and client.broken_off_at < 0:
            client.broken_off_at = process.cluster.now
            client.broken_off_unknown = isinstance(self, Connection) and not self.known
        break_off(self, error)

    return noting


@contextlib.contextmanager
def sites() -> Iterator[None]:
    """Members made inside can meet errors of their own."""
    with contextlib.ExitStack() as patches:
        for each in (Connection, HttpConnection):
            patches.enter_context(mock.patch.object(each, "break_off", _noting(each)))
        patches.enter_context(mock.patch.object(defects, "_OWN", (*defects._OWN, *_STANDING_FOR_OURS)))
        for cls, name in dict.fromkeys((*_AT_ROUTERS, *_AT_SHARDS)):
            patches.enter_context(mock.patch.object(cls, name, _raising(cls, name)))
        yield
