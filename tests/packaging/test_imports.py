"""What each module may import. That packages point one way is import-linter's to say (``lint-imports``)."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import REPOSITORY

SHELLS = {
    "common": "cluster/directory cluster/directory_damage cluster/directory_file cluster/map_stream "
    "cluster/neighbours cluster/outside cluster/sqlite_directory machine/addresses machine/apart machine/counters "
    "machine/deaths machine/first_process machine/hangup machine/standard_streams machine/system runtime/clock "
    "runtime/logs runtime/processes runtime/startup wire/endpoint wire/link",
    "router": "__main__ app clients/ready clients/tcp clients/transport clients/work development guard/watching "
    "http/connection http/half_open http/intake http/listener http/phased machine",
    "shard": "api/context app host moving/handover moving/release objects/activation objects/closing "
    "objects/hosted objects/pairs running/descriptors running/loop_calls running/own_loop running/runner "
    "running/tasks running/threads serving trial watchdog",
    "deploy": "commands/background commands/client commands/requirements loadtest/alarm loadtest/connection "
    "loadtest/coordinator loadtest/machine loadtest/running loadtest/seat loadtest/worker loadtest/world "
    "processes/crew processes/leftovers processes/ports processes/process processes/trial supervisor/admin_server "
    "supervisor/conductor supervisor/source_watch supervisor/supervisor",
}
"""Modules that act. All others decide and do nothing else: time, bytes and records come as arguments."""
ACTING = {
    *("asyncio", "multiprocessing", "select", "selectors", "signal", "socket", "sqlite3", "ssl", "subprocess"),
    *("threading", "time", "uvloop", "zmq"),
}
"""What only a shell may import."""
EXEMPT = {
    "deploy/plan/post.py": {"signal"},
    "shard/running/failures.py": {"asyncio"},
    "shard/objects/jobs.py": {"asyncio"},
    "shard/api/life.py": {"asyncio", "threading"},
    "shard/api/pending.py": {"asyncio"},
    "shard/api/ports.py": {"asyncio"},
    "shard/objects/tries.py": {"asyncio"},
    "shard/objects/user_errors.py": {"asyncio"},
    "shard/api/web_socket.py": {"threading"},
    "shard/running/work.py": {"asyncio"},
}
"""``post`` wants the names of signals, ``life`` and ``web_socket`` who calls, and all others the names of types."""


def imports(path: Path) -> Iterator[str]:
    """The top-level names that the module imports from outside ``roost``, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            yield node.module.partition(".")[0]


def modules(package: str) -> list[Path]:
    links = REPOSITORY / "deploy" / "package"
    found = [path for path in (REPOSITORY / package).rglob("*.py") if links not in path.parents]
    assert found
    return found


@pytest.mark.parametrize("package", SHELLS)
def test_only_shells_act(package: str) -> None:
    """Whoever adds a module here decides that it is a shell; the pure ones stay without a word."""
    shells = set()
    for path in modules(package):
        relative = path.relative_to(REPOSITORY).as_posix()
        if "examples" not in path.parts and set(imports(path)) & ACTING - EXEMPT.get(relative, set()):
            shells.add(path.relative_to(REPOSITORY / package).with_suffix("").as_posix())
    assert shells == set(SHELLS[package].split())


def test_common_imports_the_standard_library_only() -> None:
    for path in modules("common"):
        allowed = {"zmq"} if path.name == "link.py" else set()
        strangers = set(imports(path)) - set(sys.stdlib_module_names) - allowed
        assert not strangers, f"{path} imports {strangers}"


@pytest.mark.parametrize("package", ["common", "deploy", "router", "shard"])
def test_packages_import_each_other_relatively(package: str) -> None:
    """Examples are a user's code and say ``roost.shard``; the packages themselves do not."""
    for path in modules(package):
        if "examples" not in path.parts:
            assert "roost" not in set(imports(path)), path


INTERRUPTED = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "roost.deploy.commands.cli":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
from roost.__main__ import main
main()
"""


def test_an_interrupt_while_modules_are_loaded_ends_the_command_without_a_traceback() -> None:
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")
