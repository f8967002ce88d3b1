"""The host: the objects of a shard, and what they share, put together.

One turn of the loop: batches come (``events``), each event is given to its object, the runner takes the handlers
through, their output gathers in outboxes. At the end of the turn one flush (``output``) writes it to the links.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ..common.cluster.cluster_map import ClusterMap
from ..common.errors import ObjectGone
from ..common.ids import Incarnation, ObjectId, Slot
from ..common.machine.last_words import LastWords
from ..common.settings.shard import ShardConfig
from ..common.wire.link import Link
from ..common.wire.records import OutputWriter
from ..common.wire.remembered import Remembered
from .api.current import current
from .api.namespaces import Env
from .api.unfinished import Unfinished
from .budgets import Budgets
from .counters import ShardCounters
from .moving.release import Release
from .moving.slots import Change, Slots
from .objects.arrivals import Arrivals
from .objects.behind import Behind
from .objects.closing import LAST_STEPS_S, Closings
from .objects.hosted import HostedObject
from .objects.jobs import Job
from .objects.loader import HostedClass
from .objects.misuse import MisuseLog
from .objects.numbers import Numbers
from .objects.objects import Objects
from .objects.packages import Packages
from .objects.sleep import SleepQueue
from .objects.sockets import RouterPeer
from .objects.user_errors import UserErrors
from .outgoing.flow import Flow
from .outgoing.output import Output
from .running.forked import Ending, leave
from .running.loop_calls import note_calls
from .running.own_loop import OwnLoop
from .running.reasons import Reason
from .running.runner import Runner
from .running.tasks import make_task

log = logging.getLogger("roost.shard")


class Host:
    """All objects of a shard.

    Args:
        config: The shard's settings.
        classes: The user's classes by namespace.
        loop: The loop that all runs on.
        incarnation: This shard's incarnation.
        counters: Where things are counted.
        last_words: Where the event is noted whose code runs.
        errors: By default what logs errors of objects' code.

    Attributes:
        env: What objects get as ``self.env``.
        loop: The loop, as the runtime itself uses it.
        numbers: Those that sockets and settings of all objects get in order.
        errors: What users' code raises, and whom errors of our own code are told.
        slots: The states of this shard's slots.
        objects: The objects.
        remembered: What objects have set of which nothing else is known any more.
        release: Slots that are let go of.
        closings: Lives that close.
        runner: Takes jobs through users' code.
        unfinished: Notes the events that are at work while other code runs.
        last_words: Where all that is noted, if anywhere.
        output: Outboxes and acknowledgements, and the routers they go to.
        misuse: Says what users' code does that no exception tells of.
        flow: What is held for connections that are full.
        behind: Objects that pause, since much of their output waits at a router.
        arrivals: The bound of what has come and not ended.
        packages: What sockets keep in tags, attachments and URLs.
        classes: The user's classes by namespace.
        wall: Unix seconds.
        is_closing: The shard ends.
    """

    def __init__(
        self,
        config: ShardConfig,
        classes: Mapping[str, HostedClass],
        loop: asyncio.AbstractEventLoop,
        incarnation: Incarnation,
        counters: ShardCounters,
        last_words: LastWords | None = None,
        errors: UserErrors | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.counters = counters
        self.last_words = last_words
        self.env = Env(config.variables, [hosted.cls.__name__ for hosted in classes.values()])
        self.loop = OwnLoop(loop)
        self.numbers = Numbers()
        self.errors = errors or UserErrors(counters, development=config.development)
        self.slots: Slots[HostedObject] = Slots(incarnation)
        self.objects: Objects[HostedObject] = Objects()
        self.remembered = Remembered()
        self.runner: Runner[Job] = Runner(loop, self._flush_planned, last_words)
        self.unfinished = Unfinished(last_words, loop.time)
        self.output: Output[RouterPeer] = Output(self._at_turns_end, self.loop.call_later, counters)
        self.misuse = MisuseLog()
        budgets = Budgets(config, counters)
        self.arrivals = Arrivals(budgets.events, counters, self.loop.call_soon)
        self.packages = Packages(budgets.packages, counters)
        self.flow = Flow(budgets.held, self.output.acknowledge_behind, self.output.plan, counters)
        self.output.flow = self.flow
        self.behind = Behind(self.objects, self.output, self.runner)
        self.release = Release(
            self.loop,
            self.slots,
            self.objects,
            self.remembered,
            self.output,
            self.flow,
            self._unhold,
            config.move_timeout_s,
        )
        self.closings = Closings(self.loop, self.runner)
        # What objects ask for besides (see ``Runtime``), where each is answered.
        self.holds = self.slots.holds
        self.note_busy = self.release.wait_for
        self.note_dropped = self.release.drop
        self.is_closing = False
        self.classes = classes
        self.wall = wall
        self._loops_thread = threading.get_ident()
        self._sleep_queue: SleepQueue[HostedObject] = SleepQueue(config.hibernate_after_s)
        self._sleep_timer: asyncio.TimerHandle | None = None
        loop.set_task_factory(make_task)
        note_calls(loop)
        self.errors.watch(loop)

    def become_copy(self) -> None:
        """An object's code has forked, and this is the child: it ends when that code gives up control (see
        ``forked``)."""
        ending = Ending(self.last_words, self.runner, self.unfinished)
        self.last_words = self.unfinished = ending  # type: ignore[assignment]
        self.runner.become_copy(ending)
        life = current.get()
        if life is not None:
            life.over = ObjectGone("this process was forked by the object's code: only its parent acts for the object")
            life.thread = 0
        if threading.get_ident() == self._loops_thread:
            self.loop.call_soon(leave)  # whatever called that code, if it was no handler

    # Output leaves in the runtime's context: objects' code plans it, and what a flush sets off is not theirs.

    def _at_turns_end(self) -> None:
        if not self.runner.carrying:  # else the runner's pause comes first
            self.loop.call_soon(self._flush_planned)

    def _flush_planned(self) -> None:
        if self.output.planned:
            self.output.flush()

    # --- the map ---

    def follow(self, cluster_map: ClusterMap, links: Mapping[Incarnation, Link[OutputWriter]]) -> None:
        """A new map.

        Args:
            cluster_map: The map.
            links: A link to each of its routers.
        """
        for peer in [peer for peer in self.output.peers if peer.incarnation not in links]:
            self._lose(peer)
        known = {peer.incarnation for peer in self.output.peers}
        for incarnation, link in links.items():
            if incarnation not in known:
                self._meet(RouterPeer(link))
        change = self.slots.follow(cluster_map, links.keys())
        if change.lost:
            raise AssertionError(
                f"map {cluster_map.version} gives {len(change.lost)} slots away that were not released"
            )
        self.apply(change)

    def _unhold(self, owner: HostedObject) -> None:
        """All that *owner* has said is to leave, whoever has no room for it."""
        self.flow.let_go(owner.outbox)
        self.behind.let_go(owner)

    def handed_over(self, slots: Collection[Slot], map_version: int) -> None:
        """The map of that version gave *slots*, which were released, to their next owners."""
        self.apply(self.slots.handed_over(slots, map_version))

    def apply(self, change: Change[HostedObject]) -> None:
        """Carry out what follows from a map, or from what a router said."""
        self._let_start(change.opened)
        if change.leaving:
            self.release.begin(change.leaving)
        self.counters.slots_owned = self.slots.owned
        self.counters.slots_waiting = self.slots.waiting

    def _meet(self, peer: RouterPeer) -> None:
        self.output.meet(peer)
        for owner in self.objects:
            if owner.held:
                owner.tell_held(peer)

    def _lose(self, peer: RouterPeer) -> None:
        """The router has left the map: its connections are gone (1006), and nobody waits for it any more."""
        # The closes first: objects that leave may only be waiting for this router.
        for socket in list(peer.sockets.values()):
            owner: HostedObject = socket.owner
            owner.vanish(socket)
        self.flow.lose(peer)
        self.behind.lose(peer)
        self.output.lose(peer)
        self.apply(self.slots.lost_router(peer.incarnation))

    def _let_start(self, owners: list[HostedObject]) -> None:
        """The gate of *owners* has opened."""
        for owner in owners:
            if len(self.output.peers) > 1:
                # What the object has set may have come from another router than those that have sockets of it.
                for peer in self.output.peers:
                    if owner in peer.objects:
                        owner.inform(peer)
            owner.pump()

    # --- objects ---

    def object_for(self, object_id: ObjectId, namespace: str, name: str) -> HostedObject | None:
        """The object, new if it is not known; ``None`` if its namespace is not hosted."""
        owner = self.objects.get(object_id)
        if owner is None:
            hosted_class = self.classes.get(namespace)
            if hosted_class is None:
                return None
            owner = HostedObject(self, hosted_class, object_id, name)
            self.objects.add(owner)
            state = self.remembered.take(object_id)
            if state is not None:
                owner.take_state(state)
        elif name and not owner.name:
            owner.name = name
        return owner

    # --- sleep ---

    def note_idle(self, owner: HostedObject) -> None:
        """*owner* may have become idle: let it fall asleep, or be forgotten, after a while; or move, if it is to."""
        if owner.leaving:
            self.release.look_at(owner)
            return
        owner.idle_since = now = self.loop.now()
        if not owner.queued_for_sleep:
            self._sleep_queue.enter(owner, now)
            self._set_sleep_timer()

    def _set_sleep_timer(self) -> None:
        at = self._sleep_queue.next_at
        if self._sleep_timer is None and at is not None and not self.is_closing:
            self._sleep_timer = self.loop.call_at(at, self._put_to_sleep)

    def _put_to_sleep(self) -> None:
        self._sleep_timer = None
        for owner in self._sleep_queue.due(self.loop.now()):
            if owner.activation is not None:
                owner.hibernate()
                self.counters.hibernations += 1
            if owner.forgettable:
                self.objects.remove(owner)
                state = owner.state
                if state is not None:
                    self.remembered.put(state)
            elif owner.outbox.holds:
                self._sleep_queue.enter(owner, self.loop.now())  # it may be forgettable once that has left
        self._set_sleep_timer()

    def count_objects(self) -> None:
        """Bring the figures up to date that are not counted as they change."""
        counters, flow = self.counters, self.flow
        counters.objects_asleep = len(self.objects) - counters.objects_awake
        counters.large_bytes = flow.large
        counters.sockets_held = flow.waiting
        counters.settings_remembered = len(self.remembered)
        counters.settings_forgotten += self.remembered.forgotten - counters.settings_forgotten

    # --- the end ---

    async def aclose(self, deadline_s: float) -> None:
        """Let the handlers that run end, cancel those that have not within *deadline_s* seconds, and flush.

        The caller gives no further events (see ``LastEvents``). Events whose handlers are cancelled, or that still
        wait, are not acknowledged: the next owner of their slots gets them.
        """
        self.is_closing = True
        self.release.close()
        for owner in self.objects:
            owner.stop_retrying()
            self._unhold(owner)
        if self._sleep_timer is not None:
            self._sleep_timer.cancel()
        end = self.loop.now() + deadline_s
        await self._handlers_ended(end)
        tasks: set[asyncio.Future[Any]] = set()
        for owner in self.objects:
            if owner.activation is not None:
                for job in owner.activation.jobs:
                    job.cancel(Reason.SHARD_ENDS)
                    assert job.task is not None
                    tasks.add(job.task)
                owner.activation.ask_tasks_to_end()
                tasks |= owner.activation.tasks
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_STEPS_S)
        lives = [life for owner in self.objects for life in (owner.activation, owner.former) if life is not None]
        await self.closings.aclose(lives)
        self.unfinished.close()
        self.output.flush()
        # A shard that has handed all its slots over ends with this: what a router has not got of it would come again.
        await self._confirmed(max(deadline_s, LAST_STEPS_S))

    async def _handlers_ended(self, end: float) -> None:
        while (left := end - self.loop.now()) > 0:
            running = {
                job.task
                for owner in self.objects
                if owner.activation is not None
                for job in owner.activation.jobs
                if job.task is not None
            }
            if running:
                # For all of these, then for those that have begun meanwhile: not for the first one again and again.
                await asyncio.wait(running, timeout=left)
            elif self.runner:
                await asyncio.sleep(0)
            else:
                return

    async def _confirmed(self, timeout_s: float) -> None:
        """Wait for the routers to confirm the last output: what is on its way is dropped with the links."""
        progress = asyncio.Event()
        self.output.on_progress = progress.set
        try:
            async with asyncio.timeout(timeout_s):
                while self.flow.shipping or not self.output.confirmed:
                    progress.clear()
                    await progress.wait()
        except TimeoutError:
            log.warning("a router has not confirmed the last output in %g s", timeout_s)
