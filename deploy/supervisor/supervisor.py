"""The supervisor: starts a cluster's routers and shards, or takes over those that run, and drains them at the end.

It is on no message's road: when it is killed, traffic goes on, and the next one takes over. What should be stands in
``staffing``, what to do next in ``reconciling``; the ``conductor`` does it, turn by turn. Here is the life around that.

Order of a start: take the data folder, look for members that live, reserve the ports, open the directory, adopt the
members or let new ones in, serve the admin API, say that it is ready. Each step that fails ends the start with one
sentence, and what was begun is undone in reverse; members that had been there before go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

from ...common.cluster.cluster_map import Member, MemberKind
from ...common.cluster.directory import Directory, open_directory, url_in
from ...common.cluster.neighbours import LocalNeighbours, Neighbours
from ...common.errors import AppError, ConfigError, DataFolderInUse, DirectoryError, RoostError, StartupError
from ...common.ids import Incarnation
from ...common.machine.hangup import listen_to_hangup
from ...common.machine.run_folder import SUPERVISOR, lock_path, make_data_folder
from ...common.machine.standard_streams import settle
from ...common.machine.upkeep import Upkeep
from ...common.runtime.clock import Clock, SystemClock
from ...common.runtime.config import parse
from ...common.runtime.defects import Survived, is_defect
from ...common.runtime.logs import install_logging, line
from ...common.runtime.processes import kill_member
from ...common.runtime.startup import (
    UNEXPECTED_EXIT_CODE,
    hold_name,
    raise_descriptor_limit,
    report_error,
    report_ready,
)
from ..plan.changes import Change, ChangeRefused, Outcome
from ..plan.config import ADMIN_HOST, CHAT_EXAMPLE, UpConfig
from ..plan.orders import told
from ..plan.post import Abort, GiveUp, Post, PostState
from ..plan.reloading import CANARY_S, QUIET_S, Reload
from ..plan.scaling import Scaling
from ..plan.staffing import Staff, listed, shard_name
from ..plan.swapping import Swap, next_generation
from ..processes import ports
from ..processes.leftovers import end_everybody, end_leftovers
from ..processes.log_file import LogFile, log_path
from ..processes.members import LiveMember, find_members, is_router
from ..processes.reserve import Shortage
from ..processes.run_folder import Address, AddressFile, forget_all_but, other_run_folder, sweep
from ..processes.trial import Loaded, Trial
from ..report.status import ClusterStatus, duration
from ..report.voice import Terminal, Voice, leave_output
from .admin import make_app
from .admin_server import AdminServer
from .adoption import Adopted, adopt, in_map
from .conductor import Conductor
from .source_watch import PAGES, SOURCES, SourceWatch

log = logging.getLogger("roost.supervisor")

ABORT_DEADLINE_S = 2.0
"""Seconds that members get to end when the start has failed: they hold nothing worth waiting for."""


class StartFailed(StartupError):
    """A member could not start, so the cluster does not; carries the member's exit code."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class Supervisor:
    """One cluster on this machine.

    Args:
        config: What to run.
        announce: Takes each line that a person should see; it may fail.
        clock: The time.
        neighbours: The members, as this machine tells of them.
    """

    def __init__(
        self, config: UpConfig, *, announce: Callable[[str], None], clock: Clock, neighbours: Neighbours
    ) -> None:
        self.config = config
        self._announce = Voice(announce)
        self._clock = clock
        self._neighbours = neighbours
        self._started_at = self._clock.now()
        self._state = "starting"
        self._descriptors = 0
        self._admin = ""
        self._adopted: Adopted | None = None
        self._called_off = False
        self._trial: Trial | None = None
        self._defects = Survived(log)
        self._swap: Swap | None = None
        self._terminal = Terminal()
        self._upkeep = Upkeep()

    # --- the whole life -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run the cluster until it is told to end.

        Raises:
            StartupError: The start failed, or no member of a kind can be started any more.
        """
        config = self.config
        self._loop = asyncio.get_running_loop()
        # What ends the cluster: None when it was told to, or the error.
        self._end: asyncio.Future[StartupError | None] = self._loop.create_future()
        self._listen_to_signals()
        self._loop.set_exception_handler(Shortage(self._clock.now, self._unseen_error))
        self._descriptors = raise_descriptor_limit()  # the members inherit it
        config.check_descriptors(self._descriptors)
        make_data_folder(config.data)
        async with contextlib.AsyncExitStack() as held:
            name = hold_name(config.run, SUPERVISOR)
            held.callback(name.release)
            self._upkeep.add(name)
            living = find_members(config.run)
            serves_port = any(self._listens_here(live) for live in living)
            held.callback(ports.Reservation(config.host, config.port, shared=serves_port).close)
            listening = held.enter_context(ports.listen_alone(ADMIN_HOST, config.admin_port))
            directory = await self._open_directory(living)
            held.push_async_callback(directory.aclose)
            staff = await self._staff_from(living, directory)
            if self._adopted is None:
                sweep(config.run, keep=lock_path(config.run, SUPERVISOR))
            else:
                members = (await directory.map()).members.values()
                forget_all_but(config.run, {*staff.posts, *(member.name for member in members)})
            self._conductor = Conductor(
                config,
                staff,
                directory,
                self._clock,
                neighbours=self._neighbours,
                upkeep=self._upkeep,
                log_file=LogFile(log_path(config.data)),
                announce=self._announce,
                on_lost=self._lost,
            )
            try:
                async with self._serve_admin(listening.getsockname()[1], listening):
                    await self._serve()
            finally:
                await self._end_all_now()
                if self.config.development:
                    self._terminal.restore()
                if not find_members(config.run):
                    sweep(config.run, keep=lock_path(config.run, SUPERVISOR))

    async def _serve(self) -> None:
        """Get the members in, serve until the end, let them go."""
        conductor = self._conductor
        if self._adopted is None:
            self._announce(f"roost starts {self.config.app_in_words}; data in {self.config.data}")
        else:
            for post in conductor.staff.posts.values():
                if post.pid:
                    conductor.crew.adopt(post)
        try:
            await conductor.start()
            async with contextlib.AsyncExitStack() as watching:
                # In development the code may not load from the start: then it is a save that gets everybody ready.
                if self.config.development:
                    await watching.enter_async_context(self._watch_source())
                if await self._until_end(self._get_ready()):
                    self._state = "running"
                    self._greet()
                    report_ready(self.config.ready_fd, SUPERVISOR, Incarnation(0))
                    self._stand_by()
                    if not self.config.development:
                        await watching.enter_async_context(self._watch_source())
                    await self._until_end(asyncio.Event().wait())
            error = self._end.result()
            if error is not None:
                raise error
            # The members are there to stay as long as the cluster does: whoever tells it to end, ends all of them.
            self._adopted = None
            await self._drain()
        finally:
            await conductor.aclose()

    def _greet(self) -> None:
        url = self.config.url
        self._announce(f"roost serves at {url} (admin {self._admin}; Ctrl-C drains and stops)")
        if not self.config.app or self.config.app == str(CHAT_EXAMPLE):
            self._announce(f"open {url}/chat-room/lobby in two browser tabs")
        elif self.config.development and self._conductor.map.namespaces:
            self._announce(f"open {' or '.join(f'{url}/{name}/lobby' for name in self._conductor.map.namespaces)}")

    async def _until_end(self, doing: Coroutine[Any, Any, Any]) -> bool:
        """Await *doing*, or the end of the cluster.

        Returns:
            Whether *doing* was done.
        """
        task = asyncio.ensure_future(doing)
        await asyncio.wait([task, self._end], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return not self._end.done()
        task.cancel()
        await asyncio.wait([task])
        return False

    async def _get_ready(self) -> None:
        if self._adopted is not None:
            try:
                await self._take_over(self._adopted)
            except StartFailed as error:
                self._fail(error)
                return
        await self._conductor.until_staffed()
        self._adopted = None  # from now on they are ours, whatever comes

    async def _take_over(self, adopted: Adopted) -> None:
        """Make the members that were found what they should be; a signal calls that off."""
        if any(post.is_stale for post in adopted.staff.posts.values()):
            self._announce("  the routers were told something else: others take their places, one by one")
            try:
                self.config.check_router()
            except ConfigError as error:
                self._done(Outcome(f"nothing was changed: {error}", error.exit_code))
        if adopted.needs_reload:
            self._announce("  the shards were told something else: their successors take over")
            self._done(await self._conductor.carry_out(self._reload(self.config, CANARY_S)))
        change = Scaling(
            adopted.staff,
            shards=self.config.shards,
            routers=self.config.routers,
            descriptors=self._descriptors,
        )
        self._done(await self._conductor.carry_out(change))

    def _done(self, outcome: Outcome) -> None:
        if outcome.exit_code:
            raise StartFailed(
                f"{outcome.sentence}; what ran before goes on, `roost down --data {self.config.data}` ends it",
                outcome.exit_code,
            )

    def _fail(self, error: StartupError) -> None:
        if not self._end.done():
            self._end.set_result(error)

    def _unseen_error(self, context: dict[str, Any]) -> None:
        """A callback or a task has raised. A cluster goes on without its supervisor, and all the better with it."""
        error = context.get("exception")
        if isinstance(error, Exception) and is_defect(error):
            self._defects.note(f"{context['message']}; the supervisor goes on", error)
        else:
            self._loop.default_exception_handler(context)

    # --- who is there -------------------------------------------------------------------------------------------

    def _listens_here(self, live: LiveMember) -> bool:
        wanted = told("router", self.config.router_argv(live.name))
        found = told("router", live.argv)
        return is_router(live) and all(found[name] == wanted[name] for name in ("host", "port"))

    async def _open_directory(self, living: Collection[LiveMember]) -> Directory:
        try:
            return await open_directory(
                url_in(self.config.data),
                initial_shards=self.config.shards,
                create=not any(live.holds_name for live in living),
            )
        except DirectoryError as error:
            raise StartupError(str(error)) from error

    async def _staff_from(self, living: list[LiveMember], directory: Directory) -> Staff:
        """The staff to begin with: that of the members that serve, or a new one when none does."""
        config = self.config
        try:
            map_ = await directory.map()
            serving = in_map(living, map_)
            self._end_idle(living, serving)
            if serving:
                self._adopted = adopt(config, serving, map_, self._clock.now())
                names = listed(live.name for live, _ in serving)
                self._announce(f"roost takes over {names}, which served without a supervisor; data in {config.data}")
                return self._adopted.staff
            other = other_run_folder(config.run, map_)
            if other is not None:
                raise DataFolderInUse(
                    f"a cluster runs in the data folder {config.data} already, with another run folder: "
                    f"`--run {other}` means that one"
                )
            # No member lives, so whoever is still in the map died with an earlier cluster.
            await directory.begin_anew(config.shards)
        except DirectoryError as error:
            raise StartupError(str(error)) from error
        return Staff.first(config)

    def _end_idle(self, living: list[LiveMember], serving: list[tuple[LiveMember, Member]]) -> None:
        """End processes that serve nobody: they were starting, or trying an app, when their supervisor was killed."""
        pids = {live.pid for live, _ in serving}
        for live in living:
            if live.pid in pids or live.forked_from in pids:
                continue  # it serves, or is the affair of one that does
            if not live.holds_name:
                end_leftovers(self.config.run, [live], ABORT_DEADLINE_S)
            elif not kill_member(self.config.run, live.name, live.pid):
                raise DataFolderInUse(f"{live.name} (process {live.pid}) of an earlier start cannot be ended")

    def _lost(self, post: Post, verdict: Abort | GiveUp) -> None:
        """A post cannot be staffed."""
        if self._conductor.change is not None and isinstance(verdict, Abort):
            return  # a post of that change, which says what becomes of it
        if self.config.development and verdict.exit_code == AppError.exit_code:
            self._announce(f"{verdict.why}; {self.config.url} shows the error until a file is saved that loads")
            return
        same = [
            other for other in self._conductor.staff.posts.values() if other.kind is post.kind and other is not post
        ]
        if self._state == "starting" or all(other.state in (PostState.FAILED, PostState.ENDED) for other in same):
            self._fail(StartFailed(verdict.why, verdict.exit_code))

    # --- signals ------------------------------------------------------------------------------------------------

    def _listen_to_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._on_signal, number)
        listen_to_hangup(self._loop, partial(self._on_signal, signal.SIGHUP))

    def _on_signal(self, number: int) -> None:
        if self._end.done():
            if self._state == "ending":
                self._announce("roost was told twice: it kills what still runs")
                self._conductor.crew.kill_all()
            return
        if self._adopted is not None:
            # Whoever interrupts the take-over does not want what served before to end.
            self._called_off = True
            self._fail(
                StartFailed(
                    "the take-over was called off; what serves goes on without a supervisor: `roost up` takes it over, "
                    f"`roost down --data {self.config.data}` ends it",
                    UNEXPECTED_EXIT_CODE,
                )
            )
            return
        self.ask_to_end()

    def ask_to_end(self) -> None:
        """Begin to drain; returns at once."""
        if not self._end.done():
            self._end.set_result(None)

    # --- changes ------------------------------------------------------------------------------------------------

    async def scale(self, shards: int | None, routers: int | None) -> int:
        """Begin to change the number of members.

        Returns:
            The change's number.

        Raises:
            ChangeRefused, ConfigError, DescriptorsTooFew: It cannot begin; nothing was changed.
        """
        await self._refuse_when_starting()
        return self._conductor.begin(
            Scaling(self._conductor.staff, shards=shards, routers=routers, descriptors=self._descriptors)
        )

    async def reload(self, app: str | None, canary_s: float = CANARY_S) -> int:
        """Begin to give all shards new code.

        Args:
            app: The app; ``None``: the present one, as it is on disk now.
            canary_s: Seconds to watch the first shard with it.

        Returns:
            The change's number.

        Raises:
            ChangeRefused, ConfigError: It cannot begin; nothing was changed.
        """
        await self._refuse_when_starting()
        staff = self._conductor.staff
        return self._conductor.begin(
            self._reload(staff.config if app is None else replace(staff.config, app=app), canary_s)
        )

    async def _refuse_when_starting(self) -> None:
        await self._conductor.refuse_when_busy()
        if self._state != "running":
            raise ChangeRefused(f"the cluster is {self._state}: wait until that is done")

    def _reload(self, config: UpConfig, canary_s: float) -> Reload:
        """A reload, whose check of the app begins at once."""
        conductor = self._conductor
        conductor.read()
        change = Reload(
            conductor.staff,
            conductor.map,
            config=config,
            app=config.app_in_words,
            canary_s=canary_s,
            was_failing=any(
                conductor.observation.has_failed(post, self._clock.now() - QUIET_S) for post in conductor.staff.holders
            ),
        )

        def fine(loaded: Loaded) -> None:
            change.checked(loaded.namespaces, conductor.map.namespaces, loaded.constructed)
            conductor.soon()

        def refused(why: str, exit_code: int) -> None:
            change.refused(why, exit_code)
            conductor.soon()

        self._trial = Trial(config, on_fine=fine, on_refused=refused)
        return change

    @contextlib.asynccontextmanager
    async def _watch_source(self) -> AsyncIterator[None]:
        """With ``--watch``: reload whenever the app's source has changed."""
        if not self.config.watch:
            yield
            return
        watch = SourceWatch(
            app=lambda: self._conductor.staff.config.app_path,
            reload=self._reload_source,
            announce=self._announce,
            suffixes=SOURCES | PAGES if self.config.development else SOURCES,
            overtake=self._overtake,
        )
        async with watch.running():
            yield

    async def _reload_source(self) -> None:
        """Reload once nothing else is under way."""
        conductor = self._conductor
        await conductor.until_idle()
        if self.config.development:
            if not conductor.staff.revive(MemberKind.SHARD):
                self._swap = Swap(conductor.staff, conductor.map)
                await conductor.carry_out(self._swap)
                self._terminal.restore()
            conductor.soon()
            self._stand_by()
            return
        change = self._reload(self._conductor.staff.config, CANARY_S)
        await self._conductor.carry_out(change)

    def _overtake(self) -> None:
        """Something was saved while what was saved before is on its way."""
        if self._swap is not None:
            self._swap.overtake()

    def _stand_by(self) -> None:
        """In development: have the next shard's process wait for the next save."""
        conductor, staff = self._conductor, self._conductor.staff
        if self.config.development and staff.seats:
            seat = next(iter(staff.seats))
            name = shard_name(seat, next_generation(staff, conductor.map))
            conductor.crew.stand_by(staff.config.shard_argv(name, seat))

    # --- the end ------------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        self._state = "ending"
        self._announce(f"roost drains: {self.config.url} closes")
        self._conductor.stop()
        # Routers first: they tell their clients good-bye, and shards still run the close handlers for them.
        for kind in (MemberKind.ROUTER, MemberKind.SHARD):
            await self._conductor.crew.end_all(kind, self.config.drain_timeout)
        self._announce(f"roost ended after {duration(self._clock.now() - self._started_at)}")

    async def _end_all_now(self) -> None:
        """No member is left behind, whatever has happened; but those that were found serving when this start failed."""
        self._state = "ending"
        try:
            self._conductor.stop()
            if self._trial is not None:
                self._trial.kill()
        finally:
            await self._end_members_now()

    async def _end_members_now(self) -> None:
        if self._adopted is not None:
            # The take-over has failed. Whoever serves goes on, also those that have replaced others by now.
            await self._conductor.crew.end_all_but(self._serves_on, ABORT_DEADLINE_S)
            return
        for kind in (MemberKind.ROUTER, MemberKind.SHARD):
            await self._conductor.crew.end_all(kind, ABORT_DEADLINE_S)
        left = await asyncio.to_thread(end_everybody, self.config.run, ABORT_DEADLINE_S)
        if left:
            log.warning("ended what was left in the run folder: %s", ", ".join(left))

    def _serves_on(self, post: Post) -> bool:
        if self._called_off:
            return post.state in (PostState.READY, PostState.RETIRING)
        if not post.serves or post.leaving:
            return False
        return post.kind is MemberKind.ROUTER or self._conductor.staff.seats.get(post.seat) == post.name

    # --- what others may see ------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _serve_admin(self, port: int, listening: socket.socket) -> AsyncIterator[None]:
        token = secrets.token_urlsafe(24)
        address = Address(os.getpid(), ADMIN_HOST, port, token, self.config.url)
        self._admin = address.admin
        self._upkeep.add(AddressFile(self.config.run, address))
        server = AdminServer(make_app(self, token=token, now=self._clock.now))
        serving = asyncio.ensure_future(server.run_on(listening))
        try:
            yield
        finally:
            server.should_exit = True
            await serving

    def find_change(self, number: int) -> Change | None:
        """A change that has begun not too long ago."""
        return self._conductor.find_change(number)

    def status(self) -> ClusterStatus:
        """The cluster at this moment."""
        conductor = self._conductor
        conductor.read()
        staff = conductor.staff
        return ClusterStatus(
            state=self._state,
            url=self.config.url,
            admin=self._admin,
            data=str(self.config.data.resolve()),
            app=staff.config.app_path,
            pid=os.getpid(),
            uptime_s=round(self._clock.now() - self._started_at, 3),
            map_version=conductor.map.version,
            members=tuple(conductor.member_status(post) for post in staff.posts.values()),
            slots_in_transit=len(conductor.map.next_owners),
            change=conductor.change.title if conductor.change is not None else "",
            figures=conductor.observation.figures,
        )


def serve(config: UpConfig, *, announce: Callable[[str], None] = print) -> int:
    """Run a cluster until it is told to end; a start that fails is one sentence on stderr or at ``ready_fd``.

    Returns:
        The exit code.
    """
    settle(never_fails=False)
    install_logging(config.log_level, SUPERVISOR)
    try:
        asyncio.run(_run(config, announce))
    except (RoostError, OSError) as error:
        return report_error(config.ready_fd, error)
    finally:
        leave_output()
    return 0


async def _run(config: UpConfig, announce: Callable[[str], None]) -> None:
    neighbours = LocalNeighbours(config.run, asyncio.get_running_loop())
    with contextlib.closing(neighbours):
        await Supervisor(config, announce=announce, clock=SystemClock(), neighbours=neighbours).run()


def main() -> int:
    """``python -m roost.deploy.supervisor``: what ``roost up -d`` starts in the background."""
    return serve(parse(UpConfig, sys.argv[1:], prog="roost up"), announce=_announce_flushed)


def _announce_flushed(text: str) -> None:
    """Among the lines of the log, in their form."""
    print(line(text.strip(), SUPERVISOR), flush=True)
