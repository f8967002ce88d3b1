"""Whose code is running: context variables that follow the user's code into its tasks."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from ..common.errors import ApiError

if TYPE_CHECKING:
    from .hosted import HostedObject
    from .jobs import Job

current: ContextVar[HostedObject | None] = ContextVar("roost_object", default=None)
"""The object whose code runs; ``None`` in the runtime's own."""

redelivered: ContextVar[bool] = ContextVar("roost_redelivered", default=False)
"""Whether the event being handled may have been handled before."""

request_job: ContextVar[Job | None] = ContextVar("roost_request", default=None)
"""The request being handled, ``None`` in other events."""


def current_label() -> str:
    """The object whose code runs, for logs: ``namespace/name``; empty when it is none's."""
    owner = current.get()
    return "" if owner is None else owner.label


def current_object() -> HostedObject:
    """The object whose code runs.

    Raises:
        ApiError: None does: the call was made outside a handler and the tasks it started.
    """
    owner = current.get()
    if owner is None:
        raise ApiError("this can only be called by an object's own code: in a handler, or a task that one started")
    return owner
