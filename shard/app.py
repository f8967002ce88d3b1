"""A shard, put together: the host on one loop, with its links and the cluster around it.

Start: load the app, take the name, join the directory, bind the ZeroMQ socket, enter the map, follow it.

End (SIGTERM, SIGINT): let running handlers end, flush, leave. A shard that owns slots stays in the map: its next
incarnation takes them over, and routers keep the sockets meanwhile.

A shard that has been taken off the map is held for dead by the others, who may have its slots already. It ends at once
and says nothing.

A shard whose own code fails (``common.defects``) ends at once as well, whatever it was doing: half of that has
happened, and a crash is what all others can deal with. One whose link to a router was given up, by either end, ends in
good order as far as the others are concerned; its next incarnation gets everything anew from that router, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import signal
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from ..common.cluster.cluster_map import ClusterMap, MemberKind
from ..common.cluster.directory import Care, Directory, MapWatch, enter, leave
from ..common.errors import Expelled, LinkBroken
from ..common.ids import Incarnation
from ..common.machine.counters import CounterFile
from ..common.machine.hangup import listen_to_hangup
from ..common.runtime.collector import Collector
from ..common.runtime.heap import Heap
from ..common.settings.shard import ShardConfig
from ..common.wire.link import Acceptor, Link, Rest, Wiring
from ..common.wire.records import STEP_BYTES, TO_ROUTER, OutputWriter, Steps, Wholes
from .counters import ShardCounters
from .development import debugging, load_or_note
from .events import LastEvents, RouterEvents
from .host import Host
from .machine import ShardMachine
from .moving.handover import Handover
from .objects.loader import HostedClass, load
from .running.descriptors import Descriptors
from .running.forked import Ending

log = logging.getLogger("roost.shard")


class Shard:
    """One shard process.

    Args:
        config: Its settings.
        classes: The user's classes, by namespace.
        machine: What lies outside of it.
    """

    def __init__(self, config: ShardConfig, classes: dict[str, HostedClass], machine: ShardMachine) -> None:
        self._config = config
        self._classes = classes
        self._machine = machine
        self._clock = machine.clock
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.counters = ShardCounters()
        self._links: dict[Incarnation, Link[OutputWriter]] = {}
        self._sinks: dict[Link[OutputWriter], RouterEvents | LastEvents] = {}
        self._acceptor: Acceptor | None = None
        self._host: Host | None = None
        self._incarnation = Incarnation(0)
        self._expelled: Expelled | None = None
        self._broken: LinkBroken | None = None
        self._second: asyncio.TimerHandle | None = None
        self._heap = Heap(self.counters, self._clock)
        self._upkeep = machine.upkeep()
        self._descriptors: Descriptors | None = None

    async def serve(self) -> None:
        """Run until told to stop, then drain.

        Raises:
            StartupError: The shard cannot start.
            Expelled: It was taken off the map.
            LinkBroken: It has ended in order, and has to start anew.
        """
        config, counters, machine = self._config, self.counters, self._machine
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        listen_to_hangup(self._loop, self._stop.set)
        descriptor_limit = machine.descriptor_limit()
        machine.limit_memory()
        async with contextlib.AsyncExitStack() as closing:
            held = machine.take_name()
            closing.callback(held.release)
            directory = await machine.open_directory(config.initial_shards)
            closing.push_async_callback(directory.aclose)
            me = await directory.join(
                MemberKind.SHARD,
                config.name,
                machine.pid,
                machine.endpoint_of,
                tuple(sorted(name for name, hosted in self._classes.items() if hosted.public)),
                config.seat,
            )
            self._incarnation = me.incarnation
            last_words = machine.last_words(me.incarnation)
            closing.callback(last_words.close)
            self._host = host = Host(
                config, self._classes, self._loop, me.incarnation, counters, last_words, wall=self._clock.wall
            )
            closing.push_async_callback(host.runner.aclose)
            handover = self.new_handover(directory, host)
            closing.push_async_callback(handover.aclose)
            host.release.on_released = handover.add
            host.errors.on_defect = self._crash
            wiring = Wiring(
                loop=self._loop,
                cluster_id=directory.cluster_id,
                local=me.incarnation,
                clock=self._clock,
                on_group=self._group,
                counters=counters,
                on_failed=self._link_failed,
                on_defect=self._crash,
                new_parts=Wholes,
            )
            self._acceptor = acceptor = machine.acceptor(wiring, me.endpoint)
            acceptor.on_drained = host.runner.go
            closing.push_async_callback(acceptor.aclose)
            self._descriptors = descriptors = Descriptors(descriptor_limit, acceptor)
            closing.callback(descriptors.close)
            counter_file = machine.counter_file(counters)
            closing.callback(counter_file.close)
            counter_file.stands_in = debugging.__bool__
            counter_file.bring_up_to_date = host.count_objects
            counter_file.start(self._loop)
            collector = machine.collector(
                counters,
                held=lambda: counters.sockets + counters.objects_awake,
                traffic=lambda: counters.events + counters.sends,
                lives=lambda: (counters.objects_awake, counters.lives_ended),
                after_all=self._heap.trim,
            )
            self._upkeep = machine.upkeep(held, counter_file, acceptor, last_words)
            self._on_second(collector)
            closing.callback(self._stop_seconds)
            watchdog = machine.watchdog(host, descriptors.look)
            closing.callback(watchdog.close)
            care = Care(directory, self._room)
            closing.push_async_callback(care.aclose)
            care.start()
            await enter(directory, me)
            closing.push_async_callback(leave, directory, me.incarnation)
            watch = MapWatch(directory, self._take_map)
            await watch.start()
            closing.push_async_callback(watch.aclose)
            # In the runtime's own context: what is collected by itself is so while objects' code runs, too.
            collector.start(partial(self._loop.call_soon_threadsafe, context=contextvars.copy_context()))
            closing.callback(collector.stop)
            watchdog.start()
            machine.on_fork(partial(self._become_copy, counter_file))
            log.info("hosting %s as incarnation %d", ", ".join(sorted(self._classes)), me.incarnation)
            machine.report_ready(me.incarnation)
            await self._stop.wait()
            if self._expelled is not None:
                raise self._expelled
            self._sinks = {peer.link: LastEvents(peer) for peer in host.output.peers}
            await host.aclose(config.drain_timeout_s)
            if self._broken is not None:
                raise self._broken

    def new_handover(self, directory: Directory, host: Host) -> Handover:
        """What hands slots over that *host* has let go of."""
        return Handover(directory, self._incarnation, host.handed_over, self._room)

    def _become_copy(self, counter_file: CounterFile) -> None:
        """An object's code has forked, and this is the child."""
        assert self._host is not None
        assert self._acceptor is not None
        ending: Any = Ending(self._upkeep)
        self._host.become_copy()
        self._acceptor.become_copy(ending)
        counter_file.bring_up_to_date = ending
        self._upkeep = ending

    def _take_map(self, new: ClusterMap) -> None:
        acceptor, host = self._acceptor, self._host
        assert acceptor is not None
        assert host is not None
        if self._incarnation not in new.members:
            if self._expelled is None:
                self._expelled = Expelled(self._config.name, self._incarnation, new.version)
                self._stop.set()
            for link in self._links.values():
                link.close()
            return
        routers = {router.incarnation: router.name for router in new.routers}
        for incarnation in routers.keys() - self._links.keys():
            self._links[incarnation] = link = acceptor.add_peer(incarnation, TO_ROUTER)
            link.name = routers[incarnation]
        for incarnation in self._links.keys() - routers.keys():
            self._sinks.pop(self._links.pop(incarnation), None)
        host.follow(new, self._links)
        for peer in host.output.peers:
            if peer.link not in self._sinks:
                self._sinks[peer.link] = LastEvents(peer) if host.is_closing else RouterEvents(host, peer)
        acceptor.map_version = new.version

    def _group(self, link: Link[OutputWriter], group: bytes) -> Rest | None:
        assert self._host is not None
        self._host.runner.gather()
        sink = self._sinks[link]
        if len(group) <= STEP_BYTES:
            link.read(group, sink, link.parts)
            return None
        return Steps(link.read, group, sink, link.parts, self._host.runner.gather).go_on

    def _crash(self, error: Exception) -> None:
        log.critical("an error of roost's own: this shard ends at once, to start anew", exc_info=error)
        self._machine.end_at_once()

    def _link_failed(self, link: Link[OutputWriter], error: Exception) -> None:
        # Nothing can be resumed with that router: what both sides know of each other differs now. A new incarnation
        # of this shard gets everything anew from all routers.
        self._broken = LinkBroken(link.name, error)
        log.critical("%s", self._broken)
        self._stop.set()

    def _on_second(self, collector: Collector) -> None:
        self._second = self._loop.call_later(1.0, self._on_second, collector)
        collector.on_second()
        self._heap.look(self.counters.events_bytes + self.counters.held_bytes)
        with self._room():
            self._upkeep.look()

    def _room(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext() if self._descriptors is None else self._descriptors.room()

    def _stop_seconds(self) -> None:
        if self._second is not None:
            self._second.cancel()


async def run(config: ShardConfig, machine: ShardMachine) -> None:
    """Load the app and run a shard until SIGTERM or SIGINT.

    Raises:
        StartupError: It cannot start.
    """
    classes = load_or_note(config) if config.development else load(config.app)
    for hosted in classes.values():
        for doubt in hosted.doubts():
            log.warning("%s: %s", hosted.namespace, doubt)
    await Shard(config, classes, machine).serve()
