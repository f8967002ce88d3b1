"""The note of the events that were at work when a shard died."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from roost.common import last_words as module
from roost.common.ids import Incarnation, ObjectId
from roost.common.last_words import KEEP, LastWords, RunningEvent, Said, forget_old, last_words_path, read_last_words

ID = ObjectId(bytes(range(32)))
OTHER = ObjectId(bytes(32))


def test_a_note_says_what_runs_until_it_is_taken_back(tmp_path: Path) -> None:
    path = last_words_path(tmp_path, "shard-1", Incarnation(7))
    note = LastWords(path)
    assert read_last_words(path) == Said(None)
    note.enter(3, 4, 5, ID)
    event = RunningEvent(Incarnation(3), 4, 5, ID)
    assert read_last_words(path) == Said(event)
    note.leave()
    assert read_last_words(path) == Said(None, last=event)
    note.enter(3, 4, 6, ID)
    note.turned(12.345)
    assert read_last_words(path) == Said(RunningEvent(Incarnation(3), 4, 6, ID), turned_at=12.345)
    note.keep(3 << 32 | 4, 5, ID, 1.5)
    note.close()
    assert read_last_words(path) == Said(None, turned_at=12.345), "whoever ends in good order suspects nobody"


def test_events_at_work_have_rows_until_they_end(tmp_path: Path) -> None:
    path = last_words_path(tmp_path, "shard-1", Incarnation(7))
    note = LastWords(path)
    first, second = note.keep(3 << 32 | 4, 5, ID, 1.5), note.keep(3 << 32 | 9, 1, OTHER, 2.5)
    one, two = RunningEvent(Incarnation(3), 4, 5, ID), RunningEvent(Incarnation(3), 9, 1, OTHER)
    said = read_last_words(path)
    assert said is not None
    assert set(said.waiting) == {one, two}
    assert {each.since for each in said.waiting} == {1.5, 2.5}
    note.drop(first)
    assert read_last_words(path) == Said(None, (two,))
    note.drop(first)
    third = note.keep(3 << 32 | 4, 6, ID, 3.0)
    note.drop(first)
    said = read_last_words(path)
    assert said is not None
    assert len(said.waiting) == 2
    note.drop(second)
    note.drop(third)
    note.keep(1, 1, ID, 3.0)
    note.drop_all()
    assert read_last_words(path) == Said(None)


def test_with_too_many_events_the_row_of_an_older_one_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 3)
    monkeypatch.setattr(module, "BYTES", module._HEAD.size + 3 * module._ROW.size)
    path = last_words_path(tmp_path, "shard-1", Incarnation(7))
    note = LastWords(path)
    tickets = [note.keep(1, number, ID, 0.0) for number in range(1, 6)]
    assert len(set(tickets)) == 5

    def kept() -> set[int]:
        said = read_last_words(path)
        assert said is not None
        return {event.seq for event in said.waiting}

    assert len(kept()) == 3
    assert {4, 5} <= kept()
    for number, ticket in enumerate(tickets[:4], start=1):
        note.drop(ticket)
        assert number not in kept()
        assert 5 in kept(), "whoever has lost its row does not take another's"
    for number in (6, 7):
        note.keep(1, number, ID, 0.0)
    assert kept() == {5, 6, 7}


def test_the_note_of_a_killed_process_stays(tmp_path: Path) -> None:
    path = last_words_path(tmp_path, "shard-1", Incarnation(7))
    program = (
        "import os, signal, sys; from pathlib import Path; from roost.common.last_words import LastWords\n"
        "words = LastWords(Path(sys.argv[1]))\n"
        "words.enter(1, 2, 3, bytes(range(32)))\n"
        "words.keep(5, 6, bytes(32), 7.0)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)]).returncode == -signal.SIGKILL
    waiting = (RunningEvent(Incarnation(0), 5, 6, OTHER),)
    assert read_last_words(path) == Said(RunningEvent(Incarnation(1), 2, 3, ID), waiting)


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


def test_a_note_that_was_removed_is_put_back_with_all_that_it_said(tmp_path: Path) -> None:
    path = last_words_path(tmp_path, "shard-1", Incarnation(9))
    words, told = LastWords(path), list[bool]()
    words.on_restored = lambda: told.append(True)
    first = words.keep(7 << 32 | 1, 1, bytes(32), 1.0)
    second = words.keep(7 << 32 | 2, 1, bytes(32), 2.0)
    assert not words.restore()
    path.unlink()
    assert words.restore()
    assert not words.restore()
    assert told == [True]
    said = read_last_words(path)
    assert said is not None
    assert [event.connection for event in said.waiting] == [1, 2]
    words.drop(first)
    words.enter(7, 3, 1, bytes(32))
    said = read_last_words(path)
    assert said is not None
    assert [event.connection for event in said.waiting] == [2]
    assert said.running is not None
    assert said.running.connection == 3
    words.drop(second)
    words.close()
