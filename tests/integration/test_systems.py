"""Where roost runs: not without process descriptors, and as the first process of a container like anywhere else."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from roost.common.errors import UnsupportedSystem
from roost.common.runtime.processes import python_words
from tests.integration.roost import DEADLINE_S, Roost, processes_of, wait_for
from tests.unit.common.machine.test_first_process import children

WITHOUT = "import os\ndel os.pidfd_open\n"
"""Python's own hook for a site, as on a system that has no process descriptors."""
SHELLS = """
import subprocess
from roost import DurableObject, Response

class Shell(DurableObject):
    async def fetch(self, request):
        done = subprocess.run(["sh", "-c", "sleep 0.1 & exit 4"])
        return Response(f"{done.returncode}", status=200 if done.returncode == 4 else 500)
"""


@pytest.mark.parametrize(
    "words",
    [
        ["roost", "up"],
        ["roost", "up", "-d"],
        ["roost", "status"],
        ["roost", "scale", "--shards", "2"],
        ["roost", "reload"],
        ["roost", "down"],
        ["roost", "router"],
        ["roost", "shard", "--app", "app.py"],
        ["roost", "load", "ws://127.0.0.1:1/"],
        ["roost.router"],
        ["roost.shard", "--app", "app.py"],
    ],
    ids=" ".join,
)
def test_a_system_without_process_descriptors_is_told_in_a_sentence(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT)
    data = tmp_path / "data"
    command = [*python_words(words[0]), *words[1:]]
    if "load" not in words:
        command.append(f"--data={data}")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == UnsupportedSystem.exit_code
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "Linux 5.3 or newer is needed" in done.stderr
    assert not data.exists()
    assert processes_of(data) == []


def test_it_can_be_the_first_process_of_a_container(roost: Roost, tmp_path: Path) -> None:
    """``up`` as process 1 of a namespace buries what users' code leaves to it, and drains when it is told to."""
    unshare = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may make no namespaces")
    app = tmp_path / "shells.py"
    app.write_text(SHELLS)
    words = roost.words(*roost.up_words(app, "--shards", 1))
    with subprocess.Popen([*unshare, *words], stdout=subprocess.PIPE, text=True) as outer:
        assert outer.stdout is not None
        for line in outer.stdout:
            if "roost serves at" in line:
                break
        try:
            (first,) = children(outer.pid)
            for number in range(3):
                assert roost.get(f"/shell/{number}") == 200
            wait_for("the orphans' end", lambda: len(children(first)) == 1)
            os.kill(first, signal.SIGTERM)
            rest = outer.stdout.read()
            assert "roost drains" in rest
            assert "roost ended" in rest
            assert outer.wait(DEADLINE_S) == 0
        finally:
            outer.kill()
