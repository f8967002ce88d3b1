"""What is tried before any shard is touched."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from roost.common.errors import AppError, ConfigError
from roost.common.settings.shard import ShardConfig
from roost.shard.check import check

APP = """
from roost.shard import DurableObject
class CheckedRoom(DurableObject):
    pass
class CheckedLedger(DurableObject):
    public = False
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = tmp_path / "checked_app.py"
    path.write_text(APP)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "checked_app", raising=False)
    return str(path)


def test_it_reports_all_classes(app: str) -> None:
    """Also those that are not public: sockets of a time when they were may still be open."""
    command = [sys.executable, "-P", "-m", "roost.shard.check", "--app", app, "--name", "trial"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
    report = json.loads(done.stdout)
    assert report["ready"] is True
    assert report["namespaces"] == ["checked-ledger", "checked-room"]


def test_a_variable_that_hides_a_namespace_is_refused(app: str) -> None:
    with pytest.raises(ConfigError, match="CHECKED_ROOM"):
        check(ShardConfig(app=app, name="trial", vars=("CHECKED_ROOM=x",)))


def test_an_app_that_cannot_be_hosted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AppError):
        check(ShardConfig(app=str(tmp_path), name="trial"))
