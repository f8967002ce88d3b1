"""A shard's settings."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .. import limits
from ..errors import ConfigError
from ..runtime.config import MemberConfig, setting


@dataclass(frozen=True, kw_only=True)
class ShardConfig(MemberConfig):
    """Everything a shard can be told. Times are seconds, sizes bytes."""

    seat: str = setting(
        "", help="what this shard's share of the slots is computed from, if not its name: its predecessor's in a reload"
    )
    app: str = setting(help="the classes to host: path of a .py file, or name of a module")
    standby_fd: int = setting(
        -1, help="descriptor from which a byte is awaited before the app is loaded; its end ends the process"
    )
    initial_shards: int = setting(
        1, help="number of shards that must be there before slots are first assigned", at_least=1, at_most=limits.SLOTS
    )
    hibernate_after_s: float = setting(
        limits.HIBERNATE_AFTER_S, help="idleness after which an object leaves memory", unit="s", at_least=0.1
    )
    drain_timeout_s: float = setting(
        5.0, help="time that running handlers have to end when the shard does", unit="s", at_least=0.0
    )
    move_timeout_s: float = setting(
        limits.MOVE_HANDLERS_S,
        help="time that running handlers have to end when their object moves to another shard",
        unit="s",
        at_least=0.0,
    )
    memory_limit_bytes: int = setting(
        0,
        help="memory that this process may use for data: allocations beyond it raise MemoryError; 0 for no limit",
        unit="bytes",
        at_least=0,
    )
    all_held_bytes: int = setting(
        limits.SHARD_HELD_BYTES,
        help="output that objects hold for clients that do not take it as fast as it comes, all together; beyond that "
        "the clients with most of it are closed with 1013. Large messages that are on their way have as much, and send "
        "raises OutboxFull beyond it. Large responses that wait to be sent have what is left, one object as much as is "
        "free; those beyond are answered with 503",
        unit="bytes",
        at_least=1 << 20,
    )
    all_events_bytes: int = setting(
        limits.SHARD_EVENTS_BYTES,
        help="messages and requests that objects have and have not done with, all together: from half of that on, "
        "clients are not read of objects that have more than an even share of it; beyond it requests with more than "
        "64 KiB are answered with 503",
        unit="bytes",
        at_least=1 << 20,
    )
    all_attachments_bytes: int = setting(
        limits.SHARD_PACKAGES_BYTES,
        help="tags, attachments and URLs that all sockets keep, here and at their routers: beyond that an accept, or a "
        "new attachment, raises PackagesFull",
        unit="bytes",
        at_least=1 << 20,
    )
    max_attachment_bytes: int = setting(
        limits.MAX_ATTACHMENT_BYTES,
        help="size of a serialised attachment",
        unit="bytes",
        at_least=1,
        at_most=limits.MAX_ATTACHMENT_BYTES_SETTABLE,
    )
    development: bool = setting(
        False,
        help="show clients why an object's code failed, with the traceback, and let it be debugged; only where all "
        "clients may know",
    )
    vars: tuple[str, ...] = setting((), help="NAME=VALUE, which objects find as env.NAME")

    def __post_init__(self) -> None:
        super().__post_init__()
        for text in self.vars:
            name, equals, _ = text.partition("=")
            if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or name.startswith("__"):
                raise ConfigError(f"vars must be NAME=VALUE with a Python name, got {text!r}")

    @property
    def variables(self) -> dict[str, str]:
        """``vars`` by name; the last one of a name counts."""
        pairs = (text.partition("=") for text in self.vars)
        return {name: value for name, _, value in pairs}
