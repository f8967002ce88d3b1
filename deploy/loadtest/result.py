"""What came out of a run: takes the processes' reports together, judges, and makes the JSON. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .config import AUTO, BROADCAST, ECHO, IDLE, MIXED, LoadConfig
from .histogram import Histogram
from .ledger import FAULTS, Findings, own_copies_lost
from .traffic import HISTOGRAMS

VERSION = 1
"""Of the JSON result; a field that changes its meaning raises it."""
CLIENT_BOUND = 0.9
"""Share of a core from which on a process of the load tester limits the figures rather than the server."""
LATE_PERCENT = 99.0
ENOUGH_S = 2.0
"""Seconds of sending after which a server that only wraps what it is sent will not echo any more."""
EXAMPLE = "deploy/examples/load_target.py"
"""The server that does what each mode wants."""
_WANTED = {
    ECHO: "send each message back to its sender as it was",
    BROADCAST: "send each message to all connections of the object as it was",
    MIXED: "send back as it was what begins with E, and to all what begins with B",
}
OPENING, SENDING, ENDING = "opening", "sending", "ending"
"""The phases of a run."""


@dataclass(slots=True)
class Broadcast:
    """One broadcast: when it was due, how many have it, when the first and the last of them got it."""

    due_us: int
    receivers: int = 0
    first_us: int = 1 << 62
    last_us: int = 0


@dataclass(slots=True)
class Second:
    """One second of the run, or what is known of it."""

    open: int = 0
    sent: int = 0
    received: int = 0
    echo: Histogram = field(default_factory=Histogram)
    delivery: Histogram = field(default_factory=Histogram)
    memory: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Process:
    """A process of the load tester.

    Attributes:
        totals: Its last totals.
        cpu_us, span_us: Processor time and time by phase.
        lag_us: The longest that its loop was late.
        fan_cpu_us, fan_span_us: The same while broadcasts came in.
    """

    totals: dict[str, Any] = field(default_factory=dict)
    cpu_us: Counter[str] = field(default_factory=Counter)
    span_us: Counter[str] = field(default_factory=Counter)
    lag_us: int = 0
    fan_cpu_us: int = 0
    fan_span_us: int = 0

    def cpu(self, phase: str) -> float:
        """Share of one core in a phase."""
        return self.cpu_us[phase] / self.span_us[phase] if self.span_us[phase] else 0.0

    @property
    def fan_cpu(self) -> float:
        """Share of one core between the first and the last receiver of a broadcast."""
        return self.fan_cpu_us / self.fan_span_us if self.fan_span_us else 0.0


class Books:
    """Everything that the processes have said.

    Attributes:
        phase: The one that reports belong to.
        findings: What the processes found in the end; empty before.
        settled: What is missing has been waited for, and the findings are whole.
        interrupted: Ctrl-C has ended it.
        given_up: It was ended since the server is not one that this mode can be tried on.
        begun_s, done_s: When sending began and was over, by the monotonic clock.
        opened, opened_s: Connections that were open after the opening, and how long that took.
        broadcasts_sent: How many.
        memory_before: The server's before the first connection, bytes by kind of process.
    """

    def __init__(self, config: LoadConfig, processes: int) -> None:
        self.config = config
        self.processes = [Process() for _ in range(processes)]
        self.phase = OPENING
        self.histograms = {name: Histogram() for name in HISTOGRAMS}
        self.broadcasts: dict[tuple[int, int], Broadcast] = {}
        self.seconds: dict[int, Second] = {}
        self.findings = Findings()
        self.settled = False
        self.interrupted = False
        self.given_up = False
        self.begun_s = self.done_s = 0.0
        self.opened_s = 0.0
        self.opened = 0
        self.broadcasts_sent = 0
        self.memory_before: dict[str, int] = {}

    # --- reports ---

    def second(self, process: int, report: Mapping[str, Any]) -> None:
        """Take a line ``second`` of a process."""
        it = self.processes[process]
        before = it.totals
        it.totals = {name: report[name] for name in TOTALS}
        it.cpu_us[self.phase] += report["cpu_us"]
        it.span_us[self.phase] += report["span_us"]
        it.lag_us = max(it.lag_us, report["lag_us"])
        second = self.seconds.setdefault(report["t"], Second())
        second.open = self.total("open")
        second.sent += report["sent"] - before.get("sent", 0)
        second.received += report["received"] - before.get("received", 0)
        for name, pairs in report["histograms"].items():
            self.histograms[name].add(pairs)
            if name == "echo":
                second.echo.add(pairs)
            elif name == "delivery":
                second.delivery.add(pairs)
        for sender, sequence, due_us, receivers, first_us, last_us, used_us, span_us in report["fan"]:
            broadcast = self.broadcasts.setdefault((sender, sequence), Broadcast(due_us))
            broadcast.receivers += receivers
            broadcast.first_us = min(broadcast.first_us, first_us)
            broadcast.last_us = max(broadcast.last_us, last_us)
            it.fan_cpu_us += used_us
            it.fan_span_us += span_us

    def memory(self, second: int, memory: dict[str, int]) -> None:
        """Note the server's memory."""
        if not self.memory_before:
            self.memory_before = memory
        found = self.seconds.setdefault(second, Second(open=self.total("open")))
        found.memory = memory

    def total(self, name: str) -> int:
        """A total of all processes, now."""
        return sum(process.totals.get(name, 0) for process in self.processes)

    def reasons(self, name: str) -> Counter[str]:
        """Counts by reason or code of all processes, now."""
        found: Counter[str] = Counter()
        for process in self.processes:
            found.update({str(key): count for key, count in process.totals.get(name, {}).items()})
        return found

    # --- figures ---

    def fan_out(self) -> tuple[Histogram, Histogram]:
        """From when each broadcast was due to its first and to its last receiver."""
        first, last = Histogram(), Histogram()
        for broadcast in self.broadcasts.values():
            first.record(broadcast.first_us - broadcast.due_us)
            last.record(broadcast.last_us - broadcast.due_us)
        return first, last

    def client_bound(self) -> list[str]:
        """What the load tester itself has limited, in words; empty: nothing."""
        phases = {OPENING: "connecting", SENDING: "sending and receiving"}
        found = []
        for phase, words in phases.items():
            if any(process.cpu(phase) > CLIENT_BOUND for process in self.processes):
                found.append(words)
        if any(process.fan_cpu > CLIENT_BOUND for process in self.processes):
            found.append("taking in broadcasts")
        return found

    def offered(self, rate: float) -> int:
        """Messages that were due at a rate, up to the end or the interruption."""
        return int(rate * max(0.0, min(self.config.duration, self.done_s - self.begun_s)))

    def memory_per_connection(self) -> dict[str, float]:
        """Bytes of the server's memory for each connection by kind of process: what it has more at the most connections
        than before the first one. Empty when it is not known."""
        full = [second for second in self.seconds.values() if second.memory and second.open]
        if not full or not self.memory_before:
            return {}
        # The last second with the most: memory for what has just been opened comes a moment later.
        most = max(second.open for second in full)
        last = [second for second in full if second.open == most][-1]
        return {kind: (size - self.memory_before.get(kind, 0)) / most for kind, size in last.memory.items()}

    # --- the verdict ---

    def faults(self) -> list[str]:
        """What went wrong, in words; empty: all is as it should be."""
        findings, found = self.findings, []
        counts = {name: getattr(findings, name) for name in FAULTS}
        counts["lost"] += own_copies_lost(findings)
        found += [f"{count:,} {name}" for name, count in counts.items() if count]
        failed, closed = self.reasons("failed"), self.reasons("closed")
        found += [f"{count:,} not opened ({reason})" for reason, count in failed.most_common(4)]
        found += [f"{count:,} closed by the server ({code})" for code, count in closed.most_common(4)]
        if not self.settled and not self.interrupted:
            found.append("the end was not reached")
        silent = self.config.echoes_per_s + self.config.broadcasts_per_s > 0 and not self.total("received")
        if silent and self.total("sent") and not found:
            found.append("nothing came back")
        return found

    def unfit(self) -> str:
        """Why the server is not one that this mode can be tried on, in a sentence; empty: it may be one."""
        mode = self.config.mode
        if mode == IDLE or not self.total("sent") or self.total("received"):
            return ""
        wraps = self.total("wrapped") or self.findings.wrapped
        heard = wraps or self.findings.foreign
        if not heard:
            return ""
        said = "puts them into messages of its own, as a chat does" if wraps else "sends others of its own only"
        return (
            f"this is no {mode} server: it must {_WANTED[mode]}, but {said}; {EXAMPLE} is one "
            f"(roost up {EXAMPLE}, and load ws://127.0.0.1:8787/load-target/x)"
        )

    def will_not_echo(self, now_s: float) -> bool:
        """Whether there is no sense in sending on."""
        return (
            self.phase == SENDING
            and now_s > self.begun_s + ENOUGH_S
            and self.total("wrapped") > 0
            and bool(self.unfit())
        )

    def sentence(self) -> str:
        """Why it has failed, or what it has passed, without the word for which of both."""
        faults = self.faults()
        if faults:
            return "; ".join(part for part in (self.unfit(), ", ".join(faults)) if part)
        if self.config.mode == IDLE:
            return "all connections were opened and stayed open"
        if not self.total("sent"):
            return "all connections were opened and stayed open, but no message was sent"
        return "every message came once, in order and as it was sent"

    def notes(self) -> list[str]:
        """What a reader should know, in sentences."""
        found = []
        if self.given_up:
            found.append(f"ended after {ENOUGH_S:g} s of sending, since nothing came back as it was sent")
        bound = self.client_bound()
        if bound:
            found.append(
                f"client-bound: a process of the load tester used over {CLIENT_BOUND:.0%} of a core for "
                f"{' and '.join(bound)}, so those figures are its own; use more --processes, or another machine"
            )
        findings = self.findings
        if self.config.broadcasts_per_s and self.config.own_copies == AUTO and findings.own_due:
            found.append(
                "the server sends broadcasts to their sender, too"
                if findings.own_came
                else "the server does not send broadcasts to their sender"
            )
        if findings.foreign:
            found.append(f"{findings.foreign:,} messages of the server's own came as well")
        passed = self.total("passed")
        if passed:
            found.append(f"{passed:,} turns passed: no open connection was there, or one that the server does not read")
        late = self.histograms["late"].percentile(LATE_PERCENT)
        if late > 5_000:
            found.append(
                f"the load tester itself sent {100 - LATE_PERCENT:.0f} % of its messages more than "
                f"{late / 1000:,.1f} ms late; that is in the latencies, and not in the service times"
            )
        if self.interrupted:
            found.append("interrupted: this is what there was until then")
        return found

    # --- JSON ---

    def to_dict(self, settings: Mapping[str, Any], machine: Mapping[str, Any]) -> dict[str, Any]:
        """The whole result."""
        first, last = self.fan_out()
        named = {**self.histograms, "fan_out_first": first, "fan_out_last": last}
        findings = self.findings
        span_s = max(0.001, self.done_s - self.begun_s)
        offered = self.offered(self.config.echoes_per_s) + self.offered(self.config.broadcasts_per_s)
        return {
            "version": VERSION,
            "settings": dict(settings),
            "machine": dict(machine),
            "verdict": {
                "ok": not self.faults(),
                "sentence": self.sentence(),
                "faults": self.faults(),
                "notes": self.notes(),
                "client_bound": self.client_bound(),
                "interrupted": self.interrupted,
            },
            "connections": {
                "wanted": self.config.connections,
                "opened": self.opened,
                "opening_s": round(self.opened_s, 3),
                "failed": dict(self.reasons("failed")),
                "closed_by_server": dict(self.reasons("closed")),
                "closed_by_us": dict(self.reasons("left")),
                "exchanged": self.total("exchanged"),
            },
            "messages": {
                "offered": offered,
                "sent": self.total("sent"),
                "received": self.total("received"),
                "passed_over": self.total("passed"),
                "sent_per_s": round(self.total("sent") / span_s, 1),
                "received_per_s": round(self.total("received") / span_s, 1),
                **{name: getattr(findings, name) for name in FAULTS},
                "lost": findings.lost + own_copies_lost(findings),
                "foreign": findings.foreign,
                "examples": findings.examples,
            },
            "broadcasts": {
                "sent": self.broadcasts_sent,
                "complete": self.broadcasts_sent - len(findings.incomplete),
                "own_copies_due": findings.own_due,
                "own_copies_came": findings.own_came,
                "deliveries": sum(broadcast.receivers for broadcast in self.broadcasts.values()),
            },
            "latency_us": {
                name: {
                    "count": histogram.total,
                    "mean": round(histogram.mean(), 1),
                    **{f"p{percent:g}": value for percent, value in histogram.percentiles().items()},
                    "hdr": histogram.encode(),
                }
                for name, histogram in named.items()
                if histogram.counts
            },
            "processes": [
                {
                    "cpu_opening": round(process.cpu(OPENING), 3),
                    "cpu_sending": round(process.cpu(SENDING), 3),
                    "cpu_in_broadcasts": round(process.fan_cpu, 3),
                    "longest_lag_us": process.lag_us,
                }
                for process in self.processes
            ],
            "server_memory": {
                "before": self.memory_before,
                "per_connection": {kind: round(size) for kind, size in self.memory_per_connection().items()},
            },
            "timeline": [
                {
                    "t": t,
                    "open": second.open,
                    "sent": second.sent,
                    "received": second.received,
                    **{
                        f"{name}_p{percent}": histogram.percentile(percent)
                        for name, histogram in (("echo", second.echo), ("delivery", second.delivery))
                        if histogram.counts
                        for percent in (50, 99)
                    },
                    **({"server_memory": second.memory} if second.memory else {}),
                }
                for t, second in sorted(self.seconds.items())
            ],
        }


TOTALS = ("open", "sent", "received", "exchanged", "passed", "wrapped", "failed", "closed", "left", "bad")
