"""An object's stand-in with one life, and jobs for it. No loop: nothing here waits."""

from __future__ import annotations

import contextvars
from types import SimpleNamespace
from typing import Any

from roost.shard import DurableObject
from roost.shard.api.current import current
from roost.shard.api.web_socket import WebSocket
from roost.shard.objects.activation import Activation
from roost.shard.objects.jobs import CloseJob, ErrorJob, Job, MessageJob
from roost.shard.objects.loader import HostedClass
from roost.shard.objects.request_jobs import request_job
from roost.shard.objects.sockets import Socket


class Noting(DurableObject):
    """Notes what it is called with."""

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self.calls: list[tuple[Any, ...]] = []
        self.seen = current.get()

    def fetch(self, request: Any) -> str:
        self.calls.append(("fetch", request, request_job.get()))
        return "answer"

    def web_socket_message(self, ws: WebSocket, message: Any) -> None:
        self.calls.append(("message", ws, message))

    def webSocketClose(self, ws: WebSocket, *end: Any) -> None:  # noqa: N802  # the seed's spelling
        self.calls.append(("close", ws, *end, ws.ready_state))

    def web_socket_error(self, ws: WebSocket, error: Exception) -> None:
        self.calls.append(("error", ws, error, ws.ready_state))


class Owner:
    """Stands in for a hosted object."""

    def __init__(self, cls: type[DurableObject]) -> None:
        self.hosted_class = HostedClass(cls)
        self.runtime = SimpleNamespace(
            loop=SimpleNamespace(context=contextvars.copy_context()),
            runner=None,
            misuse=SimpleNamespace(note=lambda owner, mistake: ""),
            config=SimpleNamespace(development=False),
            errors=SimpleNamespace(note=lambda where, error: self.errors.append((where, error))),
        )
        self.back: list[Job] = []
        self.closes: list[tuple[Any, ...]] = []
        self.errors: list[tuple[str, BaseException]] = []
        self.label = "noting/x"
        self.object_id = bytes(32)
        self.leaving = False

    def take_back(self, job: Job) -> None:
        self.back.append(job)

    def record_close(self, socket: Socket, code: int, reason: str) -> None:
        self.closes.append((socket, code, reason))


def alive(cls: type[DurableObject] = Noting) -> tuple[Activation, Any]:
    owner: Any = Owner(cls)
    activation = Activation(owner)
    activation.construct("env", SimpleNamespace())
    return activation, owner


PEER: Any = SimpleNamespace(incarnation=1)


def message(owner: Any, socket: Socket, data: str | bytes = "x") -> Job:
    return MessageJob(owner, socket, PEER, 0, 0, data, 0)


def closed(owner: Any, socket: Socket, code: int = 1000, reason: str = "", clean: bool = True) -> Job:
    return CloseJob(owner, socket, PEER, 0, 0, code, reason, clean)


def failed(owner: Any, socket: Socket, code: int = 1002, description: str = "") -> Job:
    return ErrorJob(owner, socket, PEER, 0, 0, code, description)
