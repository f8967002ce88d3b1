"""The account of what has come: each message once, in order of its sender, whole, and to whom it belongs.

A receiver keeps, for each sender it hears, the number up to which all has come, and which of those before are missing.
What is missing at the ends can only be told once the senders say what they have sent (``Log``): a receiver that came
late has not missed what was sent before it was open, nor one that has left what was on its way then.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MAX_GAP = 10_000
"""Missing messages of a sender that are remembered, so that one that comes late is told from a copy."""
MAX_EXAMPLES = 10
MAX_INCOMPLETE = 10_000
"""Broadcasts of a process that are named as incomplete."""

Log = Sequence[int]
"""When a sender has sent each of its messages, in order: microseconds since the beginning of the run."""


@dataclass(slots=True)
class Findings:
    """What was found, in one process or in all.

    Attributes:
        lost: Messages that never came to a receiver that should have had them.
        duplicated: Messages that came again.
        reordered: Messages that came after a later one of the same sender.
        corrupted: Messages of ours that are not as they were sent.
        misdelivered: Messages that came to somebody for whom they are not.
        foreign: Messages that are not ours at all. Servers may say things of their own.
        wrapped: Those of them that hold a message of ours.
        own_due: Copies that senders of broadcasts would get if the server sent them their own.
        own_came: Those that came.
        incomplete: Broadcasts that somebody misses, as sender and number.
        examples: Some sentences.
    """

    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    corrupted: int = 0
    misdelivered: int = 0
    foreign: int = 0
    wrapped: int = 0
    own_due: int = 0
    own_came: int = 0
    incomplete: set[tuple[int, int]] = field(default_factory=set)
    examples: list[str] = field(default_factory=list)

    def example(self, sentence: str) -> None:
        """Note a sentence, as long as there are few."""
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(sentence)

    def miss(self, sender: int, sequences: Sequence[int], receiver: int) -> None:
        """Count messages of a broadcaster as lost for a receiver."""
        if not sequences:
            return
        self.lost += len(sequences)
        for sequence in sequences:
            if len(self.incomplete) >= MAX_INCOMPLETE:
                break
            self.incomplete.add((sender, sequence))
        self.example(f"connection {receiver} never got {_numbers(sequences)} of connection {sender}")

    def merge(self, other: Findings) -> None:
        """Add those of another process."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.incomplete |= other.incomplete
        for sentence in other.examples:
            self.example(sentence)

    def to_dict(self) -> dict[str, object]:
        """As it travels between processes."""
        counts: dict[str, object] = {name: getattr(self, name) for name in COUNTS}
        return counts | {"incomplete": sorted(self.incomplete), "examples": list(self.examples)}

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> Findings:
        """Read what ``to_dict`` made."""
        fields = dict(document)
        fields["incomplete"] = {tuple(pair) for pair in document["incomplete"]}  # type: ignore[attr-defined]
        return cls(**fields)  # type: ignore[arg-type]


COUNTS = ("lost", "duplicated", "reordered", "corrupted", "misdelivered", "foreign", "own_due", "own_came", "wrapped")
FAULTS = COUNTS[:5]
"""The counts of which each makes a run fail."""


def _numbers(sequences: Sequence[int]) -> str:
    shown = ", ".join(map(str, sequences[:3]))
    if len(sequences) > 3:
        shown += f" … {sequences[-1]} ({len(sequences):,} in all)"
    return f"message{'s' if len(sequences) > 1 else ''} {shown}"


class Account:
    """What one receiver has from each sender.

    Attributes:
        last: By sender: the highest number that has come.
        first: By sender: the lowest, where it is not 1.
        missing: By sender: numbers between them that have not come.
    """

    __slots__ = ("first", "last", "missing")

    def __init__(self) -> None:
        self.last: dict[int, int] = {}
        self.first: dict[int, int] = {}
        self.missing: dict[int, set[int]] = {}

    def start_at(self, sender: int, sequence: int) -> None:
        """Nothing up to *sequence* of this sender is for this receiver, and whatever comes after is."""
        self.last[sender] = sequence
        if sequence:
            self.first[sender] = sequence + 1

    def take(self, sender: int, sequence: int, receiver: int, findings: Findings) -> bool:
        """Note a message.

        Returns:
            Whether it came for the first time.
        """
        last = self.last.get(sender)
        if last == sequence - 1:
            self.last[sender] = sequence
            return True
        if last is None:
            self.last[sender] = sequence
            if sequence != 1:
                self.first[sender] = sequence
            return True
        return self._irregular(sender, sequence, last, receiver, findings)

    def _irregular(self, sender: int, sequence: int, last: int, receiver: int, findings: Findings) -> bool:
        if sequence > last:
            self._gap(sender, range(last + 1, sequence), receiver, findings)
            self.last[sender] = sequence
            return True
        first = self.first.get(sender, 1)
        if sequence < first:
            self._gap(sender, range(sequence + 1, first), receiver, findings)
            self.first[sender] = sequence
        elif sequence in self.missing.get(sender, ()):
            self.missing[sender].discard(sequence)
        else:
            findings.duplicated += 1
            findings.example(f"connection {receiver} got message {sequence} of connection {sender} again")
            return False
        findings.reordered += 1
        findings.example(f"connection {receiver} got message {sequence} of connection {sender} after a later one")
        return True

    def _gap(self, sender: int, sequences: range, receiver: int, findings: Findings) -> None:
        missing = self.missing.setdefault(sender, set())
        room = MAX_GAP - len(missing)
        missing.update(sequences[:room])
        findings.miss(sender, sequences[room:], receiver)


def required(log: Log, opened_us: int, closed_us: int | None, patience_us: int) -> tuple[int, int]:
    """Which messages of a sender must have come to a receiver.

    Args:
        log: When they were sent.
        opened_us: When the receiver knew that it was open: what is sent from then on is for it.
        closed_us: When it began to close; ``None``: it has stayed to the end.
        patience_us: What was sent less than that before it closed may still have been on its way.

    Returns:
        The first and the last number; an empty range when the first is greater.
    """
    first = bisect_right(log, opened_us) + 1
    last = len(log) if closed_us is None else bisect_right(log, closed_us - patience_us)
    return first, last


def absent(account: Account, sender: int, first: int, last: int) -> list[int]:
    """The numbers of a sender that a receiver misses: gaps, and what is missing of *first* … *last* at the ends."""
    gaps = sorted(account.missing.get(sender, ()))
    came_last = account.last.get(sender)
    if came_last is None:
        return list(range(first, last + 1))
    came_first = account.first.get(sender, 1)
    return [*range(first, came_first), *gaps, *range(came_last + 1, last + 1)]


@dataclass(frozen=True, slots=True)
class Life:
    """A receiver, from its opening to its closing.

    Attributes:
        seat: Its number.
        opened_us: When it was open.
        closed_us: When it began to close; ``None``: it is open.
        account: What it has got of broadcasts.
    """

    seat: int
    opened_us: int
    closed_us: int | None
    account: Account


def audit(
    life: Life, senders: Sequence[int], logs: Mapping[int, Log], *, own: str, patience_us: int, findings: Findings
) -> None:
    """Settle a receiver's account of broadcasts.

    Args:
        life: The receiver.
        senders: Whose broadcasts it should have got.
        logs: What each has sent.
        own: Whether its own come back: ``yes``, ``no``, or ``auto``, which only counts them (``own_due``,
            ``own_came``).
        patience_us: See ``required``.
        findings: Where it is noted.
    """
    account = life.account
    for sender in senders:
        if (
            sender != life.seat
            and life.closed_us is None
            and not account.missing
            and not account.first
            and account.last.get(sender) == len(logs.get(sender, ()))
        ):
            continue  # it has all that there ever was: the usual case, of thousands of receivers
        first, last = required(logs.get(sender, ()), life.opened_us, life.closed_us, patience_us)
        gone = absent(account, sender, first, last)
        if sender != life.seat or own == "yes":
            findings.miss(sender, gone, life.seat)
            continue
        came = account.last.get(sender)
        if own == "no":
            if came is not None:
                findings.misdelivered += 1
                findings.example(f"connection {life.seat} got its own broadcasts")
            continue
        due = max(0, last - first + 1)
        findings.own_due += due
        findings.own_came += max(0, due - len(gone))


def own_copies_lost(findings: Findings) -> int:
    """Own copies that are missing when it is left open whether there are any: none, if none has ever come."""
    return findings.own_due - findings.own_came if findings.own_came else 0
