"""What a shard counts, for ``status`` and the metrics."""

from __future__ import annotations

from ..common.counters import Counters


class ShardCounters(Counters):
    """Figures of what is held now, then totals since the start."""

    objects_awake: int
    """Objects whose instance is in memory."""
    objects_asleep: int
    """Objects of which only packages and settings are."""
    sockets: int
    """Connections of all objects, hibernatable and not."""
    slots_owned: int
    """Slots that this shard owns."""
    slots_waiting: int
    """Slots for which not every router has restored its connections."""

    events: int
    """Events received from routers."""
    redelivered: int
    """Those that had been delivered to an earlier owner."""
    requests: int
    """Requests among them."""
    events_dropped: int
    """Those of connections that are not here any more: their object was reset, or has moved."""
    sends: int
    """Messages sent; a broadcast counts once for each socket."""
    errors: int
    """Exceptions that users' code has raised."""
    timeouts: int
    """Handlers ended because they took too long."""
    constructions_failed: int
    """Constructors of objects that have raised."""
    sockets_refused: int
    """Sockets that were not accepted because their object has as many as one may have."""
    resets: int
    """Objects reset."""
    hibernations: int
    """Instances dropped because they were idle."""
    blocked_loops: int
    """Times that users' code has held the loop for more than a second."""
