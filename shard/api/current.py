"""Whose code is running: context variables that follow the user's code into its tasks, timers and threads."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

from .life import Life

T = TypeVar("T")

current: ContextVar[Life | None] = ContextVar("roost_life", default=None)
"""The life whose code runs; ``None`` in the runtime's own."""

redelivered: ContextVar[bool] = ContextVar("roost_redelivered", default=False)
"""Whether the event being handled may have been handled before."""


def current_label() -> str:
    """The object whose code runs, for logs: ``namespace/name``; empty when it is none's."""
    life = current.get()
    return "" if life is None else life.label


def as_nobody(call: Callable[[], T]) -> T:
    """What *call* gives, which sees no life in its context: what it sets off belongs to no object."""
    token = current.set(None)
    try:
        return call()
    finally:
        current.reset(token)
