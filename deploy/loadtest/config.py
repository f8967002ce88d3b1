"""The settings of ``roost load``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...common.errors import ConfigError
from ...common.runtime.config import check, setting
from .messages import MIN_BYTES
from .target import PLACEHOLDER, Target

IDLE, ECHO, BROADCAST, MIXED = "idle", "echo", "broadcast", "mixed"
AUTO, YES, NO = "auto", "yes", "no"

ECHO_RATE = 1_000.0
"""Echoes a second when nothing is said."""
BROADCAST_RATE = 1.0
"""Broadcasts a second when nothing is said."""
MAX_BROADCASTS = 200_000
"""Broadcasts of a run: for each, the times of its first and last receiver are kept, and told to all processes."""
MAX_PROCESSES = 64
REPORT_SUFFIXES = (".html", ".png")


@dataclass(frozen=True, kw_only=True)
class LoadConfig:
    """What ``roost load`` does."""

    url: str = setting(help=f"ws:// or wss:// URL; {PLACEHOLDER} in it becomes 0, 1 … for the objects in turn")
    connections: int = setting(100, help="WebSockets to open", at_least=1, at_most=1_000_000)
    objects: int = setting(
        1,
        help=f"objects that they spread over; for several, {PLACEHOLDER} in the URL says where the number goes",
        at_least=1,
        at_most=1_000_000,
    )
    processes: str = setting(AUTO, help="processes that hold the connections; auto: by descriptors, cores and traffic")
    ramp: float = setting(1_000.0, help="connections opened a second; 0: as fast as they come", at_least=0)
    mode: str = setting(
        ECHO,
        help="idle: hold the connections; echo: the server must send each message back; broadcast: it must send each "
        "to all connections of the object; mixed: what begins with E back, and what begins with B to all",
        choices=(IDLE, ECHO, BROADCAST, MIXED),
    )
    size: int = setting(64, help="size of a message", unit="bytes", at_least=MIN_BYTES, at_most=16 << 20)
    rate: float = setting(
        None,  # by the mode
        help=f"messages sent a second by all connections together; {ECHO_RATE:,.0f} by default, "
        f"in mode broadcast {BROADCAST_RATE:,.0f}",
        at_least=0.001,
    )
    broadcast_rate: float = setting(BROADCAST_RATE, help="in mode mixed: broadcasts a second beside", at_least=0.001)
    duration: float = setting(10.0, help="time to send for, or to hold the connections", unit="s", at_least=0.1)
    churn: float = setting(
        0.0,
        help="connections closed and opened again, in turn: percent of all, a minute; those that broadcast stay",
        at_least=0,
        at_most=6_000,
    )
    own_copies: str = setting(
        AUTO,
        help="whether the sender gets its broadcast as well; auto: both will do, if it is always so",
        choices=(AUTO, YES, NO),
    )
    binary: bool = setting(False, help="binary messages instead of text")
    header: tuple[str, ...] = setting((), help="a header of the handshake, such as 'Origin: https://example.org'")
    source: tuple[str, ...] = setting(
        (), help="an address to connect from; to a server on 127.0.0.0/8, as many of those as the ports need"
    )
    insecure: bool = setting(False, help="do not check the certificate of a wss:// server")
    connect_timeout: float = setting(15.0, help="time for a connection and its handshake", unit="s", at_least=0.1)
    patience: float = setting(10.0, help="time to wait for what is missing at the end", unit="s", at_least=0.1)
    admin: str = setting("", help="admin API of a roost cluster on this machine, for the memory of its processes")
    json: Path | None = setting(None, help="file for the result: settings, machine, timeline, raw histograms, errors")
    report: Path | None = setting(None, help="file for the report with plots: .html, or .png for the plots alone")

    def __post_init__(self) -> None:
        if self.rate is None:
            object.__setattr__(self, "rate", BROADCAST_RATE if self.mode == BROADCAST else ECHO_RATE)
        check(self)
        target = Target.of(self.url, self.header)
        if self.objects > 1 and not target.has_placeholder:
            raise ConfigError(
                f"{self.objects:,} objects need {PLACEHOLDER} in the URL, to say where an object's number goes"
            )
        if self.objects > self.connections:
            raise ConfigError(f"{self.connections:,} connections cannot spread over {self.objects:,} objects")
        if self.processes != AUTO and not (
            self.processes.isascii() and self.processes.isdigit() and 1 <= int(self.processes) <= MAX_PROCESSES
        ):
            raise ConfigError(f"processes must be auto or 1 to {MAX_PROCESSES}, got {self.processes!r}")
        broadcasts = self.broadcasts_per_s * self.duration
        if broadcasts > MAX_BROADCASTS:
            raise ConfigError(
                f"{broadcasts:,.0f} broadcasts are too many to keep account of: at most {MAX_BROADCASTS:,}, so lower "
                "the rate or the duration"
            )
        if self.report is not None and self.report.suffix.lower() not in REPORT_SUFFIXES:
            raise ConfigError(f"a report is an .html or .png file, got {str(self.report)!r}")

    @property
    def target(self) -> Target:
        """Where the connections go."""
        return Target.of(self.url, self.header)

    @property
    def echoes_per_s(self) -> float:
        """Messages a second that should come back to their sender alone."""
        return self.rate if self.mode in (ECHO, MIXED) else 0.0

    @property
    def broadcasts_per_s(self) -> float:
        """Messages a second that should come to everybody on the object."""
        if self.mode == MIXED:
            return self.broadcast_rate
        return self.rate if self.mode == BROADCAST else 0.0

    @property
    def frames_per_s(self) -> float:
        """Frames a second that all connections together should get."""
        return self.echoes_per_s + self.broadcasts_per_s * self.connections / self.objects
