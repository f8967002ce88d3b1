"""What a shard counts, for ``status`` and the metrics."""

from __future__ import annotations

from ..common.machine.counters import Counters, gauge, total


class ShardCounters(Counters):
    """Figures of what is held now, then totals since the start."""

    objects_awake: int = gauge("Objects whose instance is in memory")
    objects_asleep: int = gauge("Objects of which only packages and settings are in memory")
    settings_remembered: int = gauge("Objects without sockets of which only what they have set is in memory")
    sockets: int = gauge("Connections of all objects, hibernatable and not")
    events_bytes: int = gauge("Payload of events of 1 KiB or more that have come and not ended", unit="bytes")
    held_bytes: int = gauge("Output held for clients that do not take it as fast as it comes", unit="bytes")
    package_bytes: int = gauge("Tags, attachments and URLs that all sockets keep", unit="bytes")
    large_bytes: int = gauge("Of those, large messages, which go in pieces", unit="bytes")
    sockets_held: int = gauge("Connections whose output is held because they do not take it as fast as it comes")
    slots_owned: int = gauge("Slots that this shard owns")
    slots_waiting: int = gauge("Slots for which not every router has restored its connections")

    events: int = total("Events received from routers")
    redelivered: int = total("Events that had been delivered to an earlier owner")
    requests: int = total("Requests received from routers")
    events_dropped: int = total(
        "Events of connections that are not here any more: their object was reset, or has moved"
    )
    sends: int = total("Messages sent; a broadcast counts once for each socket")
    errors: int = total("Exceptions that users' code has raised")
    timeouts: int = total("Handlers ended because they took too long")
    constructions: int = total("Constructors of objects that have returned")
    constructions_failed: int = total("Constructors of objects that have raised")
    sockets_refused: int = total("Sockets that were not accepted because their object has as many as one may have")
    sockets_cut: int = total("Connections cut because too much output was held for all together, and most for them")
    requests_refused: int = total(
        "Requests answered with 503 because all objects have too much that has come and not ended"
    )
    responses_refused: int = total("Responses of objects that were too much, and answered with 503 in their place")
    packages_refused: int = total(
        "Accepts and attachments refused because all sockets keep too much in tags, attachments and URLs"
    )
    large_refused: int = total("Large messages of objects refused because too much of such was on its way")
    resets: int = total("Objects reset")
    settings_forgotten: int = total("Objects without sockets whose settings were forgotten because there were too many")
    lives_ended: int = total("Instances that have left memory, for whatever reason")
    hibernations: int = total("Instances dropped because they were idle")
    blocked_loops: int = total("Times that users' code has held the loop for more than a second")
