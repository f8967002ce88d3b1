"""The settings of ``roost up``, and what they become for the members."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from roost.common.errors import ConfigError
from roost.common.machine.run_folder import run_folder
from roost.common.runtime.config import describe, parse, to_argv
from roost.deploy.plan.config import CHAT_EXAMPLE, UpConfig


def test_routers_and_shards_get_their_arguments(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.touch()
    config = UpConfig(
        app=str(app),
        shards=3,
        port=9000,
        data=tmp_path / "data",
        hibernate_after=0.5,
        var=("A=1", "B=x=y"),
        set=("router.ping_interval_s=5", "shard.max_attachment_bytes=16384", "router.compression=true"),
    )
    common = [f"--data={tmp_path}/data", f"--run={run_folder(tmp_path / 'data')}", "--log-level=warning"]
    assert config.router_argv("router-1") == [
        "--name=router-1",
        *common,
        "--host=127.0.0.1",
        "--port=9000",
        "--grace-s=10.0",
        "--stall-kill-s=30.0",
        "--drain-limit-s=12",
        "--ping-interval-s=5",
        "--compression",
    ]
    assert config.shard_argv("shard-2") == [
        "--name=shard-2",
        *common,
        f"--app={app}",
        "--initial-shards=3",
        "--hibernate-after-s=0.5",
        "--vars=A=1",
        "--vars=B=x=y",
        "--max-attachment-bytes=16384",
    ]
    assert UpConfig(set=("router.compression=false",)).router_argv("r")[-1] == "--no-compression"


def test_the_app_is_a_file_a_module_or_the_chat_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("app.py").touch()
    for app, expected in (("app.py", f"{tmp_path}/app.py"), ("my.module", "my.module"), ("", str(CHAT_EXAMPLE))):
        assert f"--app={expected}" in UpConfig(app=app).shard_argv("shard-1")
    assert CHAT_EXAMPLE.is_file()


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:8787"), ("0.0.0.0", "http://127.0.0.1:8787"), ("::", "http://[::1]:8787")],
)
def test_the_url_is_one_that_a_client_can_use(host: str, url: str) -> None:
    assert UpConfig(host=host).url == url


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"routers": 0}, "routers must be at least 1, got 0"),
        ({"shards": 65}, "shards must be at most 64, got 65"),
        ({"port": 70_000}, "port must be at most 65,535, got 70,000"),
        ({"port": 8788}, "port and admin_port are both 8788; they must differ"),
        ({"var": ("A",)}, "a variable is given as NAME=VALUE, got 'A'"),
        ({"var": ("=1",)}, "a variable is given as NAME=VALUE, got '=1'"),
        ({"set": ("ping=5",)}, "a member's setting is given as router.NAME=VALUE or shard.NAME=VALUE, got 'ping=5'"),
        ({"set": ("router.port=5",)}, "router.port cannot be set this way"),
        ({"set": ("router.grace_s=5",)}, "router.grace_s cannot be set this way"),
        ({"set": ("shard.standby_fd=5",)}, "shard.standby_fd cannot be set this way"),
        ({"set": ("router.help=true",)}, "router.help is not a setting"),
        ({"hibernate_after": 0.05}, "hibernate_after must be at least 0.1 s, got 0.05"),
    ],
)
def test_a_wrong_setting_is_named(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        UpConfig(**changes)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("router.nonsense=1", "unrecognized arguments: --nonsense=1"),
        ("router.ping_timeout_s=0", "ping_timeout_s must be at least 0.1 s, got 0"),
        ("router.max_body_bytes=many", "argument --max-body-bytes: invalid int value: 'many'"),
    ],
)
def test_settings_with_which_no_router_starts(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        UpConfig(set=(text,)).check_router()
    UpConfig(set=("router.compression=true", "shard.nonsense=1")).check_router()


def test_a_background_supervisor_gets_the_same_settings() -> None:
    config = UpConfig(app="x", var=("A=1",), set=("router.y=-1",), data=Path("d"), connections=5, ready_fd=9)
    assert parse(UpConfig, to_argv(config), prog="roost up") == config


def test_each_setting_has_a_sentence() -> None:
    for item in describe(UpConfig):
        assert item.about.help
        assert not item.about.help.endswith(".")
