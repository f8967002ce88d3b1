"""The log of a background cluster: put aside under those who write to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from roost.deploy.processes import log_file
from roost.deploy.processes.log_file import LogFile, put_aside_path

LARGE = 10_000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "LARGE_BYTES", LARGE)


def appending(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def test_a_large_log_is_put_aside_and_all_go_on_in_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "roost.log"
    ours, members = appending(path), appending(path)
    kept = LogFile(path, ours)
    for round_ in (b"1", b"2", b"3"):
        os.write(members, round_ * (LARGE - 1))
        kept.look()
        assert path.stat().st_size == LARGE - 1
        os.write(members, b"\n")
        kept.look()
        assert path.stat().st_size == 0
        assert put_aside_path(path).read_bytes() == round_ * (LARGE - 1) + b"\n"
        assert put_aside_path(path).stat().st_mode & 0o777 == 0o600
    os.write(members, b"behind")
    assert path.read_bytes() == b"behind"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["roost.log", "roost.log.1"]
    os.close(ours)
    os.close(members)


def test_output_that_is_no_log_of_ours_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "typescript"
    ours = appending(other)
    os.write(ours, b"x" * LARGE)
    LogFile(tmp_path / "roost.log", ours).look()
    (tmp_path / "roost.log").write_bytes(b"of one before")
    LogFile(tmp_path / "roost.log", ours).look()
    assert other.stat().st_size == LARGE
    assert (tmp_path / "roost.log").read_bytes() == b"of one before"
    os.close(ours)


def test_a_log_that_cannot_be_put_aside_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "roost.log"
    ours = appending(path)
    os.write(ours, b"x" * LARGE)
    put_aside_path(path).mkdir()
    (put_aside_path(path) / "in the way").touch()
    kept = LogFile(path, ours)
    for _ in range(3):
        kept.look()
    assert [record.getMessage() for record in caplog.records if "cannot be put aside" in record.getMessage()]
    assert len(caplog.records) == 1
    os.close(ours)
