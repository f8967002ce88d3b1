"""What the answers to numbered messages prove. Pure.

A client numbers its messages 1, 2, 3, … on each connection. The object answers each with an ``Answer``: the number,
the last number that it had handled before on that connection (from the attachment), whether the event was marked as
redelivered, and the *life* of the instance that handled it. From that the receiver can tell:

=========== ==========================================================================================================
lost        a number of which no answer ever came, although the connection stayed open
reordered   a first answer that came after one to a later number, or two answers of one life that came out of order
doubled     an answer to a number that was handled before, without the mark that it may have been
stale       an answer of a life after one of a later life: two instances of an object were active
forgotten   an answer whose attachment lacks a number that was handled before, as if it had not been kept
=========== ==========================================================================================================
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

EXAMPLES = 12
"""Violations that are kept in words; all are counted."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an object says of a message.

    Attributes:
        who: The sender's number.
        number: The message's.
        previous: The highest number that was handled before on that connection.
        again: The event was marked as redelivered.
        life: The instance.
        version: The app's.
    """

    who: int
    number: int
    previous: int
    again: bool
    life: str
    version: str

    @classmethod
    def read(cls, text: str) -> Answer:
        """Read the line that ``app`` writes."""
        who, number, previous, again, life, version = text.split()
        return cls(int(who), int(number), int(previous), again == "1", life, version)


@dataclass(slots=True)
class Findings:
    """What all sequences of a load have shown.

    Attributes:
        handled: First answers.
        redelivered: Answers that say that the event may have been handled before.
        versions: Answers by the version of the app.
        violations: Of each kind in the table above, but for ``lost``, which only the end can tell.
        examples: The first violations in words.
    """

    handled: int = 0
    redelivered: int = 0
    versions: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def violated(self, kind: str, what: str) -> None:
        """Note a violation."""
        self.violations[kind] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{kind}: {what}")


class Sequence:
    """The answers to one sender as one receiver gets them.

    Attributes:
        highest: The highest number that was answered.
        missing: Lower ones that were not.
        life: The instance that answered last.
    """

    __slots__ = ("_ended", "_findings", "_last", "_receiver", "base", "highest", "life", "missing")

    def __init__(self, findings: Findings, receiver: int, base: int = 0) -> None:
        """Args:
        findings: Takes what is found.
        receiver: Number of the connection that gets the answers.
        base: Numbers up to this one were sent before the receiver was there.
        """
        self._findings = findings
        self._receiver = receiver
        self.life = ""
        self._last = base
        self._ended: set[str] = set()
        self.base = self.highest = base
        self.missing: set[int] = set()

    @property
    def answered(self) -> int:
        """How many different numbers above the base were answered."""
        return self.highest - self.base - len(self.missing)

    def take(self, answer: Answer) -> bool:
        """An answer has come.

        Returns:
            Whether it is the first one to its number.
        """
        findings, number = self._findings, answer.number
        findings.versions[answer.version] += 1
        findings.redelivered += answer.again
        if answer.life != self.life:
            if answer.life in self._ended:
                self._violated("stale", answer)
            self._ended.add(self.life)
            self.life, self._last = answer.life, self.base
        if answer.previous < number - 1 <= self.highest and number - 1 not in self.missing:
            self._violated("forgotten", answer)
        first = number > self.highest or number in self.missing
        if number > self.highest:
            self.missing.update(range(self.highest + 1, number))
            self.highest = number
            if answer.previous >= number and not answer.again:
                self._violated("doubled", answer)
        elif first:
            self.missing.discard(number)
            self._violated("reordered", answer)
        elif not answer.again or number == self._last:
            self._violated("doubled", answer)
        elif number < self._last:
            self._violated("reordered", answer)
        self._last = number
        findings.handled += first
        return first

    def _violated(self, kind: str, answer: Answer) -> None:
        self._findings.violated(
            kind,
            f"connection {self._receiver} got {answer} after {self._last} of life {self.life}; of all {self.highest}",
        )
