"""The members of one machine, seen by another: with real processes, locks and files."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from roost.common.cluster.cluster_map import Member, MemberKind
from roost.common.cluster.neighbours import LocalNeighbours
from roost.common.ids import Incarnation, ObjectId
from roost.common.machine.counters import CounterFile, Counters
from roost.common.machine.last_words import LastWords, last_words_path
from roost.common.machine.liveness import Sight
from roost.common.machine.run_folder import SUPERVISOR
from roost.common.runtime.startup import hold_name
from tests.support.waiting import within

HOLDER = """
import sys
from pathlib import Path
from roost.common.runtime.startup import hold_name
held = hold_name(Path(sys.argv[1]), sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


def shard(number: int, pid: int = 0, endpoint: str = "ipc:///x") -> Member:
    return Member(f"shard-{number}", MemberKind.SHARD, Incarnation(number), endpoint, pid=pid or os.getpid())


@pytest.fixture
def run() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="roost-") as folder:
        yield Path(folder)


@pytest.fixture
async def neighbours(run: Path) -> AsyncIterator[LocalNeighbours]:
    with closing(LocalNeighbours(run, asyncio.get_running_loop())) as made:
        yield made


@pytest.fixture
def process(run: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One that is shard-1."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run), "shard-1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as made:
        assert made.stdout is not None
        assert made.stdout.readline() == b"held\n"
        yield made
        made.kill()


async def test_a_death_is_told_where_the_machine_tells(
    neighbours: LocalNeighbours, process: subprocess.Popen[bytes]
) -> None:
    told, elsewhere = asyncio.Event(), asyncio.Event()
    neighbours.on_death(shard(1, process.pid), told.set)
    neighbours.on_death(shard(2, process.pid, "tcp://192.0.2.1:1"), elsewhere.set)
    process.kill()
    await within("the death", told.wait())
    assert not elsewhere.is_set(), "its process id is another machine's"


async def test_whoever_is_fenced_is_dead(
    run: Path, neighbours: LocalNeighbours, process: subprocess.Popen[bytes]
) -> None:
    assert (await neighbours.look([shard(1, process.pid)])) == {1: Sight(True)}
    assert await neighbours.fence(shard(1, process.pid))
    assert process.wait(5) == -9
    assert (await neighbours.look([shard(1, process.pid)])) == {1: Sight(False)}
    assert await neighbours.fence(shard(1, process.pid)), "again is fine"


async def test_a_look_says_what_a_member_counts_and_who_does_not_hold_its_name(
    run: Path, neighbours: LocalNeighbours
) -> None:
    with closing(CounterFile(run / "shard-1.counters", Counters())) as counters:
        counters.publish()
        held = hold_name(run, "shard-1")
        sights = await neighbours.look([shard(1), shard(2)])
        held.release()
    assert sights[Incarnation(1)].lives
    assert sights[Incarnation(1)].counts == (1, 0)
    assert sights[Incarnation(2)] == Sight(False)


async def test_last_words_of_whom_was_met_outlive_it(run: Path, neighbours: LocalNeighbours) -> None:
    words = LastWords(last_words_path(run, "shard-1", Incarnation(1)))
    assert neighbours.last_words(shard(1)) is None, "it was not met"
    neighbours.meet(shard(1))
    words.enter(7, 8, 9, ObjectId(bytes(32)))
    said = neighbours.last_words(shard(1))
    assert said is not None
    assert said.running is not None
    assert (said.running.router, said.running.connection, said.running.seq) == (7, 8, 9)
    neighbours.keep({})
    assert neighbours.last_words(shard(1)) is None, "let go of"
    neighbours.keep({Incarnation(1): "shard-1"})
    neighbours.look_after()
    assert neighbours.last_words(shard(1)) is not None, "what could not be opened is opened later"
    words.close()


async def test_a_supervisor_lives_who_holds_its_name(run: Path, neighbours: LocalNeighbours) -> None:
    assert not neighbours.is_supervised()
    held = hold_name(run, SUPERVISOR)
    assert neighbours.is_supervised()
    held.release()
    assert not neighbours.is_supervised()
