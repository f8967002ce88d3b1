"""A router, put together: the core of this package, on one loop, with its sockets, timers and the cluster around it.

Start: take the name, join the directory, listen, enter the map, follow it. A router listens before it is in the map,
so that a taken port is found before anybody knows of it; requests that come before an owner is known are parked.

End (SIGTERM, SIGINT): stop listening (``listener``), send each client Close 1001, answer the requests that have been
sent, wait a little for the clients' answers (``drain_timeout_s``) and longer for whoever makes progress
(``drain_limit_s``), then leave the map. Shards tell their objects of clients that have not answered.

Retiring (SIGUSR1) is a gentle end, for a cluster that goes on with other routers: the same, but clients are sent their
Close one after the other at ``retire_rate`` a second, so that they do not all come back in the same moment. SIGTERM
during it sends all of them away at once.

Expelled: a router that was in the map and finds itself missing is held for dead, and shards have told its clients'
objects so. It ends these clients' TCP and itself, without a word to anybody.

While no supervisor lives, the router watches the other members (``guard``).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, TypeVar

from ..common.close_codes import GOING_AWAY
from ..common.cluster.cluster_map import ClusterMap, Member, MemberKind
from ..common.cluster.directory import Care, Directory, MapWatch, enter, leave
from ..common.errors import DescriptorsTooFew, Expelled
from ..common.ids import Incarnation
from ..common.machine.hangup import listen_to_hangup
from ..common.machine.last_words import RunningEvent
from ..common.runtime.defects import is_defect
from ..common.runtime.heap import Heap
from ..common.settings.router import RouterConfig
from ..common.wire.link import Dialer, Link, Rest, Wiring
from ..common.wire.records import STEP_BYTES, TO_SHARD, EventWriter, Parts, Steps
from . import development
from .budgets import Budgets
from .clients.auto_response import Reports
from .clients.connections import Connections
from .clients.context import ClientContext
from .clients.descriptors import Descriptors
from .clients.links import OwnerLink
from .clients.objects import Objects
from .clients.output import Output
from .clients.retirement import GONE, Retirement
from .clients.timers import TICK_S, Wheel, ticks
from .clients.transport import ClientTransport
from .counters import RouterCounters
from .formats.urls import authority
from .guard.judging import Guard
from .guard.watching import GuardWatch
from .http.connection import HttpConnection, protocol_factory
from .http.front import Front, HttpClient
from .http.listener import Listener
from .machine import RouterMachine
from .owners.attaching import Attaching
from .owners.forwarding import Forwarding
from .owners.poison import Death, Running
from .owners.receiving import Receiver
from .websocket.connection import Connection

log = logging.getLogger("roost.router")

T = TypeVar("T")

A_TURN = 256
"""Clients that are closed or looked at in a turn of the loop while the router ends: some 3 ms."""
DRAIN_LOOK_S = 0.25
"""Seconds between two looks at who still makes progress."""
OTHER_DESCRIPTORS = 128
"""Descriptors beside those of clients: links (a handful each), files, the loop's own."""
_TICKS_A_SECOND = ticks(1.0)


class Router:
    """One router process.

    Args:
        config: Its settings.
        machine: What lies outside of it.
    """

    new_attaching = Attaching
    """What gives one slot to its owner."""

    def __init__(self, config: RouterConfig, machine: RouterMachine) -> None:
        self._config = config
        self._machine = machine
        self._clock = machine.clock
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.counters = RouterCounters()
        self._wheel = Wheel(self._clock.now())
        self._shared: ClientContext[Connection] = ClientContext(
            counters=self.counters,
            budgets=Budgets(
                self.counters,
                all_windows_bytes=config.all_windows_bytes,
                all_send_buffers_bytes=config.all_send_buffers_bytes,
            ),
            wheel=self._wheel,
            reports=Reports(),
            connections=Connections(self._exhausted),
            objects=Objects(),
            wall=self._clock.wall,
            ping_after=ticks(config.ping_interval_s),
            ping_timeout=ticks(config.ping_timeout_s),
            close_timeout=ticks(config.close_timeout_s),
            send_buffer_bytes=config.send_buffer_bytes,
            stall_timeout=ticks(config.stall_timeout_s),
            least_rate=config.least_rate,
            on_work=self._work_soon,
            soon=self._loop.call_soon,
            now=self._clock.now,
            output_of=machine.output_of,
        )
        self._work_planned = False
        self._due = self._worked_then = 0.0
        self._output = Output(self._output_soon, self._clock.now)
        self._output_planned = False
        self._wrote = 0.0, 0.0
        """When it was last written for a turn, if the next one was to write on, and the processor time then."""
        self._forwarding = Forwarding(
            self._shared,
            self._connect,
            parked_ticks=ticks(config.parked_timeout_s),
            soon=self._loop.call_soon,
            last_words=self._last_words,
            new_attaching=self.new_attaching,
        )
        self._front = Front(config, self._shared, self._forwarding, self._clock.now)
        self._receivers: dict[Link[EventWriter], Receiver] = {}
        self._neighbours = machine.neighbours()
        self._dialer: Dialer | None = None
        self._me: Incarnation | None = None
        self._entered = False
        self._expelled: Expelled | None = None
        self._guard: GuardWatch | None = None
        self._listener: Listener | None = None
        self._listening_ends: asyncio.Task[None] | None = None
        self._retiring = False
        self._retirement: Retirement[Connection] | None = None
        self._ends_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._upkeep = machine.upkeep()
        self._second = 0
        self._drained = asyncio.Event()
        counters = self.counters
        self._heap = Heap(counters, self._clock)
        self._collector = machine.collector(
            counters,
            held=lambda: counters.connections,
            traffic=lambda: counters.messages_in + counters.messages_out + counters.http_requests,
            after_all=self._heap.trim,
        )

    async def serve(self) -> None:
        """Run until told to stop, then drain.

        Raises:
            StartupError: The router cannot start.
            Expelled: The map does not have it any more.
        """
        config, machine = self._config, self._machine
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        self._loop.add_signal_handler(signal.SIGUSR1, self._retire)
        listen_to_hangup(self._loop, self._stop.set)
        self._log_unseen = self._loop.get_exception_handler() or type(self._loop).default_exception_handler
        self._loop.set_exception_handler(self._unseen_error)
        descriptors = self._front.descriptors = self._reserve_descriptors()
        async with contextlib.AsyncExitStack() as closing:
            closing.callback(descriptors.close)
            closing.callback(self._neighbours.close)
            held = machine.take_name()
            closing.callback(held.release)
            directory = await machine.open_directory()
            closing.push_async_callback(directory.aclose)
            me = await directory.join(MemberKind.ROUTER, config.name, machine.pid, lambda _: "", ())
            self._me = me.incarnation
            wiring = Wiring(
                loop=self._loop,
                cluster_id=directory.cluster_id,
                local=me.incarnation,
                clock=self._clock,
                on_group=self._group,
                counters=self.counters,
                on_failed=self._link_failed,
                new_parts=lambda: Parts(self._shared.discards.watch),
            )
            self._dialer = machine.dialer(wiring, lambda: not self._output.is_full)
            closing.callback(self._shared.discards.close)
            closing.push_async_callback(self._dialer.aclose)
            self._listener = listener = machine.listener(config.host, config.port, descriptors.backlog)
            closing.push_async_callback(self._close_listener)
            self._front.own_host = None if listener.is_wildcard else authority(config.host, listener.port)
            transports = machine.transports(self._shared.work, self._new_connection())
            closing.callback(transports.close)
            listener.start(transports.begin)
            counter_file = machine.counter_file(self.counters)
            closing.callback(counter_file.close)
            counter_file.start(self._loop)
            self._upkeep = machine.upkeep(held, counter_file)
            self._tick()
            closing.callback(self._stop_ticking)
            care = Care(directory)
            closing.push_async_callback(care.aclose)
            care.start()
            await enter(directory, me)
            closing.push_async_callback(leave, directory, me.incarnation)
            self._guard = self._make_guard(me.incarnation, directory)
            closing.push_async_callback(self._guard.aclose)
            watch = MapWatch(directory, self._take_map)
            await watch.start()
            closing.push_async_callback(watch.aclose)
            self._guard.start()
            log.info("serving on %s as incarnation %d", authority(config.host, listener.port), me.incarnation)
            machine.report_ready(me.incarnation)
            self._collector.start()
            await self._stop.wait()
            if self._expelled is not None:
                raise self._expelled
            await self._drain()

    def _reserve_descriptors(self) -> Descriptors:
        limit = self._machine.descriptor_limit()
        wanted = self._config.max_connections
        if wanted and wanted + OTHER_DESCRIPTORS > limit:
            raise DescriptorsTooFew(wanted + OTHER_DESCRIPTORS, limit)
        return self._machine.descriptors(limit, wanted)

    def _new_connection(self) -> Callable[[], HttpConnection]:
        """Makes the protocol of each TCP connection that is accepted."""
        if not self._config.development:
            return protocol_factory(self._front)
        logging.getLogger("roost.access").setLevel(logging.INFO)
        return development.protocol_factory(self._front, self._config.run)

    def _make_guard(self, me: Incarnation, directory: Directory) -> GuardWatch:
        config = self._config
        guard = Guard(me, grace_s=config.grace_s, stall_kill_s=config.stall_kill_s, frozen_kill_s=config.frozen_kill_s)
        return GuardWatch(guard, me, directory=directory, neighbours=self._neighbours, clock=self._clock)

    # --- the cluster ---

    def _take_map(self, new: ClusterMap) -> None:
        assert self._dialer is not None
        assert self._guard is not None
        if self._me in new.members:
            self._entered = True
        elif self._entered:
            self._expel(new)
        if self._expelled is not None:
            return
        self._guard.take_map(new)
        self._front.take_map(new)
        self._forwarding.take_map(new)
        shards = {member.incarnation: member.name for member in new.shards}
        self._dialer.keep(set(shards))
        self._neighbours.keep(shards)
        # Links flush at the end of this turn: what was written above carries the new version.
        self._dialer.map_version = new.version
        self.counters.slots_attached = self._forwarding.attached

    def _connect(self, member: Member) -> OwnerLink:
        assert self._dialer is not None
        self._front.descriptors.lend()
        self._neighbours.meet(member)
        link = self._dialer.connect(member.incarnation, member.endpoint, TO_SHARD)
        link.name = member.name
        link.on_unblocked = lambda _: self._forwarding.unblocked(link)
        # The map says so only when somebody has replaced it. Until then nothing should go to a dead process: what is
        # parked meanwhile has certainly not been delivered.
        self._neighbours.on_death(member, lambda: self._shard_died(link))
        self._receivers[link] = self.new_receiver(link)
        self._receivers = {link: receiver for link, receiver in self._receivers.items() if not link.closed}
        return link

    def new_receiver(self, link: Link[EventWriter]) -> Receiver:
        """What takes the output that comes on *link*."""
        return Receiver(link, self._shared, self._forwarding, self._output)

    def _group(self, link: Link[EventWriter], group: bytes) -> Rest | None:
        receiver = self._receivers[link]
        if len(group) <= STEP_BYTES:
            link.read(group, receiver, link.parts)
            return None
        return Steps(link.read, group, receiver, link.parts).go_on

    def _shard_died(self, link: Link[EventWriter]) -> None:
        if not link.closed:
            log.info("the process of %s has ended", link.name)
            self._forwarding.shard_died(link)

    def _last_words(self, member: Member) -> Death | None:
        said = self._neighbours.last_words(member)
        if said is None:
            return None
        now = self._clock.now()
        return Death(
            running=None if said.running is None else self._suspect(said.running, now),
            waiting=[self._suspect(event, now) for event in said.waiting],
            last=None if said.last is None else self._suspect(said.last, now),
            stood_s=max(now - said.turned_at, 0.0) if said.turned_at else 0.0,
        )

    def _suspect(self, event: RunningEvent, now: float) -> Running:
        router = 0 if event.router == self._me else event.router
        waited_s = max(now - event.since, 0.0) if event.since else 0.0
        return Running(event.object_id, event.connection, event.seq, router, waited_s)

    def _link_failed(self, link: Link[EventWriter], error: Exception) -> None:
        log.error("the link to %s is broken, its slots wait for another incarnation: %s", link.name, error)
        self._forwarding.link_broke(link)

    def _expel(self, new: ClusterMap) -> None:
        """The others hold this router for dead. Whatever happens from here on, nobody hears of it."""
        assert self._me is not None
        self._expelled = Expelled(self._config.name, self._me, new.version)
        for link in self._receivers:
            link.close()
        for client in self._clients():
            client.abort()
        self._stop.set()

    # --- time and output ---

    def _unseen_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback has raised, or a protocol: a defect of ours ends the connection that it was called for."""
        error, protocol = context.get("exception"), context.get("protocol")
        if isinstance(protocol, ClientTransport):
            protocol = protocol.get_protocol()  # the loop's transport does not know whose it is
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            self._front.descriptors.refused(self._clock.now())
        elif not isinstance(error, Exception) or not is_defect(error):
            self._log_unseen(loop, context)
        elif isinstance(protocol, Connection | HttpConnection):
            protocol.break_off(error)
        else:
            self._shared.defects.note(context["message"], error)

    def _attempt(self, what: str, step: Callable[[], object]) -> None:
        """A part of the clock's work, which stands alone: an error in it does not keep the others from their turn."""
        try:
            step()
        except Exception as error:
            self._shared.defects.note(f"{what} is tried again", error)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK_S, self._tick)
        wheel, counters, now = self._wheel, self.counters, self._clock.now()
        late, worked = now - self._due if self._due else 0.0, time.thread_time()
        # At most: the turn that made it late has begun behind the last tick, the last slice of work and of writing.
        since = max(self._worked_then, self._shared.work.worked_then, self._wrote[1])
        self._note_turn(late, min(late, worked - since))
        self._due, self._worked_then = now + TICK_S, worked
        wheel.advance(now)
        if wheel.is_behind:
            self._shared.work.add_own(wheel)
        self._shared.on_tick()
        self._attempt("telling of automatic responses", self._shared.reports.flush)
        self._attempt("looking for clients that take nothing", lambda: self._shared.send_buffers.look(wheel.tick))
        self._attempt("collecting young garbage", self._collector.on_tick)
        if wheel.tick >= self._second:
            self._second = wheel.tick + _TICKS_A_SECOND
            self._attempt("looking after what is parked", self._forwarding.on_second)
            self._attempt("collecting garbage", self._collector.on_second)
            self._attempt("looking after the run folder", self._upkeep.look)
            self._attempt("keeping descriptors", self._front.descriptors.top_up)
            self._attempt("looking after neighbours", self._neighbours.look_after)
            counters.slots_attached = self._forwarding.attached
        counters.ghosts = self._shared.connections.ghosts
        counters.objects = len(self._shared.objects)
        counters.parked = self._forwarding.desk.requests.parked
        self._attempt("giving memory back", lambda: self._heap.look(self._shared.budgets.held_bytes))
        if self._retiring and not self._stop.is_set():
            self._attempt("retiring", self._retire_further)
        if self._has_stopped_listening() and self._front.ending and not (self._front.open or self._shared.connections):
            self._drained.set()  # ghosts included: their objects have heard of the end

    def _stop_ticking(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _note_turn(self, seconds: float, worked: float) -> None:
        """A turn of the loop has taken *seconds* at least, and one had a processor for *worked* of them, at most."""
        counters = self.counters
        counters.longest_turn_us = max(counters.longest_turn_us, int(seconds * 1e6))
        counters.longest_turn_worked_us = max(counters.longest_turn_worked_us, int(worked * 1e6))

    def _work_soon(self) -> None:
        if not self._work_planned:
            self._work_planned = True
            self._loop.call_soon(self._work)

    def _work(self) -> None:
        self._work_planned = False
        work, more = self._shared.work, True
        try:
            more = work.run()
        finally:
            if more:
                self._work_soon()
        self._note_turn(work.longest_turn, work.most_worked)

    def _output_soon(self) -> None:
        if not self._output_planned:
            self._output_planned = True
            self._loop.call_soon(self._write_output)

    def _write_output(self) -> None:
        self._output_planned = False
        more = True
        now, worked = self._clock.now(), time.thread_time()
        then, worked_then = self._wrote
        if then:
            self._note_turn(now - then, worked - worked_then)
        if self._dialer is not None:
            self._dialer.flush_planned()  # what has just been read need not wait for what is written now
        try:
            more = self._output.run()
        finally:
            self._wrote = now if more else 0.0, worked
            if more:
                self._output_soon()

    # --- the end ---

    def _exhausted(self) -> None:
        log.warning("all connection numbers are used: draining")
        self._stop.set()

    def _retire(self) -> None:
        self._retiring = True  # the clock of the router does the rest, once it runs

    def _retire_further(self) -> None:
        """Close the next few clients; when all have been told, end."""
        now = self._clock.now()
        if self._retirement is None:
            rate = self._config.retire_rate
            log.info("retiring: %d connections are closed, %g a second", self.counters.connections, rate)
            self._stop_listening()
            self._front.drain()
            self._retirement = Retirement(self._shared.connections, rate, now)
        elif not self._retirement.step(now) or not self._has_stopped_listening():
            self._ends_at = now + self._config.drain_limit_s
        elif not self._front.open or now >= self._ends_at:
            self._stop.set()

    def _stop_listening(self) -> asyncio.Task[None]:
        """Begin to close the port without losing anybody, if that has not begun."""
        if self._listening_ends is None:
            assert self._listener is not None
            others = any(
                member.kind is MemberKind.ROUTER
                for member in self._front.map.members.values()
                if member.incarnation != self._me
            )
            self._listening_ends = self._loop.create_task(self._listener.drain(handed_on=others))
        return self._listening_ends

    def _has_stopped_listening(self) -> bool:
        return self._listening_ends is not None and self._listening_ends.done()

    async def _close_listener(self) -> None:
        """Close the port at once."""
        assert self._listener is not None
        if self._listening_ends is not None:
            self._listening_ends.cancel()
            await asyncio.wait([self._listening_ends])
        self._listener.close()

    async def _drain(self) -> None:
        """Close every client, and give each a little time to answer."""
        shared = self._shared
        log.info("draining %d connections", len(shared.connections))
        self._ends_at = self._ends_at or self._clock.now() + self._config.drain_limit_s
        listening_ends = self._stop_listening()
        self._front.drain(ending=True)
        async for connection in _in_turns(shared.connections.all()):
            connection.close_or_break_off(GOING_AWAY, GONE)
        await asyncio.wait([listening_ends])  # it has deadlines of its own
        await self._wait_for_clients()
        if not self._drained.is_set():
            log.info("%d clients have not answered, or their objects not yet", len(shared.connections))
        async for unanswered in _in_turns([each for each in self._front.open if each.has_request]):
            unanswered.give_up()
        await asyncio.sleep(TICK_S)  # the answers leave
        async for client in _in_turns(self._clients()):
            client.abort()
        await asyncio.sleep(0)  # the links send what the objects have to hear of that

    async def _wait_for_clients(self) -> None:
        """Wait until all clients have ended, or the time of those who are left is up."""
        patience = self._clock.now() + self._config.drain_timeout_s
        while not self._drained.is_set():
            now = self._clock.now()
            end = patience if now < patience else self._ends_at if await self._make_progress() else now
            if now >= end:
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), min(DRAIN_LOOK_S, end - now))

    async def _make_progress(self) -> bool:
        """Whether somebody is worth waiting for: who gets an answer, or takes what was sent."""
        async for client in _in_turns(self._clients()):
            if client.is_taking or (isinstance(client, HttpConnection) and client.has_request):
                return True
        return False

    def _clients(self) -> list[Connection | HttpClient]:
        return [*self._shared.connections.all(), *self._front.open]


async def _in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """*items*, some in each turn of the loop: links, answers and other clients go on meanwhile."""
    for count, item in enumerate(items, 1):
        yield item
        if count % A_TURN == 0:
            await asyncio.sleep(0)


async def run(config: RouterConfig, machine: RouterMachine) -> None:
    """Run a router until it is told to stop."""
    await Router(config, machine).serve()
