"""A router's settings."""

from __future__ import annotations

from dataclasses import dataclass

from .. import limits
from ..runtime.config import MemberConfig, setting

HOST = "127.0.0.1"
PORT = 8787
"""Where clients reach a cluster that is told nothing else."""


@dataclass(frozen=True, kw_only=True)
class RouterConfig(MemberConfig):
    """Everything a router can be told. Times are seconds, sizes bytes."""

    host: str = setting(HOST, help="address that clients connect to; :: is every address, of IPv4 as well")
    port: int = setting(
        PORT, help="port that clients connect to; routers of one cluster share it", at_least=0, at_most=65_535
    )
    max_connections: int = setting(
        0,
        help="connections to be ready for: the start fails if the system allows too few descriptors; 0 for any number",
        at_least=0,
    )
    ping_interval_s: float = setting(
        limits.PING_INTERVAL_S, help="silence of a client after which it is pinged", unit="s", at_least=0.1
    )
    ping_timeout_s: float = setting(
        limits.PING_TIMEOUT_S, help="time a pinged client has to send anything", unit="s", at_least=0.1
    )
    close_timeout_s: float = setting(
        limits.CLOSE_TIMEOUT_S,
        help="time a client has to answer a Close, and an object's close handler to answer one in the client's place",
        unit="s",
        at_least=0.1,
    )
    handshake_timeout_s: float = setting(
        limits.HANDSHAKE_TIMEOUT_S,
        help="time for a request's head, for the next bytes of its body, and for an object to answer an upgrade",
        unit="s",
        at_least=0.1,
    )
    keep_alive_s: float = setting(
        limits.KEEP_ALIVE_S,
        help="time an HTTP connection may be idle between two requests; longer than proxies keep theirs",
        unit="s",
        at_least=0.1,
    )
    parked_timeout_s: float = setting(
        limits.PARKED_TIMEOUT_S,
        help="time that connections and requests wait for an owner of their object",
        unit="s",
        at_least=0.1,
    )
    drain_timeout_s: float = setting(
        3.0, help="time that clients have to answer the Close of a router that ends", unit="s", at_least=0.0
    )
    drain_limit_s: float = setting(
        limits.DRAIN_LIMIT_S,
        help="time that a router that ends or retires gives to those who make progress: requests that their objects "
        "answer, or whose bodies are coming, and clients that take what was sent",
        unit="s",
        at_least=0.0,
    )
    retire_rate: float = setting(
        limits.RETIRE_RATE,
        help="clients that a router sends their Close when it is told to retire (SIGUSR1)",
        unit="/s",
        at_least=1.0,
    )
    grace_s: float = setting(
        limits.GRACE_S,
        help="time that a dead shard has to come back before the others take its slots; routers wait for it only while "
        "no supervisor lives",
        unit="s",
        at_least=0.0,
    )
    stall_kill_s: float = setting(
        limits.STALL_KILL_S,
        help="time that another member's event loop may stand still before it is killed, while no supervisor lives",
        unit="s",
        at_least=1.0,
    )
    frozen_kill_s: float = setting(
        limits.FROZEN_KILL_S,
        help="time that another member may show no sign of life before it is killed, while no supervisor lives",
        unit="s",
        at_least=1.0,
    )
    max_message_bytes: int = setting(
        limits.MAX_MESSAGE_BYTES,
        help="size of an incoming message, all fragments together",
        unit="bytes",
        at_least=1,
        at_most=256 << 20,
    )
    max_body_bytes: int = setting(
        limits.MAX_BODY_BYTES, help="size of a request's body", unit="bytes", at_least=0, at_most=256 << 20
    )
    send_buffer_bytes: int = setting(
        limits.SEND_BUFFER_BYTES,
        help="output that may wait here for one client to take it; beyond that its object's output waits at the shard",
        unit="bytes",
        at_least=64 << 10,
        at_most=1 << 30,
    )
    stall_timeout_s: float = setting(
        limits.STALL_TIMEOUT_S,
        help="time for which a client may take none of the output that waits for it; then it is closed with 1013",
        unit="s",
        at_least=0.5,
    )
    least_rate: int = setting(
        limits.LEAST_RATE,
        help="what a client must take over that time, on average, while output waits for it, and send of a request's "
        "body; 0: any byte will do",
        unit="bytes/s",
        at_least=0,
    )
    all_send_buffers_bytes: int = setting(
        limits.ROUTER_SEND_BUFFERS_BYTES,
        help="memory for output that waits for slow clients, all together; beyond that the largest are cut off",
        unit="bytes",
        at_least=1 << 20,
    )
    all_windows_bytes: int = setting(
        limits.ROUTER_WINDOWS_BYTES,
        help="messages of clients, all together: three quarters for those that no object is done with (the largest "
        "holders are not read from half of that on; beyond it small ones only are), a quarter for those that are not "
        "finished",
        unit="bytes",
        at_least=1 << 20,
    )
    development: bool = setting(
        False, help="log each request and its answer, and answer with what keeps the app that was saved from loading"
    )
    compression: bool = setting(False, help="agree to permessage-deflate when a client offers it")
