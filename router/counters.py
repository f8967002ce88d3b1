"""What a router counts, for ``status`` and the metrics."""

from __future__ import annotations

from ..common.machine.counters import Counters, gauge, high_water, total


class RouterCounters(Counters):
    """Figures of what is held now, then totals since the start."""

    connections: int = gauge("WebSockets that are open or closing")
    handshakes_in_flight: int = gauge(
        "Requests whose head has begun and is not complete, and upgrades that no object has answered yet"
    )
    ghosts: int = gauge("Connections whose TCP has ended and whose events are not all acknowledged")
    parked: int = gauge("Requests that wait until they can be sent to an owner")
    objects: int = gauge("Objects that have a socket here")
    window_bytes: int = gauge("Memory of clients' messages that are not acknowledged", unit="bytes")
    unfinished_bytes: int = gauge("Messages of clients that have begun to come, or wait for their window", unit="bytes")
    body_bytes: int = gauge("Bytes of request bodies held", unit="bytes")
    ahead_bytes: int = gauge("Bytes that clients have sent ahead of answers", unit="bytes")
    head_bytes: int = gauge(
        "Memory of requests beside their bodies, and of what has come and is not parsed", unit="bytes"
    )
    stopped: int = gauge("Connections that are not read because of backpressure")
    send_buffer_bytes: int = gauge(
        "Bytes that wait for clients that do not take their output as fast as it comes", unit="bytes"
    )
    http_connections: int = gauge("TCP connections that have not become WebSockets")
    slots_attached: int = gauge("Slots whose owner has all that this router knows of them")

    longest_turn_us: int = high_water(
        "Microseconds that the longest turn of the loop took; all are measured while clients' work or output is "
        "left over, else some",
        unit="microseconds",
    )
    longest_turn_worked_us: int = high_water(
        "Microseconds of processor time that a turn of the loop took at most; beyond that `longest_turn_us` has what "
        "the loop waited for a processor, or for the system",
        unit="microseconds",
    )

    defects: int = total("Errors of roost's own code; each ended at most one connection")
    http_requests: int = total("Requests received whole, upgrades included")
    messages_in: int = total("Messages taken from clients for objects")
    messages_out: int = total("Messages of objects written to clients; a broadcast counts once for each")
    bytes_in: int = total("Payload of the messages taken from clients", unit="bytes")
    bytes_out: int = total("Payload of the messages written to clients", unit="bytes")
    auto_responses: int = total("Messages answered here in an object's place")
    slow_consumers_closed: int = total("Clients closed because they did not take their output")
    unfinished_cut: int = total("Clients closed because their unfinished messages were in the way of others")
    bodies_evicted: int = total(
        "Requests refused because their bodies came slowest when all bodies had too much memory"
    )
    send_buffers_cut: int = total("Clients whose TCP was ended because all together did not take their output")
    pings_unanswered: int = total("Clients ended because they showed no life")
    protocol_errors: int = total("Clients closed because they broke the WebSocket protocol")
    http_evicted: int = total("Connections that are no WebSockets ended for others, because there were too many")
    turned_away: int = total("Clients refused because clients hold all descriptors that they may have")
    bad_requests: int = total("Requests refused as malformed, garbage included")
    ghosts_dropped: int = total("Ghosts forgotten because there were too many: their objects may miss a close event")
    standard_closed: int = total(
        "WebSockets accepted with accept() that were closed because their object's process ended or let go of it"
    )
    output_lost: int = total(
        "Clients closed because output for them waited at a shard that died: they took less than was sent"
    )
    poisoned: int = total(
        "Events not sent again because they were running when a shard died; their connections were closed"
    )
    objects_refused: int = total(
        "Times that an object was refused for a while because it was running at one death of a shard after another"
    )
    slots_released: int = total("Slots that their owners let go of in good order")
    stale_records: int = total(
        "Records for connections or requests that are gone, or from a shard that does not own them"
    )
    events_sent_again: int = total("Events sent to another owner than the first")
