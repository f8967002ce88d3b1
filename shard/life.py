"""A life: who may act in an object's name, and what its code has left with the loop.

A life begins with the construction of an instance and ends when the instance leaves memory: because its object sleeps,
is reset, or moves. Everything that the instance's code holds (``ctx``, the handles of sockets) belongs to the life, and
asks it before it acts. So what is left of a former life (a timer, a thread, a task that does not let itself be
cancelled) never acts beside the next one. The same question keeps other threads out, whose calls would race with the
loop's: one comparison answers both, since a life that is over has no thread.
"""

from __future__ import annotations

import sys
from threading import get_ident
from types import FrameType
from typing import Any, NoReturn

from ..common.errors import LifeOver, ObjectGone, WrongThreadError
from .pending import Pending

_NO_THREAD = 0
PATIENCE = 1000
"""Calls that code of a former life may make in vain before it is taken for a loop that never waits."""
_OWN = f"{__name__.partition('.')[0]}."


class Life:
    """See the module. Made on the loop's thread.

    Attributes:
        thread: The thread that may act in the object's name; 0, which is none, once the life is over.
        over: What ended the life, for its code to be raised; ``None`` while it lasts.
        stopped: The life is over, and none of its code may take another step.
        pending: What its code has left with the loop: timers, descriptors and so on.
    """

    __slots__ = ("_loops_thread", "_refusals", "over", "pending", "stopped", "thread")

    def __init__(self) -> None:
        self.thread = self._loops_thread = get_ident()
        self.over: LifeOver | None = None
        self._refusals = 0
        self.stopped = False
        self.pending = Pending()

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
