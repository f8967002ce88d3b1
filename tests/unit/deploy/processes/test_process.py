"""A process that stands by begins when it is called, and never outlives whoever might call it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from roost.common.errors import AppError
from roost.deploy.processes.process import MemberProcess
from tests.support.waiting import within

START_S = 20.0


class Ends:
    """A shard's process that stands by, and how it ends."""

    def __init__(self, folder: Path) -> None:
        self.found: list[tuple[int, str]] = []
        argv = ["--name=x", "--app=none.py", f"--data={folder}", f"--run={folder}"]
        self.process = MemberProcess("shard", argv, on_ready=self._ready, on_end=self._ended, stands_by=True)

    def _ready(self, process: MemberProcess, report: dict[str, Any]) -> None:
        raise AssertionError(report)

    def _ended(self, process: MemberProcess, exit_code: int, error: str) -> None:
        self.found.append((exit_code, error))


async def test_it_begins_when_it_is_called(tmp_path: Path) -> None:
    ends = Ends(tmp_path)
    await asyncio.sleep(1.0)  # nothing is to happen
    assert ends.found == [], "it would have found no app by now"
    ends.process.call()
    await within("its end", ends.process.gone.wait(), START_S)
    assert ends.found == [(AppError.exit_code, "there is no file none.py")]


async def test_it_ends_when_it_is_dismissed(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    ends = Ends(tmp_path)
    ends.process.dismiss()
    await within("its end", ends.process.gone.wait(), START_S)
    assert ends.found == [(0, "")]
    assert len(os.listdir("/proc/self/fd")) == before


def test_it_ends_with_whoever_might_have_called_it(tmp_path: Path) -> None:
    program = f"""
import asyncio, os
from roost.deploy.processes.process import MemberProcess

async def main():
    argv = ["--name=x", "--app=none.py", "--data={tmp_path}", "--run={tmp_path}"]
    process = MemberProcess("shard", argv, on_ready=print, on_end=print, stands_by=True)
    print(process.pid, flush=True)
    os._exit(0)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=START_S, check=True)
    # It has our end of stdout as well: only when it has gone does this call return, and in time.
    assert done.stdout.split()[0].isdigit()
