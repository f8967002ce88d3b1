"""What kills shards: what was at work when they died, and what is therefore not tried again.

Theory of operation
===================

A shard that dies leaves its last words: which event's code ran, and which events had begun and not ended (their
handlers wait, or tasks of theirs are left; ``common.last_words``). Each of these may have killed it: a thread or a
child of a handler that waits does so while quite another handler runs. The owner that comes next gets the events again,
since most had nothing to do with the death. But not for ever. All of them are **suspects**, and suspicion falls on what
is there at every death:

* An event that *ran* at ``MAX_DEATHS_OF_EVENT`` deaths is not sent again. After one death it is sent to a shard of the
  same seat only (the dead one's successor): when others inherit the slot it takes no second shard down.
* An event that was at work at ``MAX_DEATHS_OF_EVENT`` deaths, each within ``DEATHS_WINDOW_S`` of the one before, is not
  sent again if it is the only one: whatever ended in between is innocent. What kills does so after about the same time
  again. One that had waited for quite another time when its shard died once more (somebody has ended the process, say)
  is given ``UNLIKE`` deaths more.
* If there are several, they are **tried**: their slots are given to the next owner in at most ``STAGES`` stages, one
  after the other, each so late that the one before would have killed by then (twice as long as it took last time). All
  other slots go at once. If the shard dies, only the suspects of the stage that came last are left; if it lives through
  all stages, all are cleared. So the events of n objects, one of which kills, cost two deaths to know that
  there is a killer, and one more for each power of ``STAGES`` in n to find its object: 3 for 16, 4 for 256. No event of
  another object is dropped.
* An *object* is at work at a death if a suspect is its own. One that was at ``MAX_DEATHS_OF_OBJECT`` deaths within
  ``DEATHS_WINDOW_S``, whatever the events, is refused for that long: it kills by something that comes again in new
  events. Here, too, it must have run, or be the only one; several are tried. One that ends a shard within a minute
  after its refusal is refused at once, for twice as long, up to ``LONGEST_REFUSAL_S``.
* Time for which the loop stood still before a death does not count against the window: a hanging constructor is killed
  after 30 s, and three such deaths never fall into a minute. And whatever ran then has held the loop without a doubt:
  an object is refused after ``MAX_HANGS_OF_OBJECT`` deaths.

Suspects of one object that wait together cannot be told from each other: the object is refused at the third death.
A death for which an event is found guilty is explained: its object is not refused for that one.

Every router reads the last words of every shard, so all of them come to the same judgement, and hold the same slots
back; an event is the business of the router that has its connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ...common.ids import ObjectId, Slot, slot_of
from ...common.limits import DEATHS_WINDOW_S, MAX_DEATHS_OF_EVENT, MAX_DEATHS_OF_OBJECT, MAX_HANGS_OF_OBJECT

MAX_EVENTS = 8_192
"""Events that are kept in mind; beyond that the one noted longest ago is forgotten."""
MAX_OBJECTS = 4_096
"""The same for objects."""
STAGES = 16
"""Stages of a trial, at most."""
STAGE_S = (3.0, 20.0)
"""Seconds from one stage to the next: shortest and longest. Routers do not begin at quite the same time, and look about
once a second."""
TRIAL_S = 60.0
"""Seconds that a trial takes, at most: a slow killer is tried in fewer stages."""
UNLIKE = 1
"""Deaths more that it takes when what was at work had waited for different times before them; of an object three times
as many."""
HANG_S = 2.5
"""Seconds for which the loop must have stood still before a death, to be its cause."""
LONGEST_REFUSAL_S = 3_600.0
"""Seconds for which an object is refused, at most."""


@dataclass(frozen=True, slots=True)
class Running:
    """An event whose code was at work when a shard died.

    Attributes:
        object_id: The object whose code it was.
        connection: The connection of the event, by its counter at its router; 0 when it has none.
        seq: Number of the event; 0 for a request, which is not sent again.
        router: The incarnation of the router whose event it is; 0 for this one's.
        waited_s: Seconds for which it had waited then.
    """

    object_id: ObjectId
    connection: int
    seq: int
    router: int = 0
    waited_s: float = field(default=0.0, compare=False)

    @property
    def key(self) -> tuple[int, int, int]:
        """The event, among those of all routers."""
        return self.router, self.connection, self.seq


@dataclass(frozen=True, slots=True)
class Death:
    """How a shard died.

    Attributes:
        running: The event whose code ran; ``None`` if nothing did.
        waiting: The events whose code had begun and not ended.
        last: The event whose code ran last: something that it has left with the loop may have been what ran. It counts
            if nothing else is known, and only as an event.
        stood_s: Seconds for which the loop had stood still.
    """

    running: Running | None
    waiting: Sequence[Running] = ()
    last: Running | None = None
    stood_s: float = 0.0

    @property
    def suspects(self) -> list[Running]:
        """What may have killed it: each event once."""
        found = {(*each.key, each.object_id): each for each in self.waiting}
        if self.running is not None:
            found[(*self.running.key, self.running.object_id)] = self.running
        return list(found.values())

    @property
    def is_hang(self) -> bool:
        """Whether what ran has held the loop until the process was killed."""
        return self.running is not None and self.stood_s >= HANG_S


@dataclass(slots=True)
class _Event:
    seat: str
    slot: Slot
    deaths: int = 0
    """At which it was at work, each soon after the one before."""
    ran: int = 0
    """At which its code ran."""
    at: float = 0.0
    waited_s: float = 0.0
    alike: int = 0
    """Deaths before which it had waited for about the same time, the last one included."""
    guilty: bool = False


@dataclass(frozen=True, slots=True)
class _AtDeath:
    """Of an object: when its shard died, how long the loop had stood, whether its code ran, how long it had waited."""

    at: float
    stood_s: float
    ran: bool
    waited_s: float


@dataclass(slots=True)
class _Object:
    deaths: deque[_AtDeath] = field(default_factory=lambda: deque(maxlen=MAX_DEATHS_OF_OBJECT + 3 * UNLIKE))
    refused_until: float = 0.0
    refused_s: float = 0.0
    """For how long it was refused last; 0 if it never was."""

    @property
    def has_begun_again(self) -> bool:
        """Whether its last death came soon after it was refused."""
        last = self.deaths[-1]
        return self.refused_s > 0 and last.at - self.refused_until <= DEATHS_WINDOW_S + last.stood_s

    def is_full(self, most: int, *, ran: bool = False) -> bool:
        """Whether its last *most* deaths fall into the window. *ran*: and its code ran at each; else it had waited for
        about the same time before each, or there are some more."""
        most_of_all = most + 3 * UNLIKE
        return self._within(most) and (
            all(each.ran for each in list(self.deaths)[-most:])
            or (not ran and (self._alike(most) or self._within(most_of_all)))
        )

    def _within(self, most: int) -> bool:
        last = list(self.deaths)[-most:]
        stood = sum(each.stood_s for each in last[1:])
        return len(last) == most and last[-1].at - last[0].at <= DEATHS_WINDOW_S + stood

    def _alike(self, most: int) -> bool:
        waited = [each.waited_s for each in list(self.deaths)[-most:]]
        return _alike(min(waited), max(waited))


def _alike(one_s: float, other_s: float) -> bool:
    """Whether the same cause may have waited for that long: what starts and loads differs a little each time."""
    return abs(one_s - other_s) <= 0.5 + 0.25 * max(one_s, other_s)


class _Trial:
    """Slots that are given to the next owner in stages."""

    __slots__ = ("begun", "reached", "stages", "step_s")

    def __init__(self, slots: Iterable[Slot], step_s: float) -> None:
        self.step_s = min(max(step_s, STAGE_S[0]), STAGE_S[1])
        ordered = sorted(set(slots))
        count = min(len(ordered), STAGES, max(2, int(TRIAL_S / self.step_s)))
        self.stages = {slot: number * count // len(ordered) for number, slot in enumerate(ordered)}
        self.begun: float | None = None
        self.reached = 0

    def holds(self, slot: Slot, now: float) -> bool:
        """Whether the slot's stage has not come yet. An owner is there: the first look begins the trial."""
        stage = self.stages.get(slot)
        if stage is None:
            return False
        if self.begun is None:
            self.begun = now
        if now < self.begun + stage * self.step_s:
            return True
        self.reached = max(self.reached, stage)
        return False

    def is_over(self, now: float) -> bool:
        """Whether the shard has lived through all stages."""
        return self.begun is not None and now >= self.begun + (max(self.stages.values()) + 1) * self.step_s


class Deaths:
    """Keeps count."""

    __slots__ = ("_events", "_objects", "_refused", "_trials")

    def __init__(self) -> None:
        self._events: dict[tuple[int, int, int], _Event] = {}
        self._objects: dict[ObjectId, _Object] = {}
        self._refused: dict[ObjectId, float] = {}  # until when
        self._trials: dict[str, _Trial] = {}  # by seat

    def note(self, death: Death, seat: str, now: float, lived_s: float = 0.0) -> list[ObjectId]:
        """A shard has died.

        Args:
            death: What its last words say.
            seat: Its seat.
            now: Seconds, monotonic.
            lived_s: Seconds since it was given its first slots.

        Returns:
            The objects that are refused from now on.
        """
        suspects = death.suspects
        trial = self._trial_of(suspects, seat)
        if trial is not None and trial.begun is None:
            trial = None  # nobody was tried
        if trial is not None and trial.begun is not None:
            lived_s = max(now - trial.begun - trial.reached * trial.step_s, 0.0)
        counted = suspects or [each for each in (death.last,) if each is not None]
        again = [each for each in counted if self._note_event(each, each is death.running, death, seat, now)]
        waited: dict[ObjectId, float] = {}
        for each in suspects:  # the one that has come last: others may have waited before
            waited[each.object_id] = min(each.waited_s, waited.get(each.object_id, each.waited_s))
        for object_id, waited_s in waited.items():
            ran = death.running is not None and death.running.object_id == object_id
            self._note_object(object_id, _AtDeath(now, death.stood_s, ran, waited_s))

        # Whoever was there at the deaths before: of a trial, only those whose turn it was.
        tried = self._of_stage(again, trial)
        guilty = self._guilty(death, tried)
        if guilty is not None:
            guilty.guilty = True
            return []
        full = self._full(death, suspects, trial)
        if len(full) == 1:
            self._refuse(full[0], now)
            return full
        slots = {slot_of(each.object_id) for each in tried} | {slot_of(each) for each in full}
        if len(slots) > 1:
            self._trials[seat] = _Trial(slots, 2 * lived_s + 1)
        return []

    def _note_event(self, event: Running, ran: bool, death: Death, seat: str, now: float) -> bool:
        """Says whether it was at work at deaths enough."""
        if not event.seq:
            return False
        noted = self._events.pop(event.key, None) or _Event(seat, slot_of(event.object_id))
        if noted.deaths and now - noted.at > DEATHS_WINDOW_S + death.stood_s:
            noted.deaths = noted.alike = 0
        noted.alike = noted.alike + 1 if noted.deaths and _alike(noted.waited_s, event.waited_s) else 1
        noted.deaths += 1
        noted.ran += ran
        noted.at, noted.waited_s = now, event.waited_s
        self._events[event.key] = noted
        if len(self._events) > MAX_EVENTS:
            del self._events[next(iter(self._events))]
        most = MAX_DEATHS_OF_EVENT
        return noted.alike >= most or noted.ran >= most or noted.deaths >= most + UNLIKE

    def _note_object(self, object_id: ObjectId, at_death: _AtDeath) -> None:
        noted = self._objects.pop(object_id, None) or _Object()
        noted.deaths.append(at_death)
        self._objects[object_id] = noted
        if len(self._objects) > MAX_OBJECTS:
            oldest = next(iter(self._objects))
            del self._objects[oldest]
            self._refused.pop(oldest, None)

    def _trial_of(self, suspects: Sequence[Running], seat: str) -> _Trial | None:
        """The trial that has ended with this death: that of the seat, or of another whose slots the shard inherited."""
        own = self._trials.pop(seat, None)
        if own is not None:
            return own
        slots = {slot_of(each.object_id) for each in suspects}
        for other, trial in self._trials.items():
            if trial.begun is not None and not slots.isdisjoint(trial.stages):
                return self._trials.pop(other)
        return None

    @staticmethod
    def _of_stage(events: list[Running], trial: _Trial | None) -> list[Running]:
        if trial is None:
            return events
        return [each for each in events if trial.stages.get(slot_of(each.object_id)) == trial.reached]

    def _guilty(self, death: Death, tried: list[Running]) -> _Event | None:
        """The event that has caused the death, and is newly known to have."""
        found = None
        if death.running is not None and death.running.seq:
            noted = self._events[death.running.key]
            if noted.ran >= MAX_DEATHS_OF_EVENT:
                found = noted
        if found is None and len(tried) == 1:
            found = self._events.get(tried[0].key)
        return None if found is None or found.guilty else found

    def _full(self, death: Death, suspects: list[Running], trial: _Trial | None) -> list[ObjectId]:
        """The objects that have been at work at too many deaths: one that ran at each, or else all of them."""
        objects = list(dict.fromkeys(each.object_id for each in self._of_stage(suspects, trial)))
        if death.running is not None:
            runner = death.running.object_id
            noted = self._objects[runner]
            if noted.is_full(MAX_DEATHS_OF_OBJECT, ran=True):
                return [runner]
            if death.is_hang and (noted.is_full(MAX_HANGS_OF_OBJECT, ran=True) or noted.has_begun_again):
                return [runner]
        if len(objects) == 1 and self._objects[objects[0]].has_begun_again:
            return objects
        return [each for each in objects if self._objects[each].is_full(MAX_DEATHS_OF_OBJECT)]

    def _refuse(self, object_id: ObjectId, now: float) -> None:
        noted = self._objects[object_id]
        noted.refused_s = min(2 * noted.refused_s, LONGEST_REFUSAL_S) if noted.has_begun_again else DEATHS_WINDOW_S
        noted.refused_until = self._refused[object_id] = now + noted.refused_s
        noted.deaths.clear()

    # --- events ---

    def poisoned(self, seat: str) -> dict[int, list[int]]:
        """The events of this router that must not be sent to a shard of *seat*: by connection, ascending."""
        found: dict[int, list[int]] = {}
        for (router, connection, seq), noted in self._events.items():
            if not router and (noted.guilty or noted.ran >= MAX_DEATHS_OF_EVENT or (noted.ran and noted.seat != seat)):
                found.setdefault(connection, []).append(seq)
        return found

    def forget(self, connection: int, seq: int) -> None:
        """The event is not kept any more."""
        self._events.pop((0, connection, seq), None)

    # --- trials ---

    def holds(self, slot: Slot, now: float) -> bool:
        """Whether *slot*, for which there is an owner, must not be given to that one yet."""
        found = False
        for trial in self._trials.values():
            found |= trial.holds(slot, now)
        return found

    def tried(self, slot: int) -> bool:
        """Whether *slot* waits for its stage in a trial that has begun."""
        return any(trial.begun is not None and slot in trial.stages for trial in self._trials.values())

    def look(self, now: float) -> list[Slot]:
        """End the trials that are over; whoever was tried is innocent.

        Returns:
            The slots that are on trial, or were just now.
        """
        slots = [slot for trial in self._trials.values() for slot in trial.stages]
        for seat in [seat for seat, trial in self._trials.items() if trial.is_over(now)]:
            stages = self._trials.pop(seat).stages
            for noted in self._events.values():
                if noted.slot in stages and not noted.guilty:
                    noted.deaths = noted.alike = 0
            for object_id, held in self._objects.items():
                if slot_of(object_id) in stages:
                    held.deaths.clear()
        return slots

    # --- objects ---

    def refuses(self, object_id: ObjectId, now: float) -> bool:
        """Whether nothing is to be sent to the object for now."""
        until = self._refused.get(object_id)
        if until is None:
            return False
        if now < until:
            return True
        del self._refused[object_id]
        return False

    def refusal_s(self, object_id: ObjectId) -> float:
        """Seconds for which the object was refused last."""
        noted = self._objects.get(object_id)
        return 0.0 if noted is None else noted.refused_s

    @property
    def refuses_any(self) -> bool:
        """Whether there may be an object that is refused."""
        return bool(self._refused)
