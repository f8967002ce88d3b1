"""The note of the event that was running when a shard died."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from roost.common.ids import Incarnation, ObjectId
from roost.common.last_words import KEEP, LastWords, RunningEvent, forget_old, last_words_path, read_last_words

ID = ObjectId(bytes(range(32)))


def test_a_note_says_what_runs_until_it_is_taken_back(tmp_path: Path) -> None:
    path = last_words_path(tmp_path, "shard-1", Incarnation(7))
    note = LastWords(path)
    assert read_last_words(path) is None
    note.enter(3, 4, 5, ID)
    assert read_last_words(path) == RunningEvent(Incarnation(3), 4, 5, ID)
    note.leave()
    assert read_last_words(path) is None
    note.enter(3, 4, 6, ID)
    note.close()
    assert read_last_words(path) == RunningEvent(Incarnation(3), 4, 6, ID)


def test_the_note_of_a_killed_process_stays(tmp_path: Path) -> None:
    path = last_words_path(tmp_path, "shard-1", Incarnation(7))
    program = (
        "import os, signal, sys; from pathlib import Path; from roost.common.last_words import LastWords\n"
        "LastWords(Path(sys.argv[1])).enter(1, 2, 3, bytes(range(32)))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)]).returncode == -signal.SIGKILL
    assert read_last_words(path) == RunningEvent(Incarnation(1), 2, 3, ID)


def test_no_note_and_half_a_note_say_nothing(tmp_path: Path) -> None:
    path = last_words_path(tmp_path, "shard-1", Incarnation(7))
    assert read_last_words(path) is None
    path.write_bytes(b"\1\0")
    assert read_last_words(path) is None


def test_only_the_last_incarnations_are_kept(tmp_path: Path) -> None:
    for incarnation in range(1, KEEP + 4):
        LastWords(last_words_path(tmp_path, "shard-1", Incarnation(incarnation))).close()
    LastWords(last_words_path(tmp_path, "shard-1-b", Incarnation(1))).close()
    forget_old(tmp_path, "shard-1")
    kept = {last_words_path(tmp_path, "shard-1", Incarnation(incarnation)) for incarnation in range(4, KEEP + 4)}
    assert set(tmp_path.glob("shard-1-?.running")) == kept
    assert last_words_path(tmp_path, "shard-1-b", Incarnation(1)).exists()
