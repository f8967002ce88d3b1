"""The folders of a cluster: where they are, who may write there, and sockets whose paths are too long."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from roost.common.errors import STARTUP_EXIT_CODES, ConfigError, FolderTrouble
from roost.common.ids import Incarnation
from roost.common.machine import run_folder as module
from roost.common.machine.run_folder import (
    MAX_IPC_PATH_BYTES,
    follow_folders,
    ipc_endpoint,
    make_data_folder,
    make_run_folder,
    reachable,
    remove_sockets,
    run_folder,
)
from roost.common.runtime import startup


@pytest.mark.parametrize("user", [0, 1000])
def test_a_data_folder_has_one_run_folder_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: user)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("d")
    for name in ("TMPDIR", "XDG_RUNTIME_DIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    folders = {run_folder(Path(text)) for text in ("d", "./d", "x/../d", str(tmp_path / "d"), "link")}
    assert len(folders) == 1
    assert run_folder(Path("e")) not in folders
    folder = folders.pop()
    assert folder == tmp_path / "d" / "run" if user else folder.parent == Path("/run")


def test_without_a_run_folder_of_the_system_that_can_be_written_it_lies_in_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert run_folder(tmp_path) == tmp_path / "run"
    monkeypatch.undo()
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(module, "_SYSTEM_RUN", tmp_path / "none")
    assert run_folder(tmp_path) == tmp_path / "run"


def test_the_run_folder_is_its_owners_alone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run_folder(run)
    assert run.stat().st_mode & 0o777 == 0o700
    make_run_folder(run)
    run.chmod(0o755)
    with pytest.raises(ConfigError, match="only its owner"):
        make_run_folder(run)


def test_a_link_in_the_place_of_the_run_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "run").symlink_to("real")
    with pytest.raises(ConfigError, match="only its owner"):
        make_run_folder(tmp_path / "run")


def test_a_run_folder_in_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be made: No such file"):
        make_run_folder(tmp_path / "a" / "b")


def test_the_data_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    make_data_folder(tmp_path / "a" / "data")
    assert (tmp_path / "a" / "data").stat().st_mode & 0o777 == 0o700
    make_data_folder(tmp_path / "a" / "data")


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775, 0o757, 0o702])
def test_a_data_folder_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(mode)
    with pytest.raises(ConfigError, match=rf"other users may write .*{mode:04o}.*chmod go-w"):
        make_data_folder(tmp_path / "data")


def test_others_may_read_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    make_data_folder(tmp_path / "data")


def test_a_data_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(ConfigError, match=rf"belongs to user {owner}.*runs as user {owner + 1}"):
        make_data_folder(tmp_path)


def test_a_file_in_the_place_of_the_data_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        make_data_folder(tmp_path / "data")


# --- sockets --------------------------------------------------------------------------------------------------------


def listen(endpoint: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(reachable(endpoint).removeprefix("ipc://"))
    made.listen()
    return made


def connect(endpoint: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.connect(reachable(endpoint).removeprefix("ipc://"))
    return made


def test_a_short_path_stays_as_it_is() -> None:
    endpoint = ipc_endpoint(Path("/run/x"), "shard-1", Incarnation(7))
    assert endpoint == "ipc:///run/x/shard-1-7.sock"
    assert reachable(endpoint) == endpoint
    assert reachable("tcp://127.0.0.1:1") == "tcp://127.0.0.1:1"


def test_a_long_path_is_reached_through_its_folder_also_after_that_was_made_anew(tmp_path: Path) -> None:
    run = tmp_path / ("ü" * 60) / "run"
    run.mkdir(parents=True)
    endpoint = ipc_endpoint(run, "x" * 32, Incarnation(0xFFFFFFFF))
    assert len(os.fsencode(endpoint)) > MAX_IPC_PATH_BYTES
    with listen(endpoint):
        assert [path.name for path in run.iterdir()] == [f"{'x' * 32}-4294967295.sock"]
        connect(endpoint).close()
        before = reachable(endpoint)
        (run / f"{'x' * 32}-4294967295.sock").unlink()
        run.rmdir()
        follow_folders()  # nothing to follow yet
        run.mkdir()
        follow_folders()
        assert reachable(endpoint) == before, "who connects again does so by the same path"
        with listen(endpoint):
            connect(endpoint).close()


def test_the_sockets_of_earlier_incarnations_are_removed(tmp_path: Path) -> None:
    for name in ("shard-1-3.sock", "shard-1-4.sock", "shard-1-2-3.sock", "shard-1.lock"):
        (tmp_path / name).touch()
    remove_sockets(tmp_path, "shard-1", keep=Incarnation(4))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shard-1-2-3.sock", "shard-1-4.sock", "shard-1.lock"]


def test_a_disk_that_is_read_only_for_now_is_no_wrong_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that has served is started again, then; one with a wrong setting is not."""

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "mkdir", read_only)
    with pytest.raises(FolderTrouble, match="cannot be made: Read-only file system") as trouble:
        make_run_folder(tmp_path / "run")
    assert startup.report_error(-1, trouble.value) == startup.UNEXPECTED_EXIT_CODE
    assert startup.UNEXPECTED_EXIT_CODE not in STARTUP_EXIT_CODES
    monkeypatch.undo()
    real = os.open
    monkeypatch.setattr(
        os, "open", lambda path, flags, mode=0o777: read_only() if flags & os.O_CREAT else real(path, flags, mode)
    )
    with pytest.raises(FolderTrouble):
        startup.hold_name(tmp_path, "shard-1")
