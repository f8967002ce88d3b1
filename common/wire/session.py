"""The session of one router and one shard: nothing lost, doubled or reordered, over a carrier that may do all three.

Theory of operation
===================

ZeroMQ carries messages whole and mostly in order, but says nothing when it loses one: to a reset, to a peer it does
not know yet, to a connection that another has replaced. It may also hand what was queued for one process to another
at the same address. So each message between two members is a numbered **batch** of a session, and a session belongs
to one pair of incarnations. It starts at number 1 when both ends make it and ends with either process: there is
nothing to negotiate, and no batch can be taken for one of another process, cluster or session.

What travels is *groups* of records (bytes that mean nothing here). A group is cut into batches of at most
``MAX_BATCH_BYTES``, all but the last marked MORE; the receiver hands out whole groups only.

* The sender keeps each batch until the other end has **confirmed** it. Every batch carries the highest number that
  its sender has received without a gap, so traffic in both directions confirms itself. Without reverse traffic a
  batch that is nothing but a confirmation goes out, after ``CONFIRM_EVERY`` batches or ``CONFIRM_AFTER_S``, or a
  large batch.
* The receiver takes batches in order. It drops what it has and what comes behind a gap, and answers a gap with a
  **resend** request, once, and again after ``ASK_AGAIN_S``: with so few losses a buffer of later batches would save
  nothing worth its states.
* A request makes the sender go back to the batch after the last one received and send from there, at most
  ``RESEND_WINDOW`` batches ahead of what is confirmed. Until it has caught up, new batches queue behind those.
* A loss that no later batch shows is found by the sender: when its oldest batch has stayed unconfirmed for
  ``PROBE_AFTER_S`` without any progress, it sends a **probe** with its highest number, which the other end answers
  with a confirmation or a resend request. The pause doubles up to ``PROBE_AT_MOST_S``.
* When the carrier refuses a batch (there is no peer now) the shell calls ``lost``: the session then only queues and
  probes until the other end is heard.
* A batch names the cluster map its records rely on. The receiver keeps batches of a newer map, and all behind them,
  until ``release`` says that it has that map.

* An end that cannot go on, because what came made no sense to it or because its own code failed, **gives the session
  up**: it says so at once, again every ``PROBE_AT_MOST_S``, and in answer to whatever still comes. It says nothing else
  any more, and takes nothing. So neither end can wait for ever for the other one's confirmations; whoever hears it
  gives up as well. Two incarnations have one session only: one of both has to come back under another.

There is no liveness here: a peer that stays silent is judged by others, and the end of a session is the end of a
process.

========== ==================== =================================== ==========================================
sender     means                event                               becomes
========== ==================== =================================== ==========================================
FLOWING    all batches that     ``send``                            FLOWING; the batch goes out
           exist have gone out  resend request                      RESENDING from the first one lacking
           (``_next`` is        ``lost``, batches unconfirmed       AWAITING
           ``sent + 1``)        no progress                         FLOWING; a probe goes out
RESENDING  ``_next`` goes       ``send``                            RESENDING; the batch queues
           again through what   confirmation                        the window moves; FLOWING when ``_next``
           was sent                                                 passes ``sent``
                                resend request                      RESENDING from the first one lacking
                                ``lost``                            AWAITING
AWAITING   there is no peer:    ``send``                            AWAITING; the batch queues
           the carrier refused  any batch of the other end          RESENDING from the first unconfirmed
                                no progress                         AWAITING; a probe goes out
any        —                    ``give_up``                         GIVEN UP; nothing but GAVE_UP goes out
========== ==================== =================================== ==========================================

========== ============================== ===================== ============================================
receiver   numbered batch                 is it needed?         becomes
========== ============================== ===================== ============================================
IN ORDER   number ≤ received              no, dropped           IN ORDER; a confirmation is owed
           received + 1, map known        yes, handed out       IN ORDER; a confirmation is owed
           received + 1, map not known    yes, held             HOLDING
           any higher                     dropped               IN ORDER; a resend request goes out
HOLDING    received + 1                   yes, held             HOLDING, until ``release``; when the bound is
                                                                reached: dropped, asked for after ``release``
========== ============================== ===================== ============================================

Layout of a batch, little-endian; the first 24 bytes are the same in all batches of one direction of a session::

    0   magic[4] "rst\\xb7" · u16 version · u16 0
    8   u32 sender's incarnation · u32 receiver's incarnation · u64 cluster id
    24  u64 number (of a probe: the highest sent; else of a control batch: 0)
    32  u64 received: the highest number received in order
    40  u32 map version (0 in a control batch)
    44  u32 flags: 1 MORE, 2 PROBE, 4 RESEND, 8 CONFIRM, 16 GAVE_UP
    48  records, MAX_BATCH_BYTES at most; none in a control batch

Bounds: ``LINK_UNCONFIRMED_BYTES`` of unconfirmed batches make the session ``blocked`` until half of them are left. What
must go out anyway is taken even then, so its writers keep themselves to that. As many bytes of held batches;
``MAX_GROUP_BYTES`` of a group.
"""

from __future__ import annotations

import struct
from collections import deque
from enum import IntFlag
from itertools import islice

from ..errors import WireError
from ..ids import Incarnation
from ..limits import LINK_UNCONFIRMED_BYTES, MAX_BATCH_BYTES

CONFIRM_AFTER_S = 0.004
"""Seconds that a confirmation waits for a batch of this side to ride on."""
CONFIRM_EVERY = 16
"""Batches after which it waits no longer; less than the window, so that resending never waits for the clock."""
CONFIRM_AT_ONCE_BYTES = MAX_BATCH_BYTES // 2
"""A batch of that size is confirmed at once: its sender may have more, and keeps little under way (``shipping``)."""
PROBE_AFTER_S = 0.1
"""Seconds without progress after which the sender asks what has arrived."""
PROBE_AT_MOST_S = 0.5
"""The longest pause between two probes, each twice the one before."""
ASK_AGAIN_S = 0.05
"""Seconds after which a resend is asked for again; half of it after which a repeated request is obeyed again."""
RESEND_WINDOW = 64
"""Batches sent again beyond those confirmed."""
MAX_GROUP_BYTES = 1 << 29
"""Bytes of a group: far above one flush of any setting, so that only a broken member gets here."""

VERSION = 3
MAGIC = b"rst\xb7"

_ADDRESS = struct.Struct("<4sHHIIQ")
_COURSE = struct.Struct("<QQII")
HEADER_BYTES = _ADDRESS.size + _COURSE.size
MAX_MESSAGE_BYTES = HEADER_BYTES + MAX_BATCH_BYTES
"""Bytes of the longest batch, header included: what a carrier should let through."""


class Flag(IntFlag):
    """What a batch is. One without any carries the end of a group (or all of it)."""

    MORE = 1
    """The group goes on in the next number."""
    PROBE = 2
    """Control: say what you have."""
    RESEND = 4
    """Control: send again from the number after ``received``."""
    CONFIRM = 8
    """Control: nothing but the ``received`` in its header."""
    GAVE_UP = 16
    """Control: the sender has given the session up, and takes nothing of it any more."""


_MORE, _PROBE, _RESEND, _CONFIRM, _GAVE_UP = (int(flag) for flag in Flag)
_FROM, _COURSE_AT, _BODY_AT = _ADDRESS.size, _COURSE.unpack_from, HEADER_BYTES


def sender_of(batch: bytes, cluster_id: int, receiver: Incarnation) -> Incarnation | None:
    """Who has sent a batch that is for this process; ``None`` if it is for another one or no batch at all."""
    if len(batch) < HEADER_BYTES:
        return None
    magic, version, zero, sender, *rest = _ADDRESS.unpack_from(batch)
    if (magic, version, zero, *rest) != (MAGIC, VERSION, 0, receiver, cluster_id):
        return None
    return Incarnation(sender)


class Session:
    """One end of the session of two incarnations. Pure: the caller carries ``outgoing`` and calls ``tick``.

    After each call of a method, what is in ``outgoing`` is to be given to the carrier in order (``take_outgoing``).
    If the carrier refuses a batch, call ``lost`` and forget the rest: the session still has them.

    Args:
        cluster_id: The directory's random number, 64 bits.
        local: This process.
        remote: The process at the other end.
        now: Seconds, monotonic; the same clock for all calls.

    Attributes:
        remote: The process at the other end.
        sent: Number of the last batch made.
        confirmed: The highest number that the other end has confirmed.
        received: The highest number received without a gap.
        blocked: Too much is unconfirmed: send nothing that can wait.
        unconfirmed_bytes: Bytes of the batches kept, headers included.
        held_bytes: Bytes of received batches that wait for a newer map.
        failed: Why the session cannot go on, empty while it can. The caller gives the link up.
        given_up: It was given up at this end.
        duplicates: Batches received again.
        gaps: Resend requests made.
        probes: Probes made.
        resent: Batches put out again.
    """

    __slots__ = (
        "_asked_at",
        "_asked_from",
        "_awaiting",
        "_from",
        "_held",
        "_next",
        "_obeyed_at",
        "_obeyed_from",
        "_overflowed",
        "_owed_since",
        "_parts",
        "_parts_bytes",
        "_plain",
        "_probe_after",
        "_progress_at",
        "_to",
        "_told",
        "_unconfirmed",
        "blocked",
        "confirmed",
        "duplicates",
        "failed",
        "gaps",
        "given_up",
        "held_bytes",
        "outgoing",
        "probes",
        "received",
        "remote",
        "resent",
        "sent",
        "unconfirmed_bytes",
    )

    def __init__(self, cluster_id: int, local: Incarnation, remote: Incarnation, now: float) -> None:
        self._to = _ADDRESS.pack(MAGIC, VERSION, 0, local, remote, cluster_id)
        self._from = _ADDRESS.pack(MAGIC, VERSION, 0, remote, local, cluster_id)
        self.remote = remote
        self.outgoing: list[bytes] = []
        self.failed = ""
        self.given_up = False
        # Sending. The batches confirmed + 1 to sent are in _unconfirmed; those from _next on have to go out (again).
        self.sent = 0
        self.confirmed = 0
        self.blocked = False
        self.unconfirmed_bytes = 0
        self._unconfirmed: deque[bytes] = deque()
        self._next = 1
        self._awaiting = False
        self._progress_at = now
        self._probe_after = PROBE_AFTER_S
        self._obeyed_from = -1
        self._obeyed_at = now
        # Receiving.
        self.received = 0
        self.held_bytes = 0
        self._told = 0  # what the last batch sent said of `received`; -1: say it again
        self._owed_since = now
        self._asked_from = -1
        self._asked_at = now
        self._held: deque[tuple[int, int, bytes]] = deque()  # map version, flags, body
        self._overflowed = False
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        # No group is half read, nothing is held, the peer is there: then a batch in order is handed out as it is.
        self._plain = True
        self.duplicates = self.gaps = self.probes = self.resent = 0

    # --- sending ---

    def send(self, group: bytes, map_version: int, now: float) -> None:
        """Number a group and put its batches out, or queue them behind those that go out again.

        Args:
            group: Records, back to back; not empty.
            map_version: The map they rely on, which the other end will wait for.
            now: Seconds.

        Raises:
            ValueError: The group is larger than ``MAX_GROUP_BYTES``.
        """
        if len(group) > MAX_BATCH_BYTES:
            self._send_pieces(group, map_version, now)
        else:
            self._send_batch(group, map_version, 0, now)

    def _send_pieces(self, group: bytes, map_version: int, now: float) -> None:
        if len(group) > MAX_GROUP_BYTES:
            raise ValueError(f"a group can have at most {MAX_GROUP_BYTES} bytes, got {len(group)}")
        last = (len(group) - 1) // MAX_BATCH_BYTES * MAX_BATCH_BYTES
        view = memoryview(group)
        for start in range(0, last, MAX_BATCH_BYTES):
            self._send_batch(view[start : start + MAX_BATCH_BYTES], map_version, _MORE, now)
        self._send_batch(view[last:], map_version, 0, now)

    def _send_batch(self, body: bytes | memoryview, map_version: int, flags: int, now: float) -> None:
        number = self.sent + 1
        batch = b"".join((self._to, _COURSE.pack(number, self.received, map_version, flags), body))
        unconfirmed = self._unconfirmed
        if not unconfirmed:
            self._progress_at = now
        unconfirmed.append(batch)
        self.sent = number
        self.unconfirmed_bytes += len(batch)
        if self.unconfirmed_bytes >= LINK_UNCONFIRMED_BYTES:
            self.blocked = True
        if self._next == number and not self._awaiting:
            self._next = number + 1
            self._told = self.received
            self.outgoing.append(batch)

    def take_outgoing(self) -> list[bytes]:
        """What is to be given to the carrier now, in order."""
        outgoing, self.outgoing = self.outgoing, []
        return outgoing

    def lost(self) -> None:
        """The carrier has refused a batch: nobody is there. Queue until the other end is heard.

        A confirmation that is lost with it needs no care: the other end will probe for it.
        """
        if self._unconfirmed:
            self._next = self.confirmed + 1
            self._awaiting = True
            self._plain = False

    def give_up(self, now: float) -> None:
        """This end cannot go on. From now on all that goes out says so, until the caller has no more use for it."""
        self.given_up = True
        self._plain = False
        self._unconfirmed.clear()
        self._held.clear()
        self._parts.clear()
        self.unconfirmed_bytes = self.held_bytes = 0
        self._progress_at = now
        self.outgoing = []
        self._control(_GAVE_UP)

    def _control(self, flag: int) -> None:
        number = self.sent if flag == _PROBE else 0
        self._told = self.received
        # What an end has received that gives up may not have had its effect: nothing is confirmed by that.
        received = 0 if flag == _GAVE_UP else self.received
        self.outgoing.append(self._to + _COURSE.pack(number, received, 0, flag))

    def _emit(self) -> None:
        """Put out again what is due, as far as the window goes."""
        first, confirmed = self._next, self.confirmed
        after = min(self.sent, confirmed + RESEND_WINDOW) + 1
        if self._awaiting or first >= after:
            return
        self.outgoing += islice(self._unconfirmed, first - confirmed - 1, after - confirmed - 1)
        self.resent += after - first
        self._next = after

    def _confirm(self, received: int, now: float) -> None:
        if received > self.sent:
            raise WireError(f"a batch confirms number {received}, but only {self.sent} were sent")
        popleft, freed = self._unconfirmed.popleft, 0
        for _ in range(received - self.confirmed):
            freed += len(popleft())
        self.unconfirmed_bytes -= freed
        self.confirmed = received
        self._progress_at = now
        self._probe_after = PROBE_AFTER_S
        if self.blocked and self.unconfirmed_bytes <= LINK_UNCONFIRMED_BYTES // 2:
            self.blocked = False
        if self._next <= received:
            self._next = received + 1
        if self._next <= self.sent:
            self._emit()

    def _obey(self, received: int, now: float) -> None:
        """The other end lacks what comes after *received*."""
        if received < self.confirmed or not self._unconfirmed:
            return  # an old request that a later confirmation has overtaken
        if received == self._obeyed_from and now - self._obeyed_at < ASK_AGAIN_S / 2:
            return  # the same request twice: the answer is on its way
        self._obeyed_from, self._obeyed_at = received, now
        self._next = received + 1
        self._emit()

    # --- receiving ---

    def receive(self, batch: bytes, map_version: int, now: float) -> list[bytes]:
        """Take a message from the carrier.

        Args:
            batch: The message.
            map_version: The map that this process has.
            now: Seconds.

        Returns:
            The groups that are whole now, in the order sent.

        Raises:
            WireError: *batch* is none of this session. Drop and count it; the session is as before, unless ``failed``
                says that it cannot go on.
        """
        if not batch.startswith(self._from):
            raise self._refusal(batch)
        try:
            number, received, needs, flags = _COURSE_AT(batch, _FROM)
        except struct.error:
            raise self._refusal(batch) from None
        if self.given_up:
            if flags != _GAVE_UP:  # else both would answer each other for ever
                self._control(_GAVE_UP)
            return []
        if received > self.confirmed:
            self._confirm(received, now)
        if number == self.received + 1 and self._plain and not flags and needs <= map_version:
            self._took(number, len(batch), now)
            return [batch[_BODY_AT:]]
        return self._receive_other(batch, number, received, needs, flags, map_version, now)

    def _receive_other(
        self, batch: bytes, number: int, received: int, needs: int, flags: int, map_version: int, now: float
    ) -> list[bytes]:
        if self._awaiting:
            self._awaiting = False
            self._note_plain()
        groups: list[bytes] = []
        if flags == _RESEND:
            self._obey(received, now)
        elif flags == _PROBE:
            if number > self.received and not self._overflowed:
                self._ask(now)
            else:
                self._control(_CONFIRM)
        elif flags == _CONFIRM:
            pass
        elif flags == _GAVE_UP:
            self.failed = f"incarnation {self.remote} has given the session up"
            raise WireError(self.failed)
        elif flags > _MORE or number == 0:
            raise WireError(f"a batch with number {number} and flags {flags:#x}")
        elif number <= self.received:
            self.duplicates += 1
            self._told = -1
        elif number > self.received + 1:
            if not self._overflowed:
                self._ask(now)
        elif needs > map_version or self._held:
            self._hold(number, needs, flags, batch[_BODY_AT:], now)
        else:
            self._took(number, len(batch), now)
            self._join(flags, batch[_BODY_AT:], groups)
        if self._next <= self.sent:
            self._emit()
        return groups

    def _took(self, number: int, size: int, now: float) -> None:
        self.received = number
        told = self._told
        if size >= CONFIRM_AT_ONCE_BYTES:
            self._control(_CONFIRM)
        elif told == number - 1:
            self._owed_since = now
        elif number - told >= CONFIRM_EVERY:
            self._control(_CONFIRM)

    def _join(self, flags: int, body: bytes, groups: list[bytes]) -> None:
        parts = self._parts
        if flags & _MORE or parts:
            self._parts_bytes += len(body)
            if self._parts_bytes > MAX_GROUP_BYTES:
                self.failed = f"a group goes on after {self._parts_bytes} bytes; it can have at most {MAX_GROUP_BYTES}"
                raise WireError(self.failed)
            parts.append(body)
            self._plain = False
            if flags & _MORE:
                return
            body = b"".join(parts)
            parts.clear()
            self._parts_bytes = 0
            self._note_plain()
        groups.append(body)

    def _hold(self, number: int, needs: int, flags: int, body: bytes, now: float) -> None:
        if self.held_bytes + len(body) > LINK_UNCONFIRMED_BYTES:
            # Not received, so the other end keeps it. It is asked for when there is room.
            self._overflowed = True
            return
        self._took(number, len(body), now)
        self._held.append((needs, flags, body))
        self.held_bytes += len(body)
        self._plain = False

    def release(self, map_version: int, now: float) -> list[bytes]:
        """This process has the map *map_version* now: hand out what waited for it.

        Returns:
            As for ``receive``.

        Raises:
            WireError: As for ``receive``.
        """
        groups: list[bytes] = []
        if self.given_up:
            return groups
        held = self._held
        while held and held[0][0] <= map_version:
            _, flags, body = held.popleft()
            self.held_bytes -= len(body)
            self._join(flags, body, groups)
        if self._overflowed and self.held_bytes <= LINK_UNCONFIRMED_BYTES // 2:
            self._overflowed = False
            self._ask(now)
        self._note_plain()
        return groups

    def _note_plain(self) -> None:
        self._plain = not (self._held or self._parts or self._awaiting)

    def _ask(self, now: float) -> None:
        if self._asked_from == self.received and now - self._asked_at < ASK_AGAIN_S:
            return
        self._asked_from, self._asked_at = self.received, now
        self.gaps += 1
        self._control(_RESEND)

    # --- time ---

    @property
    def busy(self) -> bool:
        """Whether ``tick`` has, or will have, something to do without any other call before."""
        return bool(self._unconfirmed) or self._told != self.received or self.given_up

    def tick(self, now: float) -> None:
        """Let time pass. Call it every few milliseconds while ``busy``; more seldom only delays what it would send."""
        if self.given_up:
            if now - self._progress_at >= PROBE_AT_MOST_S:
                self._progress_at = now
                self._control(_GAVE_UP)
        elif self._unconfirmed and now - self._progress_at >= self._probe_after:
            self._progress_at = now
            self._probe_after = min(self._probe_after * 2, PROBE_AT_MOST_S)
            self.probes += 1
            self._control(_PROBE)
        elif self._told != self.received and now - self._owed_since >= CONFIRM_AFTER_S:
            self._control(_CONFIRM)

    def _refusal(self, batch: bytes) -> WireError:
        if len(batch) < HEADER_BYTES:
            return WireError(f"a message of {len(batch)} bytes is no batch: its header alone has {HEADER_BYTES}")
        magic, version, zero, sender, receiver, cluster_id = _ADDRESS.unpack_from(batch)
        _, _, _, local, remote, own_cluster_id = _ADDRESS.unpack(self._to)
        if magic != MAGIC or zero:
            return WireError(f"a message that begins with {batch[:8]!r} is no batch")
        if version != VERSION:
            return WireError(f"a batch of version {version}; this process speaks {VERSION}")
        if cluster_id != own_cluster_id:
            return WireError(f"a batch of cluster {cluster_id:016x}, not {own_cluster_id:016x}")
        if sender != remote:
            return WireError(f"a batch from incarnation {sender}, on the link to {remote}")
        return WireError(f"a batch for incarnation {receiver}; this process is {local}")
