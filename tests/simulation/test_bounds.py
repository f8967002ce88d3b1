"""A run that goes wrong again and again ends, with words and within bounds: one once filled 22 GB."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.test_seeds import ROOT

PROGRAM = """
from tests.simulation import few_slots
import pathlib
import re
from unittest import mock
from roost.common.errors import DirectoryError
from roost.shard.app import Shard
from tests.simulation.__main__ import one
from tests.simulation.history import History

async def cannot_start(self):
    raise DirectoryError("on purpose")

def always_wrong(history, *_):
    history.fault("on purpose")

with mock.patch.object({target}, "{name}", {by}):
    print("\\n".join(one(1).faults))
# Not ``ru_maxrss``, which has what the parent had at the fork.
print(int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) >> 10, "MiB")
"""


def run(target: str, name: str, by: str) -> list[str]:
    program = PROGRAM.format(target=target, name=name, by=by)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *lines, size = done.stdout.splitlines()
    assert int(size.removesuffix(" MiB")) < 500
    return lines


@pytest.mark.timeout(120)
def test_a_shard_that_cannot_start_is_not_started_for_ever() -> None:
    assert any("was started 100 times, and is to be again" in line for line in run("Shard", "serve", "cannot_start"))


@pytest.mark.timeout(120)
def test_what_is_wrong_all_the_time_is_told_a_hundred_times() -> None:
    assert len(run("History", "ended", "always_wrong")) == 100
