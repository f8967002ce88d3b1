"""The crew: the processes that hold the posts. Starts, signals and buries them, and tells the posts of it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ...common.cluster.cluster_map import MemberKind
from ...common.ids import Incarnation
from ...common.runtime.clock import Clock
from ...common.runtime.startup import is_holder
from ..plan.config import UpConfig
from ..plan.post import Abort, Done, GiveUp, Post, Restart
from ..plan.staffing import Staff
from .process import AdoptedProcess, MemberProcess, Process
from .reserve import Reserve

_LIMITS = {
    errno.EAGAIN: "no further process is allowed here (pids.max of the cgroup, ulimit -u)",
    errno.EMFILE: "the supervisor has no descriptor left (ulimit -n)",
    errno.ENFILE: "the system has no descriptor left",
    errno.ENOMEM: "the system has no memory left",
}
"""What keeps a process from being started, where the system's own words do not help."""

log = logging.getLogger("roost.supervisor")


class Crew:
    """The processes of a staff.

    Args:
        staff: The posts.
        config: How long things may take.
        clock: The time.
        announce: Takes each line that a person should see.
        on_change: Called when a post has changed.
        on_lost: Called when a post cannot be staffed, now (``Abort``) or any more (``GiveUp``).

    Attributes:
        reserve: What the start of a process needs in descriptors.
    """

    def __init__(
        self,
        staff: Staff,
        config: UpConfig,
        clock: Clock,
        *,
        announce: Callable[[str], None],
        on_change: Callable[[], None],
        on_lost: Callable[[Post, Abort | GiveUp], None],
    ) -> None:
        self._staff = staff
        self._config = config
        self._clock = clock
        self._announce = announce
        self._on_change = on_change
        self._on_lost = on_lost
        self._processes: dict[str, Process] = {}
        self._killed: weakref.WeakSet[Process] = weakref.WeakSet()
        self._ending = False
        self._spare: tuple[tuple[str, ...], MemberProcess] | None = None
        self.reserve = Reserve()

    # --- one process --------------------------------------------------------------------------------------------

    def start(self, post: Post) -> None:
        """Start the post's next process."""
        now = self._clock.now()
        try:
            with self.reserve.lent() if post.has_served else contextlib.nullcontext():
                process = self._called(post) or self._new_process(post.kind, post.argv)
        except OSError as error:
            # No processes or memory left just now. A later start is tried again like after a death.
            post.started(0, now)
            why = _LIMITS.get(error.errno or 0, error.strerror)
            self._judge(post, 1, f"cannot be started: {why}")
            return
        self._processes[post.name] = process
        post.started(process.pid, now, self._config.start_timeout)

    def _new_process(self, kind: MemberKind, argv: tuple[str, ...], *, stands_by: bool = False) -> MemberProcess:
        return MemberProcess(
            kind,
            argv,
            on_ready=self._on_ready,
            on_end=self._on_end,
            reads_input=self._config.development and kind is MemberKind.SHARD,
            stands_by=stands_by,
        )

    def stand_by(self, argv: Sequence[str]) -> None:
        """Have a shard's process ready for the start of a post with these arguments, which takes less time then."""
        self._dismiss_spare()
        if not self._ending:
            with contextlib.suppress(OSError):  # the start will do without it
                self._spare = tuple(argv), self._new_process(MemberKind.SHARD, tuple(argv), stands_by=True)

    def _called(self, post: Post) -> MemberProcess | None:
        """The process that stands by for this post, if there is one, called."""
        if self._spare is None or self._spare[0] != post.argv:
            return None
        _, process = self._spare
        self._spare = None
        try:
            process.call()
        except OSError:
            return None  # it has ended meanwhile
        return process

    def _dismiss_spare(self) -> MemberProcess | None:
        """End the process that stands by, if there is one; returns it."""
        spare, self._spare = self._spare, None
        if spare is None:
            return None
        spare[1].dismiss()
        return spare[1]

    def adopt(self, post: Post) -> None:
        """Watch the process that the post has already."""
        try:
            process = AdoptedProcess(post.pid, on_end=self._on_adopted_end)
        except ProcessLookupError:
            self._judge(post, None, "")
            return
        # After opening: from here on it means the process that holds the name now, whoever gets the pid later.
        if not is_holder(self._config.run, post.name, post.pid):
            process.let_go()
            self._judge(post, None, "")
            return
        self._processes[post.name] = process

    def kill(self, post: Post, why: str) -> None:
        """End the post's process now."""
        process = self._processes[post.name]
        post.deadline = math.inf  # its end will be told
        if process not in self._killed:
            log.error("%s %s and is killed", post.name, why)
            self._killed.add(process)
        process.kill()

    def end(self, post: Post) -> None:
        """Tell the post's process to drain and end; it is killed when that takes too long."""
        process = self._processes.get(post.name)
        if post.ask_to_end(self._clock.now() + self._config.drain_timeout) and process:
            process.terminate()

    def retire(self, post: Post, patience_s: float) -> None:
        """Tell a router to send its clients away and end; it is told to end when that takes too long."""
        post.retire(self._clock.now() + patience_s)
        self._processes[post.name].retire()

    def _post_of(self, process: Process) -> Post:
        return next(post for post in self._staff.posts.values() if self._processes.get(post.name) is process)

    def _on_ready(self, process: MemberProcess, report: dict[str, Any]) -> None:
        post, now = self._post_of(process), self._clock.now()
        post.ready(Incarnation(int(report.get("incarnation", 0))), now)
        again = "again " if post.restarts else ""
        self._announce(f"  {post.name:<10} ready {again}in {now - post.since:.1f} s   pid {post.pid}")
        self._on_change()

    def _on_adopted_end(self, process: AdoptedProcess) -> None:
        post = self._post_of(process)
        del self._processes[post.name]
        self._judge(post, None, "")

    def _on_end(self, process: MemberProcess, exit_code: int, error: str) -> None:
        if process not in self._processes.values():
            return  # it stood by
        post = self._post_of(process)
        del self._processes[post.name]
        self._judge(post, exit_code, error)

    def _judge(self, post: Post, exit_code: int | None, error: str) -> None:
        match post.ended(exit_code, error, self._clock.now()):
            case Done():
                pass
            case Abort() as lost:
                self._on_lost(post, lost)
            case GiveUp(why) as lost:
                log.error("%s; it is not started again", why)
                self._announce(f"  {why}; it is not started again")
                self._on_lost(post, lost)
            case Restart(delay_s, why):
                if self._ending:
                    post.ask_to_end()
                else:
                    log.warning("%s; it starts again in %g s", why, delay_s)
                    self._announce(f"  {why}; it starts again in {delay_s:g} s")
        self._on_change()

    # --- all of them --------------------------------------------------------------------------------------------

    async def end_all(self, kind: MemberKind, deadline_s: float) -> None:
        """End the processes of a kind and wait for that: TERM, a deadline, KILL."""
        await self._end_spare()
        await self._end([post for post in self._staff.posts.values() if post.kind is kind], deadline_s)

    async def _end_spare(self) -> None:
        """Nobody is started any more, and nobody stands by."""
        self._ending = True
        spare = self._dismiss_spare()
        if spare is not None:
            spare.kill()  # it holds nothing
            await spare.gone.wait()

    async def end_all_but(self, keep: Callable[[Post], bool], deadline_s: float) -> None:
        """End processes, but let those go on that *keep* names, without anybody who watches them."""
        await self._end_spare()
        leaving = []
        for post in self._staff.posts.values():
            process = self._processes.get(post.name)
            if process is not None and keep(post):
                process.let_go()
                del self._processes[post.name]
            elif process is not None:
                leaving.append(post)
        await self._end(leaving, deadline_s)

    async def _end(self, posts: Iterable[Post], deadline_s: float) -> None:
        processes = []
        for post in posts:
            post.deadline = math.inf
            if post.ask_to_end():
                processes.append(self._processes[post.name])
        for process in processes:
            process.terminate()
        gone = [asyncio.ensure_future(process.gone.wait()) for process in processes]
        if not gone:
            return
        _, late = await asyncio.wait(gone, timeout=deadline_s)
        if late:
            for process in processes:
                if not process.gone.is_set():
                    log.warning("process %d did not end within %g s and is killed", process.pid, deadline_s)
                    process.kill()
            await asyncio.wait(late)

    def kill_all(self) -> None:
        """End everything now."""
        for process in self._processes.values():
            process.kill()
