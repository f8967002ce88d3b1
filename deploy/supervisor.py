"""The supervisor: starts a cluster's routers and shards, watches and restarts them, and drains them at the end.

It is on no message's road: when it is killed, traffic goes on. It decides with ``post`` (what to do about a death) and
``cluster_map`` (who has left), and acts here.

Order of a start: take the data folder, reserve the ports, open the directory, let the members in, serve the admin API,
say that it is ready. Each step that fails ends the start with one sentence, and what was begun is undone in reverse.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import secrets
import signal
import socket
import sys
from collections import Counter as Tally
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from ..common.clock import Clock, SystemClock
from ..common.cluster_map import ClusterMap, MemberKind
from ..common.config import parse
from ..common.counters import Reading, read_counters
from ..common.directory import FILE_NAME, SqliteDirectory, leave
from ..common.errors import (
    DataFolderInUse,
    DescriptorsTooFew,
    DirectoryError,
    RoostError,
    StartupError,
    WireError,
)
from ..common.ids import Incarnation
from ..common.startup import (
    hold_name,
    install_logging,
    raise_descriptor_limit,
    report_error,
    report_ready,
)
from . import ports
from .admin import AdminServer, make_app
from .config import ADMIN_HOST, CHAT_EXAMPLE, UpConfig
from .post import Abort, Done, GiveUp, Post, PostState, Restart
from .process import MemberProcess
from .run_folder import SUPERVISOR, Address, live_members, sweep, write_address
from .status import ClusterStatus, MemberStatus, Rates, duration

log = logging.getLogger("roost.supervisor")

DESCRIPTORS_BESIDE = 256
"""Descriptors that a router needs beside its clients': links, files, handshakes on their way."""
UNEVEN_SHARE = 1.1
"""The kernel spreads connections over routers by a hash: one gets this much of an even share at most, in practice."""
ABORT_DEADLINE_S = 2.0
"""Seconds that members get to end when the start has failed: they hold nothing worth waiting for."""
TICK_S = 1.0
"""Seconds between two readings of the counters."""


class StartFailed(StartupError):
    """A member could not start, so the cluster does not; carries the member's exit code."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class Supervisor:
    """One cluster on this machine.

    Args:
        config: What to run.
        announce: Takes each line that a person should see.
        clock: The time.
    """

    def __init__(
        self, config: UpConfig, *, announce: Callable[[str], None] = print, clock: Clock | None = None
    ) -> None:
        self.config = config
        self._announce = announce
        self._clock = clock or SystemClock()
        self._started_at = self._clock.now()
        self._state = "starting"
        names = [(f"shard-{n + 1}", MemberKind.SHARD) for n in range(config.shards)]
        names += [(f"router-{n + 1}", MemberKind.ROUTER) for n in range(config.routers)]
        self._posts = {name: Post(name, kind) for name, kind in names}
        self._processes: dict[str, MemberProcess] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._rates = {name: Rates() for name in self._posts}
        self._readings: dict[str, Reading] = {}
        self._left: set[Incarnation] = set()  # routers that ended and are still in the map
        self._map = ClusterMap()
        self._slots: Tally[Incarnation] = Tally()
        self._admin = ""

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
        self._all_ready = asyncio.Event()
        self._listen_to_signals()
        with contextlib.ExitStack() as held:
            self._check_descriptors()
            held.callback(hold_name(config.run, SUPERVISOR).release)
            self._refuse_orphans()
            sweep(config.run, keep=config.run / f"{SUPERVISOR}.lock")
            held.callback(ports.Reservation(config.host, config.port).close)
            listening = held.enter_context(ports.listen_alone(ADMIN_HOST, config.admin_port))
            self._directory = self._open_directory()
            held.callback(self._directory.close)
            held.callback(sweep, config.run, keep=config.run / f"{SUPERVISOR}.lock")
            try:
                async with self._serve_admin(listening.getsockname()[1], listening):
                    await self._staff()
            finally:
                await self._end_all_now()

    async def _staff(self) -> None:
        """Let the members in, serve until the end, let them go."""
        self._announce(f"roost starts {self.config.app or 'the chat example'}; data in {self.config.data}")
        for post in self._posts.values():
            self._start(post)
        ready = asyncio.ensure_future(self._all_ready.wait())
        self._end.add_done_callback(lambda _: ready.cancel())
        await asyncio.wait([ready])
        if not self._end.done():
            self._state = "running"
            self._announce(f"roost serves at {self.config.url} (admin {self._admin}; Ctrl-C drains and stops)")
            if not self.config.app or self.config.app == str(CHAT_EXAMPLE):
                self._announce(f"open {self.config.url}/chat-room/lobby in two browser tabs")
            report_ready(self.config.ready_fd, SUPERVISOR, Incarnation(0))
            self._tick()
        error = await self._end
        if error is not None:
            raise error
        await self._drain()

    def _check_descriptors(self) -> None:
        limit = raise_descriptor_limit()  # the members inherit it
        share = self.config.connections / self.config.routers
        if self.config.routers > 1:
            share *= UNEVEN_SHARE
        wanted = math.ceil(share) + DESCRIPTORS_BESIDE
        if self.config.connections and wanted > limit:
            raise DescriptorsTooFew(wanted, limit)

    def _refuse_orphans(self) -> None:
        """Members whose supervisor was killed still serve; starting others beside them would split the cluster."""
        orphans = live_members(self.config.run)
        if orphans:
            who = ", ".join(f"{name} (process {pid})" for name, pid in orphans.items())
            raise DataFolderInUse(
                f"members of an earlier start still serve in this data folder, without a supervisor: {who}; "
                f"`roost down --data {self.config.data}` ends them"
            )

    def _open_directory(self) -> SqliteDirectory:
        try:
            directory = SqliteDirectory(self.config.data / FILE_NAME, initial_shards=self.config.shards)
        except DirectoryError as error:
            raise StartupError(str(error)) from error
        try:
            # No member lives (their locks are free), so whoever is still in the map died with an earlier cluster.
            directory.begin_anew(self.config.shards)
        except DirectoryError as error:
            directory.close()
            raise StartupError(str(error)) from error
        return directory

    def _listen_to_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: int) -> None:
        if self._end.done():
            if self._state == "ending":
                self._announce("roost was told twice: it kills what still runs")
                self._kill_all()
            return
        self.ask_to_end()

    def ask_to_end(self) -> None:
        """Begin to drain; returns at once."""
        if not self._end.done():
            self._end.set_result(None)

    # --- members ------------------------------------------------------------------------------------------------

    def _start(self, post: Post) -> None:
        self._timers.pop(post.name, None)
        if self._end.done():
            post.ask_to_end()
            return
        config = self.config
        argv = config.router_argv(post.name) if post.kind is MemberKind.ROUTER else config.shard_argv(post.name)
        try:
            process = MemberProcess(post.kind, argv, on_ready=self._on_ready, on_end=self._on_end)
        except OSError as error:
            # No processes or memory left just now. A later start is tried again like after a death.
            post.started(0, self._clock.now())
            self._judge(post, 1, f"cannot be started: {error.strerror}")
            return
        self._processes[post.name] = process
        post.started(process.pid, self._clock.now())
        self._timers[post.name] = self._loop.call_later(config.start_timeout, self._start_took_too_long, post, process)

    def _start_took_too_long(self, post: Post, process: MemberProcess) -> None:
        self._timers.pop(post.name, None)
        if post.state is PostState.STARTING:
            log.error("%s was not ready within %g s and is killed", post.name, self.config.start_timeout)
            process.kill()

    def _post_of(self, process: MemberProcess) -> Post:
        return next(post for post in self._posts.values() if self._processes.get(post.name) is process)

    def _on_ready(self, process: MemberProcess, report: dict[str, Any]) -> None:
        post, now = self._post_of(process), self._clock.now()
        timer = self._timers.pop(post.name, None)
        if timer is not None:
            timer.cancel()
        post.ready(Incarnation(int(report.get("incarnation", 0))), now)
        again = "again " if post.restarts else ""
        self._announce(f"  {post.name:<10} ready {again}in {now - post.since:.1f} s   pid {post.pid}")
        if all(post.state is PostState.READY for post in self._posts.values()):
            self._all_ready.set()

    def _on_end(self, process: MemberProcess, exit_code: int, error: str) -> None:
        post = self._post_of(process)
        timer = self._timers.pop(post.name, None)
        if timer is not None:
            timer.cancel()
        if post.kind is MemberKind.ROUTER:
            self._take_out(post, process.pid)
        del self._processes[post.name]
        self._judge(post, exit_code, error)

    def _judge(self, post: Post, exit_code: int, error: str) -> None:
        match post.ended(exit_code, error, self._clock.now()):
            case Done():
                pass
            case Abort(why, code):
                self._fail(why, code)
            case GiveUp(why, code):
                log.error("%s; it is not started again", why)
                self._announce(f"  {why}; it is not started again")
                same = [other for other in self._posts.values() if other.kind is post.kind]
                if all(other.state is PostState.FAILED for other in same):
                    self._fail(why, code)
            case Restart(delay_s, why):
                log.warning("%s; it starts again in %g s", why, delay_s)
                self._announce(f"  {why}; it starts again in {delay_s:g} s")
                if self._end.done():
                    post.ask_to_end()
                else:
                    self._timers[post.name] = self._loop.call_later(delay_s, self._start, post)

    def _fail(self, why: str, exit_code: int) -> None:
        if not self._end.done():
            self._end.set_result(StartFailed(why, exit_code))

    def _take_out(self, post: Post, pid: int) -> None:
        """Propose the map without a router that has ended, so that shards learn of its clients' end."""
        incarnation = post.incarnation
        if not incarnation:
            # It died between entering the map and its report.
            with contextlib.suppress(DirectoryError):
                found = self._directory.map().named(post.name)
                if found is not None and found.pid == pid:
                    incarnation = found.incarnation
        if incarnation:
            self._left.add(incarnation)
            self._clean_map()

    def _clean_map(self) -> None:
        try:
            for incarnation in tuple(self._left):
                leave(self._directory, incarnation)
                self._left.discard(incarnation)
        except DirectoryError as error:
            log.error("an ended router stays in the map for now: %s", error)  # the next tick tries again

    # --- the end ------------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        self._state = "ending"
        self._announce(f"roost drains: {self.config.url} closes")
        self._cancel_timers()
        # Routers first: they tell their clients good-bye, and shards still run the close handlers for them.
        for kind in (MemberKind.ROUTER, MemberKind.SHARD):
            posts = [post for post in self._posts.values() if post.kind is kind]
            await self._end_members(posts, self.config.drain_timeout)
        self._announce(f"roost ended after {duration(self._clock.now() - self._started_at)}")

    async def _end_all_now(self) -> None:
        """No member is left behind, whatever has happened."""
        self._state = "ending"
        self._cancel_timers()
        if self._processes:
            await self._end_members(self._posts.values(), ABORT_DEADLINE_S)

    def _cancel_timers(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    async def _end_members(self, posts: Iterable[Post], deadline_s: float) -> None:
        """TERM, a deadline, KILL."""
        processes = [self._processes[post.name] for post in posts if post.ask_to_end()]
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

    def _kill_all(self) -> None:
        for process in self._processes.values():
            process.kill()

    # --- what others may see ------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _serve_admin(self, port: int, listening: socket.socket) -> AsyncIterator[None]:
        token = secrets.token_urlsafe(24)
        address = Address(os.getpid(), ADMIN_HOST, port, token, self.config.url)
        self._admin = address.admin
        write_address(self.config.run, address)
        server = AdminServer(make_app(status=self.status, down=self.ask_to_end, token=token))
        serving = asyncio.ensure_future(server.run_on(listening))
        try:
            yield
        finally:
            server.should_exit = True
            await serving

    def _tick(self) -> None:
        """Once a second: read the counters for rates, look for a new map, retry what failed."""
        if self._state != "running":
            return
        self._loop.call_later(TICK_S, self._tick)
        self._read()
        if self._left:
            self._clean_map()

    def _read(self) -> None:
        now = self._clock.now()
        for post in self._posts.values():
            try:
                reading = read_counters(self.config.run / f"{post.name}.counters")
            except FileNotFoundError:
                continue
            except (OSError, WireError) as error:
                log.warning("the counters of %s cannot be read: %s", post.name, error)
                continue
            self._readings[post.name] = reading
            self._rates[post.name].add(now, reading.pid, reading.values)
        try:
            if self._directory.changed():
                self._map = self._directory.map()
                self._slots = Tally(self._map.owners)
        except DirectoryError as error:
            log.error("going on with cluster map %d: %s", self._map.version, error)

    def status(self) -> ClusterStatus:
        """The cluster at this moment."""
        self._read()
        now = self._clock.now()
        return ClusterStatus(
            state=self._state,
            url=self.config.url,
            admin=self._admin,
            data=str(self.config.data.resolve()),
            app=self.config.app or str(CHAT_EXAMPLE),
            pid=os.getpid(),
            uptime_s=round(now - self._started_at, 3),
            map_version=self._map.version,
            members=tuple(self._member_status(post, now) for post in self._posts.values()),
        )

    def _member_status(self, post: Post, now: float) -> MemberStatus:
        reading = self._readings.get(post.name)
        lives = reading is not None and reading.pid == post.pid
        owner = self._map.named(post.name)
        return MemberStatus(
            name=post.name,
            kind=post.kind.value,
            state=post.state.value,
            pid=post.pid,
            incarnation=post.incarnation,
            uptime_s=round(now - post.since, 3) if post.pid else 0.0,
            restarts=max(0, post.restarts),
            slots=self._slots[owner.incarnation] if owner is not None else 0,
            error=post.error,
            # The figures of a dead process say what was, not what is.
            counters=dict(reading.values) if reading is not None and lives else {},
            rates=self._rates[post.name].per_second() if lives else {},
        )


def serve(config: UpConfig, *, announce: Callable[[str], None] = print) -> int:
    """Run a cluster until it is told to end; a start that fails is one sentence on stderr or at ``ready_fd``.

    Returns:
        The exit code.
    """
    install_logging(config.log_level, SUPERVISOR)
    try:
        asyncio.run(Supervisor(config, announce=announce).run())
    except (RoostError, OSError) as error:
        return report_error(config.ready_fd, error)
    return 0


def main() -> int:
    """``python -m roost.deploy.supervisor``: what ``roost up -d`` starts in the background."""
    return serve(parse(UpConfig, sys.argv[1:], prog="roost up"), announce=_announce_flushed)


def _announce_flushed(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
