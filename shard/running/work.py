"""What the runner asks of what it takes through objects' code: jobs, and the lives that handle them."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Any, Protocol

from ...common.ids import ObjectId
from ..api.unfinished import Note
from .reasons import Reason


class Owner(Protocol):
    """An object: jobs of one keep their order."""

    @property
    def object_id(self) -> ObjectId: ...
    @property
    def label(self) -> str:
        """The object, for logs."""
        ...


class Instance(Protocol):
    """The life of an object's instance, which handles jobs."""

    @property
    def is_open(self) -> bool:
        """Its jobs start as they come."""
        ...

    @property
    def context(self) -> Context:
        """What its code runs in; a copy for each job."""
        ...

    def admits(self, job: Any) -> bool:
        """Whether *job* may start now, while it is not open; if not, its object has taken it back."""
        ...


class Work(Protocol):
    """A job, as the runner sees it.

    Attributes:
        task: The task that handles it, once the handler has waited.
    """

    task: asyncio.Task[None] | None

    @property
    def owner(self) -> Owner: ...

    @property
    def activation(self) -> Instance | None:
        """The life of the instance that handles it; ``None``: nobody does any more."""
        ...

    @property
    def event(self) -> int:
        """Router and connection, as the shard's last words have them."""
        ...

    @property
    def seq(self) -> int:
        """Its number on that connection."""
        ...

    @property
    def deliveries(self) -> int:
        """How often it had been delivered before."""
        ...

    @property
    def stopped(self) -> bool:
        """Its handler may not take another step."""
        ...

    def call(self, life: Any) -> Any:
        """Call the handler of *life*, which admits it; returns its result, or the coroutine to go on with."""
        ...

    def waits(self) -> None:
        """Its handler waits for the first time."""
        ...

    def finish(self, result: Any, error: BaseException | None) -> None:
        """Its handler has ended: with *result*, or with what it raised."""
        ...

    @property
    def label(self) -> str:
        """The object and the handler, for logs."""
        ...


class Handled(Work, Protocol):
    """A job, as the life sees it that handles it.

    Attributes:
        stopped: Its handler may not take another step.
        cancelled_for: Why the runtime has cancelled the handler; ``None`` if it has not.
    """

    stopped: bool
    cancelled_for: Reason | None

    @property
    def peer(self) -> object | None:
        """The router that has sent its event; ``None`` if none has."""
        ...

    def at_work(self) -> Note:
        """What notes that it is at work."""
        ...

    def cancel(self, why: Reason) -> None:
        """Cancel the handler, unless it is what runs right now."""
        ...

    def give_up(self, why: Reason) -> None:
        """Go on without the handler, which does not let itself be cancelled."""
        ...
