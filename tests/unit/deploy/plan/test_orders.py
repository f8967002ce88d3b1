"""Command lines that mean the same are the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from roost.common.machine.run_folder import run_folder
from roost.common.runtime.config import describe
from roost.common.settings.router import RouterConfig
from roost.common.settings.shard import ShardConfig
from roost.deploy.plan.config import UpConfig
from roost.deploy.plan.orders import canonical, same_orders


@pytest.mark.parametrize(("kind", "config"), [("router", RouterConfig), ("shard", ShardConfig)])
def test_a_default_is_as_good_as_said(kind: str, config: type) -> None:
    for item in describe(config):
        if item.default not in (None, ()):
            named = item.option if item.default is True else f"{item.option}={item.default}"
            words = [f"--no-{item.option.removeprefix('--')}"] if item.default is False else [named]
            assert same_orders(kind, words, []), item.field


def test_a_router_that_was_started_by_hand_is_what_is_wanted(tmp_path: Path) -> None:
    words = ["--name", "router-1", "--data", "h", "--port", "26787", "--log-level", "warning", "--ready-fd", "7"]
    found = canonical(words, tmp_path)
    assert found == (
        "--name=router-1",
        "--port=26787",
        "--log-level=warning",
        f"--data={tmp_path}/h",
        f"--run={run_folder(tmp_path / 'h')}",
    )
    config = UpConfig(data=tmp_path / "h", port=26787)
    assert same_orders("router", found, config.router_argv("router-1"))
    for other in (
        UpConfig(data=tmp_path / "h", port=26788),
        UpConfig(data=tmp_path / "h", port=26787, host="127.0.0.2"),
        UpConfig(data=tmp_path / "h", port=26787, grace=1.0),
        UpConfig(data=tmp_path / "h", port=26787, set=("router.compression=true",)),
        UpConfig(data=tmp_path / "h", port=26787, run=tmp_path / "run"),
    ):
        assert not same_orders("router", found, other.router_argv("router-1"))


def test_an_app_beside_a_shard_that_was_started_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app.py").touch()
    found = canonical(["--name=shard-1", "--app", "app.py", "--log-level=warning", "--vars", "A=1.0"], tmp_path)
    config = UpConfig(app=str(tmp_path / "app.py"), data=tmp_path / ".roost", var=("A=1.0",))
    assert same_orders("shard", found, config.shard_argv("shard-1"))
    assert canonical(["--app=app"], tmp_path)[0] == "--app=app", "a module"


def test_numbers_flags_and_what_is_said_last() -> None:
    def same(one: list[str], other: list[str]) -> bool:
        return same_orders("shard", canonical(one, Path("/")), canonical(other, Path("/")))

    assert same(["--hibernate-after-s=10"], [])
    assert same(["--hibernate-after-s=3", "--hibernate-after-s=10.0"], [])
    assert same(["--initial-shards=2", "--ready-fd=7"], ["--initial-shards=5"])
    assert same(["--compression", "--name", "a"], ["--name=a", "--compression"])
    assert not same(["--compression"], ["--no-compression"])
    assert not same(["--vars=A=1"], [])
    assert not same(["--vars=A=1", "--vars=B=1"], ["--vars=B=1"])
    assert not same(["--vars=A=1.0"], ["--vars=A=1"])
