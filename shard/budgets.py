"""The bounds of a shard: what its objects take from all, each as a budget that the counter of its figure reads."""

from __future__ import annotations

from ..common.budget import Budget
from ..common.settings.shard import ShardConfig
from .counters import ShardCounters


class Budgets:
    """Those of one shard.

    Args:
        config: The shard's settings.
        counters: Its counters, which read them.

    Attributes:
        events: Bytes of what has come and has not ended (``arrivals``).
        held: Bytes of output that is held for clients (``flow``).
        packages: Bytes of tags, attachments and URLs (``packages``).
    """

    __slots__ = ("events", "held", "packages")

    def __init__(self, config: ShardConfig, counters: ShardCounters) -> None:
        self.events = Budget(config.all_events_bytes)
        self.held = Budget(config.all_held_bytes)
        self.packages = Budget(config.all_attachments_bytes)
        counters.read(events_bytes=self.events, held_bytes=self.held, package_bytes=self.packages)
