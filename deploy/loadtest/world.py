"""What the seats of a process share."""

from __future__ import annotations

import ssl
import time

from . import frames
from .config import LoadConfig
from .ledger import Life
from .plan import Plan
from .traffic import Traffic


class World:
    """What the seats of a process share.

    Attributes:
        opcode: Of the messages.
        lives: Ended connections, for the audit.
    """

    def __init__(
        self,
        config: LoadConfig,
        plan: Plan,
        traffic: Traffic,
        *,
        epoch_ns: int,
        family: int,
        address: str,
        sources: tuple[str, ...],
    ) -> None:
        self.config, self.plan, self.traffic = config, plan, traffic
        self.target = config.target
        self.opcode = frames.BINARY if config.binary else frames.TEXT
        self.family, self.address, self.sources = family, address, sources
        self.lives: list[Life] = []
        self._epoch_ns = epoch_ns
        self.tls = _tls(config) if self.target.secure else None

    def now_us(self) -> int:
        """Microseconds since the beginning of the run, by a clock that all processes share."""
        return (time.monotonic_ns() - self._epoch_ns) // 1_000


def _tls(config: LoadConfig) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if config.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
