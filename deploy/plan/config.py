"""The settings of ``roost up``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

from ...common import limits
from ...common.errors import ConfigError, DescriptorsTooFew
from ...common.machine.run_folder import DATA_FOLDER, run_folder
from ...common.runtime.config import LOG_LEVELS, check, parse, setting
from ...common.settings.router import HOST, PORT, RouterConfig

CHAT_EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "chat.py"
"""What runs when no app is given."""
ADMIN_HOST = "127.0.0.1"
"""The admin API stops clusters: it is for this machine only."""

DESCRIPTORS_BESIDE = 256
"""Descriptors that a router needs beside its clients': links, files, handshakes on their way."""
UNEVEN_SHARE = 1.1
"""The kernel spreads connections over routers by a hash: one gets this much of an even share at most, in practice."""

_SET = re.compile(r"(router|shard)\.([a-z][a-z0-9_]*)=(.*)", re.DOTALL)
_OURS = frozenset(
    {
        "name",
        "data",
        "run",
        "ready_fd",
        "standby_fd",
        "log_level",
        "host",
        "port",
        "app",
        "initial_shards",
        "seat",
        "hibernate_after_s",
        "vars",
        "grace_s",
        "stall_kill_s",
    }
)
"""Members' settings that ``roost up`` decides by its own options."""

DRAIN_RESERVE_S = 3.0
"""Seconds before a router's time to end is up at which it stops waiting for clients, to end by itself."""
_AT_ONCE = ("--drain-timeout-s=0.2",)
"""In development: whoever presses Ctrl-C, or has saved a file, does not want to wait for clients or handlers."""


@dataclass(frozen=True, kw_only=True)
class UpConfig:
    """What ``roost up`` starts, and how."""

    app: str = setting("", help="the app: a Python file or an importable module; the chat example when it is not given")
    routers: int = setting(1, help="router processes, which share the public port", at_least=1, at_most=64)
    shards: int = setting(2, help="shard processes, which share the objects", at_least=1, at_most=64)
    host: str = setting(HOST, help="address to serve at; :: is every address, of IPv4 as well")
    port: int = setting(PORT, help="public port", at_least=1, at_most=65_535)
    admin_port: int = setting(
        8788, help="port of the admin API on 127.0.0.1; 0 picks a free one", at_least=0, at_most=65_535
    )
    data: Path = setting(DATA_FOLDER, help="data folder: what must outlive the processes")
    run: Path = setting(None, help="run folder: sockets, locks and counters; by default derived from the data folder")
    hibernate_after: float = setting(
        limits.HIBERNATE_AFTER_S, help="idle time after which an object leaves memory", unit="s", at_least=0.1
    )
    var: tuple[str, ...] = setting((), help="a variable for env, NAME=VALUE")
    connections: int = setting(
        0,
        help="WebSockets to be ready for: the start fails when the limit of descriptors is too low; 0 asks nothing",
        at_least=0,
    )
    set: tuple[str, ...] = setting(
        (),
        help="any other setting of the members, such as router.ping_interval_s=5 or shard.max_attachment_bytes=16384",
    )
    start_timeout: float = setting(60.0, help="time that a member may take to start", unit="s", at_least=0.1)
    drain_timeout: float = setting(
        15.0, help="time that routers, then shards, may take to end before they are killed", unit="s", at_least=0.1
    )
    grace: float = setting(
        limits.GRACE_S,
        help="time that a dead shard has to come back before others take its slots",
        unit="s",
        at_least=0,
    )
    stall_kill: float = setting(
        limits.STALL_KILL_S,
        help="time that code may hold a process's loop before the process is killed",
        unit="s",
        at_least=2,
    )
    watch: bool = setting(False, help="reload when a Python file in the app's folder is saved")
    development: bool = setting(
        False,
        help="for whoever writes the app: errors in the answers, an access log, and new code at once with --watch, not "
        "shard by shard",
    )
    log_level: str = setting("warning", help="least severe log records to write", choices=LOG_LEVELS)
    ready_fd: int = setting(-1, help="descriptor to which one line of JSON goes once the start succeeded or failed")

    def __post_init__(self) -> None:
        if self.run is None:
            object.__setattr__(self, "run", run_folder(self.data))
        check(self)
        if self.port == self.admin_port:
            raise ConfigError(f"port and admin_port are both {self.port}; they must differ")
        for text in self.var:
            if not text.partition("=")[0] or "=" not in text:
                raise ConfigError(f"a variable is given as NAME=VALUE, got {text!r}")
        for text in self.set:
            parts = _SET.fullmatch(text)
            if parts is None:
                raise ConfigError(f"a member's setting is given as router.NAME=VALUE or shard.NAME=VALUE, got {text!r}")
            if parts[2] == "help":
                raise ConfigError(f"{parts[1]}.help is not a setting")
            if parts[2] in _OURS:
                raise ConfigError(f"{parts[1]}.{parts[2]} cannot be set this way: roost up decides it")

    @property
    def url(self) -> str:
        """Where clients reach the cluster, from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def app_in_words(self) -> str:
        """The app, for people."""
        return self.app or "the chat example"

    @property
    def app_path(self) -> str:
        """The app as members get it: they may have another working folder."""
        if not self.app:
            return str(CHAT_EXAMPLE)
        return str(Path(self.app).resolve()) if Path(self.app).is_file() else self.app

    def with_counts(self, shards: int, routers: int) -> UpConfig:
        """The same cluster with other numbers of members.

        Raises:
            ConfigError: There cannot be so many, or so few.
        """
        return replace(self, shards=shards, routers=routers)

    def check_descriptors(self, limit: int) -> None:
        """Refuse a cluster whose routers cannot hold ``connections``.

        Args:
            limit: How many descriptors a process may open here.

        Raises:
            DescriptorsTooFew: Each router needs more.
        """
        share = self.connections / self.routers
        if self.routers > 1:
            share *= UNEVEN_SHARE
        wanted = math.ceil(share) + DESCRIPTORS_BESIDE
        if self.connections and wanted > limit:
            raise DescriptorsTooFew(wanted, limit)

    def check_router(self) -> None:
        """Refuse settings with which no router would start.

        Raises:
            ConfigError: naming the setting, its value and what it may be.
        """
        parse(RouterConfig, self.router_argv("router-1"), prog="roost router")

    def member_setting(self, kind: str, name: str) -> str | None:
        """What ``set`` says of a member's setting; the last word counts."""
        found = None
        for text in self.set:
            parts = _SET.fullmatch(text)
            if parts is not None and (parts[1], parts[2]) == (kind, name):
                found = parts[3]
        return found

    @property
    def retire_rate(self) -> float:
        """Clients a second that a leaving router sends away."""
        try:
            return max(float(self.member_setting("router", "retire_rate") or limits.RETIRE_RATE), 0.001)
        except ValueError:
            return limits.RETIRE_RATE  # no router has started with such a setting

    def router_argv(self, name: str) -> list[str]:
        """The arguments of the router *name*."""
        return [
            *self._member_argv(name),
            f"--host={self.host}",
            f"--port={self.port}",
            # What routers do when no supervisor lives to do it.
            f"--grace-s={self.grace}",
            f"--stall-kill-s={self.stall_kill}",
            f"--drain-limit-s={max(self.drain_timeout - DRAIN_RESERVE_S, 0.0):g}",
            *(["--development", *_AT_ONCE] if self.development else []),
            *self._set_argv("router"),
        ]

    def shard_argv(self, name: str, seat: str = "") -> list[str]:
        """The arguments of the shard *name* in *seat*, which is its name when it is not given."""
        return [
            *self._member_argv(name),
            *([f"--seat={seat}"] if seat and seat != name else []),
            f"--app={self.app_path}",
            f"--initial-shards={self.shards}",
            f"--hibernate-after-s={self.hibernate_after}",
            *(["--development", *_AT_ONCE] if self.development else []),
            *(f"--vars={text}" for text in self.var),
            *self._set_argv("shard"),
        ]

    def _member_argv(self, name: str) -> list[str]:
        return [
            f"--name={name}",
            f"--data={self.data.resolve()}",
            f"--run={self.run.resolve()}",
            f"--log-level={self.log_level}",
        ]

    def _set_argv(self, kind: str) -> list[str]:
        words = []
        for text in self.set:
            parts = _SET.fullmatch(text)
            assert parts is not None, "checked when made"
            if parts[1] != kind:
                continue
            option = parts[2].replace("_", "-")
            # The member's types are not known here; no setting but a flag has one of these two words as its value.
            words.append({"true": f"--{option}", "false": f"--no-{option}"}.get(parts[3], f"--{option}={parts[3]}"))
        return words
