"""A life: who may act in an object's name, and what its code has left with the loop.

A life begins with the construction of an instance and ends when the instance leaves memory: because its object sleeps,
is reset, or moves. Everything that the instance's code holds (``ctx``, the handles of sockets) belongs to the life, and
asks it before it acts. So what is left of a former life (a timer, a thread, a task that does not let itself be
cancelled) never acts beside the next one. The same question keeps other threads out, whose calls would race with the
loop's: one comparison answers both, since a life that is over has no thread.

Whatever the code starts is told to its life: tasks, and what threads and executors have yet to give. This module knows
what code does to a life, and nothing of objects: ``activation`` has the life of an object's instance.
"""

from __future__ import annotations

import asyncio
import sys
from abc import ABC, abstractmethod
from collections.abc import Collection
from threading import get_ident
from types import FrameType
from typing import Any, NoReturn, Protocol

from ...common.errors import LifeOver, ObjectGone, WrongThreadError
from ...common.ids import ObjectId
from .pending import Pending
from .unfinished import Note

_NO_THREAD = 0
PATIENCE = 1000
"""Calls that code of a former life may make in vain before it is taken for a loop that never waits."""
_OWN = f"{__name__.partition('.')[0]}."


class Called(Protocol):
    """What the loop calls for an object: a callback of its code."""

    @property
    def note(self) -> Note | None:
        """The event that has led to it; ``None`` if none has."""
        ...

    @property
    def label(self) -> str:
        """The object and the function, for logs."""
        ...


class Steps(Protocol):
    """Who keeps note of whose code runs (``runner``).

    Attributes:
        calling: What the loop calls right now for an object; ``None`` between.
    """

    calling: Called | None

    def note_step(self, object_id: ObjectId, note: Note | None) -> None:
        """A step of the object's code is about to run, which the event of *note* has led to."""
        ...

    def quiet(self) -> None:
        """The step has ended."""
        ...


class Life(ABC):
    """See the module. Made on the loop's thread.

    Args:
        object_id: The object's id.
        steps: Is told of each step that the life's code takes.

    Attributes:
        owner: The object.
        object_id: See above.
        steps: See above.
        thread: The thread that may act in the object's name; 0 once the life is over, which no thread has.
        over: What ended the life, for its code to be raised; ``None`` while it lasts.
        stopped: The life is over, and none of its code may take another step.
        pending: What its code has left with the loop: timers, descriptors and so on.
    """

    __slots__ = ("_loops_thread", "_refusals", "object_id", "over", "pending", "steps", "stopped", "thread")

    owner: object

    def __init__(self, object_id: ObjectId, steps: Steps) -> None:
        self.object_id = object_id
        self.steps = steps
        self.thread = self._loops_thread = get_ident()
        self.over: LifeOver | None = None
        self._refusals = 0
        self.stopped = False
        self.pending = Pending()

    @property
    @abstractmethod
    def label(self) -> str:
        """The object, for logs: namespace and name."""

    # --- what its code starts ---

    @abstractmethod
    def cause(self, loop: asyncio.AbstractEventLoop) -> Note | None:
        """The event whose code runs, or has started what runs; ``None`` if none has."""

    @abstractmethod
    def adopt(self, task: asyncio.Task[Any], note: Note | None) -> None:
        """Its code has started *task*, which the event of *note* has led to."""

    @abstractmethod
    def adopt_future(self, future: asyncio.Future[Any]) -> None:
        """Its code has given something to a thread or an executor, and may not wait for it."""

    @abstractmethod
    def own_tasks(self) -> Collection[asyncio.Future[Any] | None]:
        """The tasks of its code, those that its handlers run in included."""

    @abstractmethod
    def note_idle(self) -> None:
        """Something of its code has ended: its object may have become idle."""

    @abstractmethod
    def user_error(self, where: str, error: BaseException) -> None:
        """Its code has raised *error*, and nobody else hears of it."""

    # --- who may act ---

    # ``check`` is written out where every nanosecond counts: ``if get_ident() != life.thread: life.refuse()``.

    def check(self) -> None:
        """Raises:
        LifeOver: The life is over: ``ObjectReset`` or ``ObjectGone``.
        WrongThreadError: This is another thread than the loop's.
        """
        if get_ident() != self.thread:
            self.refuse()

    def check_thread(self) -> None:
        """Raises:
        WrongThreadError: This is another thread than the loop's.
        """
        if get_ident() != self._loops_thread:
            raise WrongThreadError

    @property
    def is_on_its_thread(self) -> bool:
        """Whether this is the loop's thread, which its code runs on."""
        return get_ident() == self._loops_thread

    def refuse(self) -> NoReturn:
        """Say why nobody may act here. Raises as ``check`` does."""
        over = self.over
        if over is not None:
            self._refusals += 1
            if self._refusals >= PATIENCE:
                self._refusals = 0
                _leave_loop(over)
            raise type(over)(*over.args)  # anew: an exception that is raised again keeps what raised it before
        raise WrongThreadError

    def close(self, over: LifeOver) -> None:
        """The life is over; a second time changes nothing. What it has left with the loop does not come any more."""
        if self.over is None:
            self.over = over
            self.thread = _NO_THREAD
        self.pending.cancel()

    def stop(self) -> None:
        """None of its code may take another step."""
        self.close(ObjectGone("this is code of a former life of its object's instance"))
        self.stopped = True


def _leave_loop(over: LifeOver) -> None:
    """Have what the caller's caller is about to raise raised once more by the next line of the user's code.

    A loop that catches everything, what it hears of its life's end as well, holds the whole shard when it never comes
    to a wait: ``while True: try: ws.send(…); await sleep(1) except: pass``. An exception out of its ``except`` ends it.
    """
    if sys.gettrace() is not None:
        return  # a debugger is at work

    def raise_again(frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line":
            raise type(over)(*over.args)  # which ends the tracing, too
        return raise_again

    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_own(frame):
        frame = frame.f_back
    while frame is not None and not _is_own(frame):
        frame.f_trace = raise_again
        frame = frame.f_back
    sys.settrace(_until_back)


def _until_back(frame: FrameType, event: str, arg: Any) -> None:
    """No line of the user's came: the code has ended by itself. Nothing is traced once the runtime has control."""
    if _is_own(frame):
        sys.settrace(None)


def _is_own(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(_OWN)
