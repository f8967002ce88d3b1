"""The note of the events that were at work when a shard died."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from roost.common.ids import Incarnation, ObjectId
from roost.common.machine import last_words as module
from roost.common.machine.last_words import (
    LastWords,
    OpenNotes,
    RunningEvent,
    Said,
    forget_links,
    last_words_path,
    read_last_words,
)

ID = ObjectId(bytes(range(32)))
ROW_BYTES = 64
"""As the module's table says."""
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
    everybody = module.ROWS
    monkeypatch.setattr(module, "ROWS", 3)
    monkeypatch.setattr(module, "BYTES", module.BYTES - (everybody - 3) * ROW_BYTES)
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


def test_the_note_of_a_killed_process_stays_with_who_has_opened_it(tmp_path: Path) -> None:
    path = last_words_path(tmp_path, "shard-1", Incarnation(7))
    program = (
        "import os, signal, sys; from pathlib import Path; from roost.common.machine.last_words import LastWords\n"
        "words = LastWords(Path(sys.argv[1])); print(flush=True); input()\n"
        "words.enter(1, 2, 3, bytes(range(32)))\n"
        "words.keep(5, 6, bytes(32), 7.0)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    notes = OpenNotes(tmp_path)
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shard:
        assert shard.stdout is not None
        shard.stdout.readline()
        notes.open("shard-1", Incarnation(7))
        assert notes.read(Incarnation(7)) == Said(None)
        shard.communicate(b"\n")
    assert shard.returncode == -signal.SIGKILL
    waiting = (RunningEvent(Incarnation(0), 5, 6, OTHER),)
    assert notes.read(Incarnation(7)) == Said(RunningEvent(Incarnation(1), 2, 3, ID), waiting)
    assert read_last_words(path) is None, "who comes now is too late"
    notes.close()
    assert notes.read(Incarnation(7)) is None


def test_no_note_and_half_a_note_say_nothing(tmp_path: Path) -> None:
    path = last_words_path(tmp_path, "shard-1", Incarnation(7))
    assert read_last_words(path) is None
    path.write_bytes(b"\1\0")
    assert read_last_words(path) is None


def test_links_of_earlier_incarnations_are_removed(tmp_path: Path) -> None:
    notes = [LastWords(last_words_path(tmp_path, "shard-1", Incarnation(number))) for number in (1, 2)]
    other = LastWords(last_words_path(tmp_path, "shard-1-b", Incarnation(1)))
    del notes  # their processes end: the links lead nowhere
    forget_links(tmp_path, "shard-1")
    assert [path.name for path in tmp_path.iterdir()] == [other.path.name]
    other.close()


def test_a_note_that_nobody_finds_is_found_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = LastWords(last_words_path(tmp_path, "shard-1", Incarnation(9)))
    first = words.keep(7 << 32 | 1, 1, bytes(32), 1.0)
    notes, shards = OpenNotes(tmp_path), {Incarnation(9): "shard-1"}
    words.path.unlink()
    notes.open("shard-1", Incarnation(9))
    assert notes.read(Incarnation(9)) is None
    assert words.restore()
    assert not words.restore()
    notes.complete(shards)
    said = notes.read(Incarnation(9))
    assert said is not None
    assert [event.connection for event in said.waiting] == [1]
    words.drop(first)
    assert notes.read(Incarnation(9)) == Said(None), "it is the same memory"
    notes.keep([Incarnation(10)])
    assert notes.read(Incarnation(9)) is None
    words.path.unlink()
    words.path.mkdir()
    for _ in range(3):
        notes.complete(shards)
    assert len(caplog.messages) == 1, "said once"
    words.close()
