"""What a router counts, for ``status`` and the metrics."""

from __future__ import annotations

from ..common.counters import Counters


class RouterCounters(Counters):
    """Figures of what is held now, then totals since the start."""

    connections: int
    """WebSockets that are open or closing."""
    handshakes_in_flight: int
    """Requests whose head is not complete, and upgrades that no object has answered yet."""
    ghosts: int
    """Connections whose TCP has ended and whose events are not all acknowledged."""
    parked: int
    """Requests that wait until they can be sent to an owner."""
    objects: int
    """Objects that have a socket here."""
    window_bytes: int
    """Payload of events that are not acknowledged."""
    body_bytes: int
    """Bytes of request bodies held."""
    stopped: int
    """Connections that are not read because of backpressure."""
    send_buffer_bytes: int
    """Bytes that wait for clients that do not take their output as fast as it comes."""
    http_connections: int
    """TCP connections that have not become WebSockets."""
    slots_attached: int
    """Slots whose owner has all that this router knows of them."""

    http_requests: int
    """Requests received whole, upgrades included."""
    messages_in: int
    """Messages taken from clients for objects."""
    messages_out: int
    """Messages of objects written to clients; a broadcast counts once for each."""
    bytes_in: int
    """Payload of those taken."""
    bytes_out: int
    """Payload of those written."""
    auto_responses: int
    """Messages answered here in an object's place."""
    slow_consumers_closed: int
    """Clients closed because they did not take their output."""
    send_buffers_cut: int
    """Clients whose TCP was ended because all together did not take their output."""
    pings_unanswered: int
    """Clients ended because they showed no life."""
    protocol_errors: int
    """Clients closed because they broke the WebSocket protocol."""
    bad_requests: int
    """Requests refused as malformed, garbage included."""
    ghosts_dropped: int
    """Ghosts forgotten because there were too many: their objects may miss a close event."""
    standard_closed: int
    """WebSockets accepted with ``accept()`` that were closed because their object's process ended or let go of it."""
    poisoned: int
    """Events not sent again because they were running when a shard died; their connections were closed."""
    objects_refused: int
    """Times that an object was refused for a while because it was running at one death of a shard after another."""
    slots_released: int
    """Slots that their owners let go of in good order."""
    stale_records: int
    """Records for connections or requests that are gone, or from a shard that does not own them."""
    events_sent_again: int
    """Events sent to another owner than the first."""
