"""How commands find a supervisor, and what they say when it is not there or takes its time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from roost.common.cluster.cluster_map import ClusterMap, MemberKind
from roost.common.cluster.directory_file import FILE_NAME, DirectoryFile
from roost.common.errors import DataFolderInUse
from roost.common.machine.run_folder import SUPERVISOR, ipc_endpoint
from roost.common.runtime.startup import HeldName, hold_name
from roost.deploy.commands import client
from roost.deploy.commands.background import OLD_LOG_BYTES, BackgroundStartFailed, start_in_background
from roost.deploy.plan.config import UpConfig
from roost.deploy.processes.log_file import log_path
from roost.deploy.processes.run_folder import Address, AddressFile, other_run_folder, read_address
from tests.support.directories import enter


@pytest.fixture
def held(tmp_path: Path) -> Iterator[HeldName]:
    made = hold_name(tmp_path / "run", SUPERVISOR)
    yield made
    made.release()


def address(pid: int) -> Address:
    return Address(pid, "127.0.0.1", 1, "token", "http://127.0.0.1:2")


def test_only_the_supervisor_that_lives_is_asked(tmp_path: Path, held: HeldName) -> None:
    run = tmp_path / "run"
    assert read_address(run) is None
    AddressFile(run, address(os.getpid()))
    assert read_address(run) == address(os.getpid())
    # The file of one that was killed, while the next one starts.
    AddressFile(run, address(os.getpid() + 1))
    assert read_address(run) is None
    with pytest.raises(client.ClusterUnreachable, match="is starting or ending"):
        client.find(tmp_path, run)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """The run folder of a shard that lives, which is not the one that follows from the data folder."""
    run = tmp_path / "elsewhere"
    shard = hold_name(run, "shard-1")
    with contextlib.closing(DirectoryFile(tmp_path / FILE_NAME, initial_shards=1)) as directory:
        endpoint = partial(ipc_endpoint, run, "shard-1")
        enter(directory, directory.join(MemberKind.SHARD, "shard-1", os.getpid(), endpoint, ()))
        yield run
    shard.release()


def test_whoever_does_not_name_the_run_folder_hears_its_name(tmp_path: Path, elsewhere: Path) -> None:
    with pytest.raises(client.NoCluster, match=rf"has another run folder: add `--run {elsewhere}`$"):
        client.status(tmp_path)
    with pytest.raises(client.NoCluster, match=rf"has another run folder: add `--run {elsewhere}`$"):
        client.down(tmp_path, timeout_s=1.0, run=tmp_path / "wrong")
    with pytest.raises(client.NoCluster, match="has lost its supervisor"):
        client.find(tmp_path, elsewhere)


def test_those_who_have_ended_have_no_run_folder(tmp_path: Path, elsewhere: Path) -> None:
    with contextlib.closing(DirectoryFile(tmp_path / FILE_NAME, create=False)) as directory:
        map_ = directory.map()
    assert other_run_folder(tmp_path / "run", map_) == elsewhere
    assert other_run_folder(elsewhere, map_) is None
    (member,) = map_.shards
    dead = ClusterMap(members={member.incarnation: replace(member, pid=4_194_305)})
    assert other_run_folder(tmp_path / "run", dead) is None


def test_a_refused_start_leaves_the_log_of_the_cluster_that_runs(tmp_path: Path, held: HeldName) -> None:
    config = UpConfig(data=tmp_path / "data", run=tmp_path / "run", admin_port=0)
    config.data.mkdir()
    with log_path(config.data).open("wb") as log:
        log.truncate(OLD_LOG_BYTES + 1)
    with pytest.raises(BackgroundStartFailed) as caught:
        start_in_background(config)
    assert caught.value.exit_code == DataFolderInUse.exit_code
    assert [path.name for path in config.data.iterdir()] == ["roost.log"]
    assert log_path(config.data).stat().st_size > OLD_LOG_BYTES


def test_whoever_interrupts_the_command_hears_that_the_change_goes_on(
    tmp_path: Path, held: HeldName, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(address: Address, method: str, path: str, body: object = None) -> Any:
        return {"change": 1} if method == "POST" else {"lines": ["one"], "done": False}

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    AddressFile(tmp_path / "run", address(os.getpid()))
    monkeypatch.setattr(client, "ask", ask)
    monkeypatch.setattr("time.sleep", interrupt)
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        client.scale(tmp_path, shards=1, routers=None, say=said.append, run=tmp_path / "run")
    assert said == ["one", "the change goes on without this command; `roost status` shows it"]
