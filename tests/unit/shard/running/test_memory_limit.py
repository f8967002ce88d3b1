"""The limit of a shard's memory: what is refused, and what holds."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from roost.common.errors import ConfigError
from roost.shard.running.memory import START_BYTES, limit_memory


def test_so_little_that_a_shard_cannot_start_is_refused_with_the_least_that_works() -> None:
    """It was "unexpected RuntimeError: can't start new thread"."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(ConfigError, match=r"must be at least [\d,]+ bytes for a shard of this app.* got 1,000$"):
        limit_memory(1000)
    with pytest.raises(ConfigError):
        limit_memory(START_BYTES)  # the app itself takes some
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    limit_memory(0)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def run(program: str) -> str:
    words = "import resource; from roost.shard.running.memory import limit_memory\n"
    return subprocess.run([sys.executable, "-c", words + program], text=True, capture_output=True, check=True).stdout


def test_beyond_the_limit_allocations_fail() -> None:
    program = "limit_memory(256 << 20)\ntry: bytearray(512 << 20)\nexcept MemoryError: print('refused')"
    assert run(program) == "refused\n"


def test_the_systems_own_limit_is_told() -> None:
    program = (
        "resource.setrlimit(resource.RLIMIT_DATA, (50_000_000, 50_000_000))\n"
        "try: limit_memory(1 << 30)\nexcept Exception as error: print(error)"
    )
    assert "got 1,073,741,824, of which the system allows 50,000,000 (ulimit -d)\n" in run(program)
