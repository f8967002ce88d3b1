"""The runner: takes jobs through the user's code, on carriers.

Handlers may be coroutines, but most end without waiting for anything, and a task for each would cost more than the
handler. So the runner has **carriers**: tasks that start the handlers of many jobs, one after the other. A handler that
ends at once leaves the carrier free for the next job. One that waits keeps it: until it has ended that carrier is the
handler's own task (``asyncio.timeout``, cancellation and task groups work as anywhere), and another carrier takes the
jobs behind it. Thus the next event of an object starts as soon as the handler before it gives up control, and not
earlier. Each handler runs in a copy of its object's context, every step of it.

What a turn of the loop leaves over waits sorted by object (``crowd``): one object that is sent much does not keep the
others waiting.

Carriers without jobs **rest**, ready to be used again. Jobs that come from routers are gathered until all that has come
is read; then carrier after carrier takes them at once, and what they have to say leaves when all have given up control:
a message that comes alone is answered in the turn of the loop that has read it, and a hundred that came together leave
together, whether their handlers wait or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import sys
import types
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from typing import Any, Generic, TypeVar

from ...common.ids import ObjectId
from ...common.machine.last_words import EVENT, RUNS, SEQ, LastWords
from ..api.current import redelivered
from ..api.life import Called
from ..api.unfinished import Note
from .crowd import Crowd
from .forked import leave
from .tasks import shut
from .work import Instance, Owner, Work

J = TypeVar("J", bound=Work)


TURN_S = 0.002
"""Seconds after which the runner lets the loop do other work before the next job."""
CROWDED_TURN_S = 0.001
"""The same while some objects have more jobs than a turn takes: what others are sent is to be read soon."""
LEFT_OVER = 32
"""Jobs that a turn may leave over without their objects having to take turns."""
MOST_RESTING = 256
"""Carriers that rest, at most: so many handlers that wait at a time need no new tasks. Each takes about 2 kB."""
MADE_AT_ONCE = 16
"""Carriers that are made, at most, when none rests: each turn that makes some costs one of waiting."""
CARRIER = "carrier"
"""What a carrier's task is called while no handler keeps it."""


class _Rest:
    """What a carrier without jobs waits for. To its task it is a future; but it ends when told so, in that very call
    and not in the loop's next turn.

    Args:
        loop: The task's loop.
        carrier: The task.
    """

    __slots__ = ("_asyncio_future_blocking", "_is_cancelled", "_loop", "_wake", "carrier")

    def __init__(self, loop: asyncio.AbstractEventLoop, carrier: asyncio.Task[None]) -> None:
        self._loop = loop
        self.carrier = carrier
        self._wake: Callable[[_Rest], None] | None = None
        self._is_cancelled = False
        self._asyncio_future_blocking = False

    def begin(self) -> _Rest:
        """For the carrier to yield."""
        self._asyncio_future_blocking = True
        return self

    def end(self) -> None:
        """Let the carrier go on. Not while a task runs."""
        wake, self._wake = self._wake, None
        if wake is not None:
            wake(self)

    # --- what the task asks of a future ---

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(self, wake: Callable[[_Rest], None], *, context: contextvars.Context | None = None) -> None:
        self._wake = wake

    def cancel(self, msg: object = None) -> bool:
        self._is_cancelled = True
        self._loop.call_soon(self.end)
        return True

    def result(self) -> None:
        if self._is_cancelled:
            raise asyncio.CancelledError


class _Carrier(asyncio.Task[None]):
    """A carrier's task. It counts what handlers leave with the task that they run in.

    Once there is something, it must not become another handler's: somebody may wait for its end, have cancelled it (and
    perhaps thought better of it), or find something on it. Whoever has only kept it is counted by its references.

    Attributes:
        left: How often something was left.
    """

    __slots__ = ("left",)
    left: int

    def __init__(self, life: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop, context: contextvars.Context):
        super().__setattr__("left", 0)
        super().__init__(life, loop=loop, name=CARRIER, context=context)

    def _leave(self) -> None:
        super().__setattr__("left", self.left + 1)

    def __setattr__(self, name: str, value: object) -> None:
        self._leave()
        super().__setattr__(name, value)

    def set_name(self, value: object) -> None:
        self._leave()
        super().set_name(value)

    def name_for(self, handler: str) -> None:
        """As ``set_name``, by the runner itself."""
        super().set_name(handler)

    def add_done_callback(self, callback: Callable[[Any], object], **options: Any) -> None:
        self._leave()
        super().add_done_callback(callback, **options)

    def cancel(self, msg: Any = None) -> bool:
        self._leave()
        return super().cancel(msg)


class Runner(Generic[J]):
    """Takes jobs through the user's code, in the order given.

    Args:
        loop: The loop that all user code runs on.
        on_pause: Called when no more handlers start in this turn: what they have said should leave.
        last_words: Where the event is noted whose code runs.

    Attributes:
        carrying: Handler after handler starts: ``on_pause`` will come before the loop goes on.
        running: The job whose code runs right now, ``None`` between.
        calling: What the loop calls right now for an object: of a timer, say; ``None`` between.
        watching: What runs besides, a constructor; empty if nothing does.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_pause: Callable[[], None],
        last_words: LastWords | None = None,
    ) -> None:
        self._loop = loop
        self._on_pause = on_pause
        self._last_words = last_words
        self._words = None if last_words is None else last_words.words
        self._noted: ObjectId | None = None
        self._queue: deque[J] = deque()
        self._crowd: Crowd[J] = Crowd()
        self._crowded = self._crowd.jobs
        self._paused = self._crowd.paused
        self._resting: list[_Rest] = []
        self._new: set[asyncio.Task[None]] = set()  # carriers that have not rested yet
        self._called = False  # _carry will be called in the loop's next turn
        self._gathering = False
        self._turn_ends = 0.0
        # The runtime's own context: a carrier may be made while an object's code runs, and serves any object.
        self._context = contextvars.copy_context()
        self.running: J | None = None
        self.calling: Called | None = None
        self.watching = ""
        self.carrying = False
        self._is_copy = False

    def __bool__(self) -> bool:
        """Whether jobs are queued."""
        return bool(self._queue or self._crowded or any(self._paused.values()))

    def start(self, job: J) -> None:
        """Start *job*, behind those started before."""
        if not (self._crowded or self._paused) or not self._crowd.takes(job):
            self._queue.append(job)
        if not self._called:
            self._call()

    def start_first(self, jobs: Iterable[J]) -> None:
        """Start *jobs*, which had to wait, before those queued: later ones of their object may be among these."""
        self._queue.extendleft(reversed(list(jobs)))
        if self._paused:
            self._crowd.put(self._queue)
        if self._queue or self._crowded:
            self._call()

    def pause(self, owner: Owner) -> None:
        """Start no job of *owner* until it goes on. Not while a task runs."""
        self._crowd.pause(owner)
        self._crowd.put(self._queue)

    def go_on(self, owner: Owner) -> None:
        """The opposite of ``pause``."""
        self._crowd.go_on(owner)
        if self._crowded:
            self._call()

    def gather(self) -> None:
        """Jobs will come that are to wait for ``go``."""
        self._gathering = True

    def go(self) -> None:
        """Begin with the jobs that were gathered, now. Not while a task runs."""
        self._gathering = False
        if self._queue or self._crowded:
            self._context.run(self._carry)

    async def aclose(self) -> None:
        """End the carriers that have no handler. No more jobs start, and no last words are noted."""
        self._queue.clear()
        self._crowded.clear()
        self._paused.clear()
        self._last_words = self._words = None
        idle = {rest.carrier for rest in self._resting} | self._new
        for carrier in idle:
            carrier.cancel()
        if idle:
            await asyncio.wait(idle)

    def become_copy(self, ending: Any) -> None:
        """This process was forked: the next note, of an object's code that gives up control, goes to *ending* (see
        ``forked``)."""
        self._words = self._last_words = ending
        self._is_copy = True

    def _note(self, job: J) -> None:
        """The code of *job* is about to run."""
        words = self._words
        if words is not None:
            object_id = job.owner.object_id
            if object_id is not self._noted:
                assert self._last_words is not None
                self._noted = object_id
                self._last_words.of(object_id)
            words[EVENT] = job.event
            words[SEQ] = job.seq
            words[RUNS] = 1

    def note_step(self, object_id: ObjectId, note: Note | None) -> None:
        """See ``Steps``."""
        words = self._words
        if words is not None:
            if object_id is not self._noted:
                assert self._last_words is not None
                self._noted = object_id
                self._last_words.of(object_id)
            words[EVENT], words[SEQ] = (0, 0) if note is None else (note.event, note.seq)
            words[RUNS] = 1

    def quiet(self) -> None:
        """See ``Steps``: no event's code runs."""
        if self._words is not None:
            self._words[RUNS] = 0

    @contextlib.contextmanager
    def constructing(self, owner: Owner) -> Iterator[None]:
        """A constructor runs. It is not a job, and noted as one is: it may end the process, or hold the loop."""
        before, self.watching = self.watching, f"{owner.label} __init__"
        self._noted = owner.object_id
        if self._last_words is not None:
            self._last_words.enter(0, 0, 0, owner.object_id)
        try:
            yield
        finally:
            self.watching = before
            self._noted = None
            self.quiet()

    @property
    def label(self) -> str:
        """What of objects' code runs right now, for logs; empty if nothing does. For the watchdog's thread."""
        runs = self.running or self.calling
        return self.watching or ("" if runs is None else runs.label)

    def _call(self) -> None:
        """There are jobs: see to it that they are begun in the loop's next turn, if not before."""
        if not (self._called or self.carrying or self._gathering):
            self._called = True
            self._loop.call_soon(self._carry, context=self._context)

    def _carry(self) -> None:
        """Let carriers take the jobs, one carrier after the other: a handler that waits keeps its own."""
        queue, crowded, resting, now = self._queue, self._crowded, self._resting, self._loop.time
        self._called = False
        if not resting:
            if (queue or crowded) and not self._new:
                self._make_carriers(min(len(queue) or 1, MADE_AT_ONCE))
            return  # the first of them that rests calls again
        self._turn_ends = now() + (CROWDED_TURN_S if crowded else TURN_S)
        self.carrying = True
        try:
            while resting and (queue or (crowded and self._crowd.give(queue))):
                resting.pop().end()
                if now() >= self._turn_ends:
                    break
        finally:
            self.carrying = False
            self.quiet()
            if len(queue) > LEFT_OVER:
                self._crowd.put(queue)
            if queue or crowded:
                self._call()  # timers and batches have their turn before
            self._on_pause()

    def _make_carriers(self, count: int) -> None:
        for _ in range(count):
            # Not through the loop's task factory: that one counts tasks of users' code.
            carrier = _Carrier(self._life(), self._loop, self._context)
            carrier.add_done_callback(self._gone)
            self._new.add(carrier)

    def _gone(self, carrier: asyncio.Task[None]) -> None:
        """*carrier* has ended, before its first step perhaps: somebody may cancel every task that there is."""
        self._new.discard(carrier)
        if self._queue or self._crowded:
            self._call()

    async def _life(self) -> None:
        """Of a carrier."""
        try:
            await self._take_jobs()
        except Exception as error:
            # Of the runtime itself, since what handlers raise ends there: nobody awaits a carrier to hear of it.
            self._loop.call_exception_handler({"message": "the end of a handler went wrong", "exception": error})

    @types.coroutine
    def _take_jobs(self) -> Generator[Any, Any, None]:
        queue, resting, coroutine_type = self._queue, self._resting, types.CoroutineType
        crowded = self._crowded
        now = self._loop.time
        carrier = asyncio.current_task(self._loop)
        assert isinstance(carrier, _Carrier)
        rest = _Rest(self._loop, carrier)
        self._new.discard(carrier)
        references, weak_references = sys.getrefcount, weakref.getweakrefcount
        at_first = references(carrier) + weak_references(carrier) + carrier.left
        job: J | None = None
        activation: Instance | None = None
        context: contextvars.Context | None = None
        result: Any = None
        error: BaseException | None = None
        while True:
            job = activation = context = result = error = None  # nothing is kept alive by a rest
            resting.append(rest)
            if queue or crowded:
                self._call()
            yield rest.begin()
            ended = 0
            while queue:
                ended += 1
                if ended % 16 == 0 and now() >= self._turn_ends:
                    break
                job = queue.popleft()
                activation = job.activation
                if activation is None or not (activation.is_open or activation.admits(job)):
                    continue
                context = activation.context.copy()
                if job.deliveries:
                    context.run(redelivered.set, True)
                self.running = job
                self._note(job)
                try:
                    result = context.run(job.call, activation)
                    if result is not None and type(result) is not coroutine_type:
                        result = context.run(_awaited_if_it_can_be, result)
                except BaseException as raised:
                    result, error = None, raised
                if type(result) is coroutine_type:
                    try:
                        waiting = self._go_on(job, carrier, context, result, context.run(result.send, None))
                    except StopIteration as stop:
                        result = stop.value
                    except BaseException as raised:
                        result, error = None, raised
                    else:
                        self.running = None
                        yield from waiting
                        break
                self.running = None
                if self._is_copy:
                    leave(error, job.label)
                job.finish(result, error)
                result = error = None  # a traceback refers to this frame
                if references(carrier) + weak_references(carrier) + carrier.left != at_first:
                    return  # the next handler shall not have the task of this one
            if references(carrier) + weak_references(carrier) + carrier.left != at_first:
                return
            if len(resting) >= MOST_RESTING:
                return

    def _go_on(
        self,
        job: J,
        carrier: _Carrier,
        context: contextvars.Context,
        coroutine: types.CoroutineType[Any, Any, Any],
        yielded: Any,
    ) -> Generator[Any, Any, None]:
        """The handler waits: *carrier* is its own task until it has ended."""
        carrier.name_for(job.label)
        job.task = carrier
        if self._is_copy:
            leave(None, job.label)
        job.waits()
        result: Any = None
        error: BaseException | None = None
        try:
            while True:
                # A future that fails has an exception, whose traceback refers to this frame: no cycle.
                try:
                    value = yield yielded
                except BaseException as thrown:
                    yielded = None
                    if job.stopped:
                        raise
                    self.running = job
                    self._note(job)
                    yielded = context.run(coroutine.throw, thrown)
                else:
                    yielded = None
                    if job.stopped:
                        break
                    self.running = job
                    self._note(job)
                    yielded = context.run(coroutine.send, value)
                self.running = None
                self.quiet()
        except StopIteration as stop:
            result = stop.value
        except BaseException as raised:
            self.quiet()
            error = raised
        if job.stopped:
            context.run(shut, coroutine)
        self.running = None
        self.quiet()
        job.finish(result, error)
        job.task = None
        carrier.name_for(CARRIER)
        result = error = None


def _awaited_if_it_can_be(result: Any) -> Any:
    return _awaited(result) if inspect.isawaitable(result) else result


async def _awaited(awaitable: Any) -> Any:
    return await awaitable
