"""Every limit, with its unit and where it comes from.

"seed" is the API as the user gave it, "RFC" is RFC 6455, "design" is the project's own table of bounds. Those that a
setting can change are defaults; the settings live in each process's ``config``.
"""

from __future__ import annotations

# --- the API ------------------------------------------------------------------------------------------------------

MAX_WEBSOCKETS_PER_OBJECT = 32_768
"""Sockets of each kind (hibernatable; accepted with ``accept()``) on one object (seed)."""
MAX_TAGS = 10
"""Distinct tags on one socket (seed)."""
MAX_TAG_CHARS = 256
"""Characters in a tag (seed)."""
MAX_ATTACHMENT_BYTES = 2_048
"""Bytes of a serialised attachment (seed); a setting raises it to at most MAX_ATTACHMENT_BYTES_SETTABLE."""
MAX_ATTACHMENT_BYTES_SETTABLE = 16_384
"""What the reference runtime allows today."""
MAX_AUTO_RESPONSE_CHARS = 2_048
"""Characters in the request, and in the response, of an auto-response pair (seed)."""
MAX_EVENT_TIMEOUT_MS = 604_800_000
"""Milliseconds: seven days (the reference runtime)."""
MAX_CLOSE_REASON_BYTES = 123
"""UTF-8 bytes (RFC 5.5: a control frame's 125 less the code)."""
MAX_NAME_CHARS = 512
"""Characters in an object's name, percent-decoded (design)."""
MAX_PAYLOAD_BYTES = 256 << 20
"""Bytes of one message or body that an object puts out: half of what a group on the wire can have."""

# --- clients ------------------------------------------------------------------------------------------------------

MAX_MESSAGE_BYTES = 32 << 20
"""Bytes of an incoming message, all fragments together, inflated (the reference runtime)."""
MAX_HEAD_BYTES = 64 << 10
"""Bytes of a request line with its headers (design)."""
MAX_TARGET_BYTES = 16 << 10
"""Bytes of a request's target, path and query (the reference runtime). Of a WebSocket it is kept for as long as it
lives, at its router and at its shard."""
MAX_HEADER_FIELDS = 256
"""Header fields of a request: each takes memory and time beside its bytes (design)."""
MAX_LIST_ELEMENTS = 256
"""Elements of the lists in a request's head that the router takes apart, all of them together (design)."""
MAX_QUERY_FIELDS = 1_024
"""Fields of a URL's query: objects' code decodes them all, in one turn of its shard (design)."""
MAX_BODY_BYTES = 10 << 20
"""Bytes of a request's body (design)."""
MAX_BODIES_IN_FLIGHT_BYTES = 256 << 20
"""Bytes of request bodies a router holds at once (design)."""
MAX_HEADS_BYTES = 128 << 20
"""Bytes that requests of a router take beside their bodies, until they are answered, and what came behind them."""
MAX_AHEAD_BYTES = 64 << 20
"""Bytes that all clients of a router together may have sent ahead of answers. Hardly any client sends frames before its
101 (RFC 6455 4.1)."""
MAX_HANDSHAKES_IN_FLIGHT = 4_096
"""Requests whose head has begun and is not complete, and upgrades not answered yet, at one router (design)."""
MAX_HTTP_CONNECTIONS = 8_192
"""TCP connections at one router that are no WebSockets (design)."""
CLIENTS_OF_THE_LOOP = 256
"""Clients of a router whose sockets the loop looks at itself: all that are ready it hands out in one turn. A turn takes
so many of the others as fit (design)."""
HANDSHAKE_TIMEOUT_S = 10.0
"""Seconds for a client to send its request head, and for a shard to answer an upgrade (design)."""
KEEP_ALIVE_S = 125.0
"""Seconds that an HTTP connection may be idle between two requests. Longer than proxies keep theirs by default (nginx
and AWS's load balancer 60, Go and so Traefik 90, Caddy 120): a request never meets a close of ours."""
MAX_PARKED_REQUESTS = 4_096
"""Requests that wait at a router for their slot's owner (design)."""

# --- queues -------------------------------------------------------------------------------------------------------

WINDOW_MESSAGES = 256
"""Unacknowledged events of one connection (design)."""
WINDOW_BYTES = 1 << 20
"""Bytes that unacknowledged messages of one connection take; an empty window admits one of any size (design)."""
ROUTER_WINDOWS_BYTES = 512 << 20
"""Bytes of all windows of a router together (design)."""
SEND_BUFFER_BYTES = 4 << 20
"""A connection's share of its router's memory: bytes that wait there for one client before its object's further output
waits at the shard (design)."""
ROUTER_SEND_BUFFERS_BYTES = 1 << 30
"""Bytes waiting to be taken by all clients of a router (design)."""
MAILBOX_EVENTS = 4_096
"""Events of one object that have come and not ended (design)."""
MAILBOX_BYTES = 8 << 20
"""Bytes of those events (design)."""
OUTBOX_BYTES = 64 << 20
"""Bytes of one object's output that has not left, held output included (design)."""
SHARD_HELD_BYTES = 512 << 20
"""Bytes of output that all objects of a shard together hold for clients that do not take it as fast as it comes."""
SHARD_PACKAGES_BYTES = 512 << 20
"""Bytes of the tags, attachments and URLs that all sockets of a shard keep: 100,000 of them with 5 KiB each."""
SHARD_EVENTS_BYTES = 512 << 20
"""Bytes of messages and requests that have come to a shard and have not ended, all objects together."""
LINK_UNCONFIRMED_BYTES = 64 << 20
"""Bytes of batches that the other end of a link has not confirmed (design)."""
MAX_BATCH_BYTES = 256 << 10
"""Bytes of records in one batch; a longer group of records travels in several (design)."""
PARKED_TIMEOUT_S = 30.0
"""Seconds that a connection or request waits for an owner (design)."""
REMEMBERED_BYTES = 32 << 20
"""Bytes of what objects without sockets have set, at one router and at one shard; the oldest is forgotten then."""
MAX_GHOSTS = 65_536
"""Connections of a router whose TCP has ended and whose close event is not acknowledged (design)."""

# --- times --------------------------------------------------------------------------------------------------------

STALL_TIMEOUT_S = 30.0
"""Seconds for which a client may take nothing of the output that waits for it (design)."""
LEAST_RATE = 500
"""Bytes a second that a client must take, on average over STALL_TIMEOUT_S, while output waits for it, and send of a
body: with it, whatever has a size has an end. Web servers ask for 240 to 500."""
PING_INTERVAL_S = 20.0
"""Seconds between two protocol pings to a silent client."""
PING_TIMEOUT_S = 20.0
"""Seconds for its answer."""
CLOSE_TIMEOUT_S = 10.0
"""Seconds for a client to answer the object's Close, and for a close handler to answer the client's (behaviour)."""
DRAIN_LIMIT_S = 12.0
"""Seconds for which a router that ends waits for who makes progress: less than the 15 that its supervisor gives it."""
AUTO_RESPONSE_REPORT_S = 0.1
"""Seconds that an auto-response's time may take to reach the shard (design)."""
HIBERNATE_AFTER_S = 10.0
"""Seconds of idleness after which an object leaves memory (the reference runtime)."""
BLOCKED_LOOP_REPORT_S = 1.0
"""Seconds that user code may hold a shard's loop before it is reported by name (design)."""

# --- death and moves ----------------------------------------------------------------------------------------------

MOVE_HANDLERS_S = 5.0
"""Seconds that handlers have to end before their object moves to another shard (design)."""
GRACE_S = 10.0
"""Seconds that a dead shard has to come back before others take its slots (design)."""
FROZEN_KILL_S = 5.0
"""Seconds after which a process that shows no life at all is killed (design)."""
STALL_KILL_S = 30.0
"""Seconds after which a process whose loop stands still is killed (design)."""
CONSTRUCTOR_RETRY_S = (0.1, 5.0)
"""Seconds before a constructor that failed after a move is tried again, each time twice as long: first and longest
(design)."""
CONSTRUCTOR_PATIENCE_S = 30.0
"""Seconds after which the object is reset when its constructor still fails (design)."""
MAX_DEATHS_OF_EVENT = 2
"""Deaths of shards at which an event was running, after which it is not delivered again (design)."""
MAX_DEATHS_OF_OBJECT = 3
"""The same for an object, within DEATHS_WINDOW_S: it is refused for as long (design)."""
MAX_HANGS_OF_OBJECT = 2
"""The same for deaths before which the object's code had held the loop: what ran then leaves no doubt (design)."""
RETIRE_RATE = 1000.0
"""Clients a second that a router sends away when it leaves the cluster, so that they do not all come back at once."""
DEATHS_WINDOW_S = 60.0
"""Seconds over which deaths of an object count, and for which it is refused then (design)."""

# --- placement ----------------------------------------------------------------------------------------------------

SLOT_BITS = 12
SLOTS = 1 << SLOT_BITS
"""Partitions of the object ids (design)."""
