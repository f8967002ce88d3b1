"""The conductor: looks at the cluster, again and again, and takes the next steps towards what it should be.

A **turn** reads the counters, lets the change under way look, changes the map, and starts and ends processes; each part
decides in pure code (``changes``, ``reconciling``, ``observation``). Turns come a second apart, ten times a second
while a change is under way, and at once when a process or the map has changed. The parts of a turn stand alone: an
error in one of them, a defect of ours, keeps neither the others nor the next turn from coming.

The directory may take seconds for an answer, or hang, and so may the files of the members. So turns do not wait for
them: what asks goes on beside the turns as an **errand**, of which there is one of a kind at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Coroutine

from ...common.cluster.cluster_map import ClusterMap, MemberKind
from ...common.cluster.directory import Directory, MapWatch, update
from ...common.cluster.neighbours import Neighbours
from ...common.errors import DirectoryError
from ...common.ids import Incarnation
from ...common.machine.liveness import Verdict
from ...common.machine.upkeep import Upkeep
from ...common.runtime.clock import Clock
from ...common.runtime.defects import origin_of
from ...common.runtime.processes import is_running
from ..plan.changes import Change, ChangeRefused, Outcome, Seen
from ..plan.config import UpConfig
from ..plan.post import Abort, GiveUp, Post, PostState
from ..plan.reconciling import next_look, next_map, next_steps
from ..plan.staffing import Staff
from ..processes.crew import Crew
from ..processes.log_file import LogFile
from ..report.status import MemberStatus
from .observation import Observation

log = logging.getLogger("roost.supervisor")

TICK_S = 1.0
"""Seconds between two turns when nothing happens."""
CHANGE_TICK_S = 0.1
"""The same while a change is under way."""
CHANGES_REMEMBERED = 16
"""Changes whose outcome can still be asked for."""
WHY_KILLED = {Verdict.STALLED: "does not get on", Verdict.FROZEN: "is stopped"}


class Conductor:
    """One cluster's turns.

    Args:
        config: How long things may take.
        staff: What should be.
        directory: Where the map is.
        clock: The time.
        neighbours: The members, as this machine tells of them.
        upkeep: Looks after the supervisor's own files in the run folder.
        log_file: Puts the log aside when it is large; ``None`` where the log is no file of ours.
        announce: Takes each line that a person should see.
        on_lost: Called when a post cannot be staffed.
    """

    def __init__(
        self,
        config: UpConfig,
        staff: Staff,
        directory: Directory,
        clock: Clock,
        *,
        neighbours: Neighbours,
        upkeep: Upkeep,
        log_file: LogFile | None = None,
        announce: Callable[[str], None],
        on_lost: Callable[[Post, Abort | GiveUp], None],
    ) -> None:
        self._config = config
        self.staff = staff
        self._directory = directory
        self._clock = clock
        self._neighbours = neighbours
        self._announce = announce
        self._loop = asyncio.get_running_loop()
        self.crew = Crew(staff, config, clock, announce=announce, on_change=self.soon, on_lost=on_lost)
        self.observation = Observation(config.run, stall_kill_s=config.stall_kill, is_running=is_running)
        self.map = ClusterMap()
        self._slots: Tally[Incarnation] = Tally()
        self._watch = MapWatch(directory, self._take_map)
        self._strangers_gone: set[Incarnation] = set()
        self._change: Change | None = None
        self._changes: deque[tuple[int, Change]] = deque(maxlen=CHANGES_REMEMBERED)
        self._change_ended = asyncio.Event()
        self._said = 0
        self._turned = asyncio.Event()
        self._judge_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._planned = False
        self._directory_fails = False
        self.directory_error = ""
        self._errands: dict[str, asyncio.Task[None]] = {}
        self._failing: dict[str, set[tuple[str, str, int]]] = {}  # the errors of each part since it last went well
        self._closed = False
        self._upkeep = upkeep
        self._log_file = log_file

    # --- turns --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take the first turn.

        Raises:
            DirectoryError: The directory cannot be read.
        """
        await self._watch.start()
        self.soon()

    def stop(self) -> None:
        """Take no more turns, and call off the change under way."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._change is not None:
            self._change.call_off("the cluster ends")
            self._report_change()

    async def aclose(self) -> None:
        """Let go of the directory."""
        self.stop()
        self.crew.reserve.close()
        await self._watch.aclose()
        if self._errands:
            errands = list(self._errands.values())
            for errand in errands:
                errand.cancel()
            await asyncio.wait(errands)

    def _take_map(self, new: ClusterMap) -> None:
        self.map, self._slots = new, Tally(new.owners)
        self.soon()

    def soon(self) -> None:
        """Take a turn at once: something has happened."""
        if not self._planned and not self._closed:
            self._planned = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._planned = False
        if self._timer is not None:
            self._timer.cancel()
        if self._closed:
            return
        now = self._clock.now()
        due = now >= self._judge_at
        # First the next turn, so that an error in this one does not end it all.
        self._timer = self._loop.call_later(TICK_S if self._change is None else CHANGE_TICK_S, self._turn)
        if due or self._change is not None:
            self._attempt("reading the counters", self.observation.read, self.staff.posts.values(), now)
        if due:
            self._judge_at = now + TICK_S
            self._attempt("looking after the run folder", self._upkeep.look)
            self._attempt("keeping descriptors", self.crew.reserve.top_up)
            if self._log_file is not None:
                self._attempt("looking after the log", self._log_file.look)
            self._go_on_errand("looking after the directory", self._restore_directory)
            self._go_on_errand("looking for strangers", self._look_for_strangers)
            self._attempt("judging the members", self._judge, now)
        if self._change is not None:
            self._attempt("the change", self._step_change, self._change, now)
        self._attempt("the map", self._change_map)
        self._attempt("the processes", self._take_steps, now)
        wait_s = next_look(self.staff, now)
        # A step that is due has just been tried; when it failed, it is not tried again before the next turn.
        if 0 < wait_s < self._timer.when() - self._loop.time():
            self._timer.cancel()
            self._timer = self._loop.call_later(wait_s, self._turn)
        self._turned.set()

    def _attempt(self, part: str, do: Callable[..., None], *arguments: object) -> None:
        """Do one part of a turn; an error in it is logged when it is new."""
        try:
            do(*arguments)
        except Exception as error:
            self._note_failure(part, error)
        else:
            self._failing.pop(part, None)

    def _note_failure(self, part: str, error: Exception) -> None:
        known, origin = self._failing.setdefault(part, set()), origin_of(error)
        if origin not in known:
            log.error("%s: unexpected %s", part, type(error).__name__, exc_info=error)
        known.add(origin)

    def _go_on_errand(self, part: str, errand: Callable[[], Coroutine[object, object, None]]) -> None:
        """Begin a part of a turn that waits for a disk, unless it has not come to its end since an earlier turn;
        an error in it is logged as in all others."""
        if part not in self._errands and not self._closed:
            self._errands[part] = self._loop.create_task(self._carry_out_errand(part, errand), name=part)

    async def _carry_out_errand(self, part: str, errand: Callable[[], Coroutine[object, object, None]]) -> None:
        try:
            await errand()
        except Exception as error:
            self._note_failure(part, error)
        else:
            self._failing.pop(part, None)
        finally:
            del self._errands[part]

    def _judge(self, now: float) -> None:
        for post, verdict in self.observation.judge(self.staff.posts.values(), now):
            self.crew.kill(post, WHY_KILLED[verdict])

    def _step_change(self, change: Change, now: float) -> None:
        try:
            change.step(Seen(now, self.map, self.observation.readings))
        except Exception as error:
            # Whoever holds a seat by now keeps it, and nobody is left over.
            change.call_off(f"unexpected {type(error).__name__}: {error}; the cluster goes on with what it has")
            self.staff.dismiss_spares()
            raise
        finally:
            self._report_change()

    def _change_map(self) -> None:
        if self._next_map(self.map) is not None or self._directory_fails:
            self._go_on_errand("changing the map", self._advance)

    async def _advance(self) -> None:
        """Change the map, step by step, as long as there is one to take."""
        advanced = True

        def change(current: ClusterMap) -> ClusterMap | None:
            nonlocal advanced
            new = self._next_map(current)
            advanced = new is not None
            return new

        try:
            while advanced:
                await update(self._directory, change)
            self._directory_fails = False
        except DirectoryError as error:
            # A later turn tries again; until then the cluster goes on with the map that it has.
            if not self._directory_fails:
                log.error("the cluster map stays as it is for now: %s", error)
            self._directory_fails = True

    async def _restore_directory(self) -> None:
        """Have the directory where it belongs, before anybody is started who opens it by its path."""
        try:
            done = await self._directory.restore(rebuild=True)
        except DirectoryError as error:
            if str(error) != self.directory_error:
                log.error("%s", error)
                self._announce(f"  {error}")
            self.directory_error = str(error)
            return
        self.directory_error = ""
        if done:
            log.warning("%s", done)
            self._announce(f"  {done}")

    def _next_map(self, current: ClusterMap) -> ClusterMap | None:
        return next_map(current, self.staff, self._clock.now(), self._config.grace, self._strangers_gone)

    async def _look_for_strangers(self) -> None:
        """Members without a post: left by an earlier supervisor, or started by hand."""
        strangers = [member for member in self.map.members.values() if member.name not in self.staff.posts]
        sights = await self._neighbours.look(strangers) if strangers else {}
        self._strangers_gone = {incarnation for incarnation, sight in sights.items() if not sight.lives}
        if self._strangers_gone:
            self.soon()  # they are to leave the map

    def _take_steps(self, now: float) -> None:
        steps = next_steps(self.staff, self.map, now)
        if steps.start:
            self._go_on_errand("starting members", self._start_members)
        for post in steps.kill:
            late = (
                f"was not ready within {self._config.start_timeout:g} s"
                if post.state is PostState.STARTING
                else f"did not end within {self._config.drain_timeout:g} s"
            )
            self._attempt(f"killing {post.name}", self.crew.kill, post, late)
        for post in steps.retire:
            self._attempt(f"retiring {post.name}", self._retire, post)
        for post in steps.end:
            self._attempt(f"ending {post.name}", self.crew.end, post)
        for post in steps.forget:
            del self.staff.posts[post.name]
            self._attempt(f"forgetting {post.name}", self.observation.forget, post)
        if steps.forget or steps.end or steps.retire:
            self.soon()

    async def _start_members(self) -> None:
        """Start those whose time has come once the directory is where they look for it."""
        await self._restore_directory()
        if self.directory_error or self._closed:
            return
        for post in next_steps(self.staff, self.map, self._clock.now()).start:
            self._attempt(f"starting {post.name}", self.crew.start, post)

    def _retire(self, post: Post) -> None:
        reading = self.observation.reading(post)
        clients = reading.values.get("connections", 0) if reading is not None else 0
        self.crew.retire(post, clients / self.staff.config.retire_rate + self._config.drain_timeout)

    # --- changes ------------------------------------------------------------------------------------------------

    @property
    def change(self) -> Change | None:
        """The change under way."""
        return self._change

    def begin(self, change: Change) -> int:
        """Carry out a change.

        Returns:
            Its number, for ``find_change``.

        Raises:
            ChangeRefused: Another one is under way.
        """
        self._refuse_when_busy()
        number = self._changes[-1][0] + 1 if self._changes else 1
        self._changes.append((number, change))
        self._change, self._said = change, 0
        self._change_ended.clear()
        self._announce(f"roost is {change.title}")
        self.soon()
        return number

    async def refuse_when_busy(self) -> None:
        """See whether a change could begin: only one at a time, and none without the directory.

        Raises:
            ChangeRefused: It could not.
        """
        self._refuse_when_busy()
        await self._restore_directory()
        if self.directory_error:
            raise ChangeRefused(self.directory_error)
        self._refuse_when_busy()

    def _refuse_when_busy(self) -> None:
        if self._closed:
            raise ChangeRefused("the cluster is ending")
        if self._change is not None:
            raise ChangeRefused(f"the cluster is {self._change.title}: wait until that is done")

    def find_change(self, number: int) -> Change | None:
        """A change that has begun not too long ago."""
        return next((change for at, change in self._changes if at == number), None)

    async def carry_out(self, change: Change) -> Outcome:
        """Carry out a change and wait for its end.

        Raises:
            ChangeRefused: as ``begin``, or there is no directory.
        """
        await self.refuse_when_busy()
        self.begin(change)
        while change.outcome is None:
            await self._change_ended.wait()
        return change.outcome

    async def until_idle(self) -> None:
        """Wait until no change is under way."""
        while self._change is not None:
            await self._change_ended.wait()

    def _report_change(self) -> None:
        change = self._change
        assert change is not None
        lines, self._said = change.lines[self._said :], len(change.lines)
        if change.outcome is not None:
            self._change = None
            self._change_ended.set()
        for line in lines:
            self._announce(f"  {line}")
        if change.outcome is not None:
            self._announce(f"  {change.outcome.sentence}")
            if change.outcome.exit_code:
                log.error("%s has failed: %s", change.title, change.outcome.sentence)

    async def until_staffed(self) -> None:
        """Wait until every post serves and is in the map, and none is to be given up."""
        while not all(
            post.serves and post.incarnation in self.map.members and not post.leaving
            for post in self.staff.posts.values()
        ):
            self._turned.clear()
            await self._turned.wait()

    # --- what others may see ------------------------------------------------------------------------------------

    def read(self) -> None:
        """Look at the counters now."""
        self.observation.read(self.staff.posts.values(), self._clock.now())

    def member_status(self, post: Post) -> MemberStatus:
        """One member at this moment."""
        now = self._clock.now()
        reading = self.observation.reading(post)
        owner = self.map.named(post.name)
        condition = self.observation.condition(post)
        state = post.state.value
        if post.serves and condition is not Verdict.ALIVE:
            state = condition.value
        elif post.serves and post.leaving:
            state = "leaving"
        is_shard = post.kind is MemberKind.SHARD
        return MemberStatus(
            name=post.name,
            kind=post.kind.value,
            state=state,
            pid=post.pid,
            incarnation=post.incarnation,
            uptime_s=round(now - post.since, 3) if post.pid else 0.0,
            restarts=max(0, post.restarts),
            slots=self._slots[owner.incarnation] if owner is not None else 0,
            error=post.error,
            # The figures of a dead process say what was, not what is.
            counters=dict(reading.values) if reading is not None else {},
            rates=dict(self.observation.rates(post)) if reading is not None else {},
            seat=post.seat if is_shard else "",
            holds_seat=is_shard and self.staff.seats.get(post.seat) == post.name,
        )
