"""The settings of ``roost up``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..common.config import LOG_LEVELS, check, run_folder, setting
from ..common.errors import ConfigError

CHAT_EXAMPLE = Path(__file__).resolve().parent / "examples" / "chat.py"
"""What runs when no app is given."""
ADMIN_HOST = "127.0.0.1"
"""The admin API stops clusters: it is for this machine only."""

_SET = re.compile(r"(router|shard)\.([a-z][a-z0-9_]*)=(.*)", re.DOTALL)
_OURS = frozenset(
    {
        "name",
        "data",
        "run",
        "ready_fd",
        "log_level",
        "host",
        "port",
        "app",
        "initial_shards",
        "hibernate_after_s",
        "vars",
    }
)
"""Members' settings that ``roost up`` decides by its own options."""


@dataclass(frozen=True, kw_only=True)
class UpConfig:
    """What ``roost up`` starts, and how."""

    app: str = setting("", help="the app: a Python file or an importable module; the chat example when it is not given")
    routers: int = setting(1, help="router processes, which share the public port", at_least=1, at_most=64)
    shards: int = setting(2, help="shard processes, which share the objects", at_least=1, at_most=64)
    host: str = setting("127.0.0.1", help="address to serve at")
    port: int = setting(8787, help="public port", at_least=1, at_most=65_535)
    admin_port: int = setting(
        8788, help="port of the admin API on 127.0.0.1; 0 picks a free one", at_least=0, at_most=65_535
    )
    data: Path = setting(Path(".roost"), help="data folder: what must outlive the processes")
    run: Path = setting(None, help="run folder: sockets, locks and counters; by default derived from the data folder")
    hibernate_after: float = setting(10.0, help="idle time after which an object leaves memory", unit="s", at_least=0.1)
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
            if parts[2] in _OURS:
                raise ConfigError(f"{parts[1]}.{parts[2]} cannot be set this way: roost up decides it")

    @property
    def url(self) -> str:
        """Where clients reach the cluster, from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def router_argv(self, name: str) -> list[str]:
        """The arguments of the router *name*."""
        return [*self._member_argv(name), f"--host={self.host}", f"--port={self.port}", *self._set_argv("router")]

    def shard_argv(self, name: str) -> list[str]:
        """The arguments of the shard *name*."""
        return [
            *self._member_argv(name),
            f"--app={self._app()}",
            f"--initial-shards={self.shards}",
            f"--hibernate-after-s={self.hibernate_after}",
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

    def _app(self) -> str:
        if not self.app:
            return str(CHAT_EXAMPLE)
        return str(Path(self.app).resolve()) if Path(self.app).is_file() else self.app

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
