"""Whose code is running: context variables that follow the user's code into its tasks, timers and threads."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

from ..common.errors import ApiError

if TYPE_CHECKING:
    from .activation import Activation
    from .hosted import HostedObject
    from .jobs import Job

T = TypeVar("T")

current: ContextVar[Activation | None] = ContextVar("roost_life", default=None)
"""The life whose code runs; ``None`` in the runtime's own."""

redelivered: ContextVar[bool] = ContextVar("roost_redelivered", default=False)
"""Whether the event being handled may have been handled before."""

request_job: ContextVar[Job | None] = ContextVar("roost_request", default=None)
"""The request being handled, ``None`` in other events."""


def current_label() -> str:
    """The object whose code runs, for logs: ``namespace/name``; empty when it is none's."""
    life = current.get()
    return "" if life is None else life.owner.label


def as_nobody(call: Callable[[], T]) -> T:
    """What *call* gives, which sees no life in its context: what it sets off belongs to no object."""
    token = current.set(None)
    try:
        return call()
    finally:
        current.reset(token)


def current_object() -> HostedObject:
    """The object whose code runs.

    Raises:
        ApiError: None does: the call was made outside a handler and the tasks it started.
        WrongThreadError: The call was made on another thread.
        LifeOver: The life of the object that the code belongs to is over.
    """
    life = current.get()
    if life is None:
        raise ApiError("this can only be called by an object's own code: in a handler, or a task that one started")
    life.check()
    return life.owner
