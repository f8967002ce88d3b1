"""What one process has sent and got: takes in payloads, counts and measures. Pure: the time is passed in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from .histogram import Histogram
from .ledger import Account, Findings
from .messages import ECHO, Codec
from .plan import Plan

HISTOGRAMS = ("echo", "echo_service", "delivery", "delivery_service", "late", "connect")
"""What is measured, in microseconds: ``echo`` and ``delivery`` (of a broadcast, to each receiver) from when a message
was *due*, their ``service`` from when it was sent; ``late`` is the time between these two, the tester's own delay;
``connect`` is a connection with its handshake."""


def echo_key(seat: int) -> int:
    """Under which an account has a connection's own echoes; broadcasts of the same seat stand under its number."""
    return ~seat


class Traffic:
    """The books of a process.

    Args:
        codec: Of the messages of this run.
        plan: Who belongs to which object.
        cpu_us: Microseconds of processor time that this process has used.

    Attributes:
        findings: What was wrong.
        audience: Open connections of this process by object.
        sent, received: Messages, since the beginning.
        failed: Handshakes that failed, by reason.
        closed: Connections that the server has closed, by code; 1006: without a Close.
        left: Connections that were closed by us, by the code of the answer.
        exchanged: Connections that were closed and opened again.
        passed: Turns to send that found no open connection, or one that takes nothing.
    """

    def __init__(self, codec: Codec, plan: Plan, cpu_us: Callable[[], int]) -> None:
        self.codec, self.plan = codec, plan
        self.findings = Findings()
        self.histograms = {name: Histogram() for name in HISTOGRAMS}
        self.audience: Counter[int] = Counter()
        self.sent = self.received = self.exchanged = self.passed = self.open = 0
        self.failed: Counter[str] = Counter()
        self.closed: Counter[int] = Counter()
        self.left: Counter[int] = Counter()
        self._cpu_us = cpu_us
        self._tallies: dict[int, list[int]] = {}
        self._echo, self._echo_service = self.histograms["echo"].record, self.histograms["echo_service"].record
        self._delivery = self.histograms["delivery"].record
        self._delivery_service = self.histograms["delivery_service"].record

    def take(self, seat: int, account: Account, payload: bytes, now_us: int) -> None:
        """Note what has come on a connection.

        Args:
            seat: Whose it is.
            account: Its account.
            payload: The message.
            now_us: Microseconds since the beginning of the run.
        """
        findings = self.findings
        message = self.codec.decode(payload)
        if message is None:
            if self.codec.is_ours(payload):
                findings.corrupted += 1
                findings.example(f"connection {seat} got {payload[:60]!r}, which is not as it was sent")
            else:
                findings.foreign += 1
                if self.codec.is_within(payload):
                    findings.wrapped += 1
                    if findings.wrapped == 1:
                        findings.example(f"connection {seat} got {payload[:120]!r}, a message in one of the server's")
            return
        kind, sender, sequence, due_us, late_us = message
        is_echo = kind == ECHO
        if sender != seat and (is_echo or self.plan.object_of(sender) != self.plan.object_of(seat)):
            findings.misdelivered += 1
            findings.example(f"connection {seat} got message {sequence} of connection {sender}, which was not for it")
            return
        if not account.take(echo_key(sender) if is_echo else sender, sequence, seat, findings):
            return
        self.received += 1
        latency_us = now_us - due_us
        if is_echo:
            self._echo(latency_us)
            self._echo_service(latency_us - late_us)
            return
        self._delivery(latency_us)
        self._delivery_service(latency_us - late_us)
        self._tally(sender, sequence, due_us, now_us)

    def _tally(self, sender: int, sequence: int, due_us: int, now_us: int) -> None:
        key = sender << 28 | sequence
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = [due_us, 0, now_us, now_us, self._cpu_us(), 0, 0]
        tally[1] += 1
        tally[3] = now_us
        # Its own copy may come or not: whichever is the last, this process's part of the broadcast is over.
        if tally[1] >= self.audience[self.plan.object_of(sender)] - 1:
            tally[5], tally[6] = self._cpu_us() - tally[4], now_us - tally[2]

    def take_tallies(self) -> list[list[int]]:
        """What has come of broadcasts since the last time: sender, number, due, receivers, time of the first and of
        the last, and, when all of this process have it, the processor time between these two and their distance."""
        taken = [
            [key >> 28, key & ((1 << 28) - 1), due, count, first, last, used, span]
            for key, (due, count, first, last, _, used, span) in self._tallies.items()
        ]
        self._tallies = {}
        return taken

    def snapshot(self) -> dict[str, Any]:
        """Totals up to now, and what was measured since the last time."""
        return {
            "open": self.open,
            "sent": self.sent,
            "received": self.received,
            "exchanged": self.exchanged,
            "passed": self.passed,
            "wrapped": self.findings.wrapped,
            "failed": dict(self.failed),
            "closed": dict(self.closed),
            "left": dict(self.left),
            "bad": sum(
                getattr(self.findings, name) for name in ("duplicated", "reordered", "corrupted", "misdelivered")
            ),
            "histograms": {name: taken for name, it in self.histograms.items() if (taken := it.take())},
            "fan": self.take_tallies(),
        }
