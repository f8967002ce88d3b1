"""A thousand seeds of the simulation. One that fails is named, with the command that shows its event log.

The runs are made by ``python -m tests.simulation`` in processes of its own, one for each core: with few slots, which
have to be set before anything of roost is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEEDS = 1000
BLOCK = 200
PATIENCE_S = 280.0
"""Seconds for a block of seeds. A machine with nothing else to do takes 6."""


def simulation(*arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    """What ``python -m tests.simulation`` prints."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.simulation", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(1, SEEDS + 1, BLOCK))
def test_nothing_is_lost_doubled_reordered_or_left_over(first: int) -> None:
    run = simulation("--from", str(first), "--seeds", str(BLOCK), "--tally")
    assert run.returncode == 0, f"{run.stdout}{run.stderr}\nto see one: python -m tests.simulation --trace SEED"
    assert f"{BLOCK} seeds from {first}" in run.stdout
    assert not run.stderr
    # The runs are worth their name: a plan that disturbed nothing would find nothing.
    tally = dict(line.strip().rsplit(" ", 1) for line in run.stdout.splitlines() if line.startswith("  "))
    assert "executions at expelled shards" in tally
    assert all(int(count) > 0 for count in tally.values()), run.stdout


def test_a_seed_always_gives_the_same_run() -> None:
    """Whatever the process: other addresses in memory, another order of sets of texts."""
    seeds = ("--from", "1", "--seeds", "12", "--digests")
    first, second = simulation(*seeds, hash_seed="1"), simulation(*seeds, hash_seed="2")
    assert len(first.stdout.splitlines()) == 12, first.stderr
    assert len({line.split()[1] for line in first.stdout.splitlines()}) == 12
    assert first.stdout == second.stdout
