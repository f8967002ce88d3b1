from __future__ import annotations

from pathlib import Path

from roost.common.errors import AppError
from roost.common.runtime import broken_code


def error(text: str, cause: BaseException | None = None) -> AppError:
    made = AppError(text)
    made.__cause__ = cause
    return made


def test_it_stays_until_the_code_loads(tmp_path: Path) -> None:
    assert broken_code.read(tmp_path) == ""
    try:
        exec(compile("1 / 0", "/app/room.py", "exec"))
    except ZeroDivisionError as cause:
        text = broken_code.note(tmp_path, error("room.py does not import", cause))
    assert broken_code.read(tmp_path) == text
    assert text.startswith("room.py does not import\n\nTraceback (most recent call last):\n")
    assert 'File "/app/room.py", line 1' in text
    broken_code.note(tmp_path, error("room.py defines no class"))
    assert broken_code.read(tmp_path) == "room.py defines no class"
    assert [path.name for path in tmp_path.iterdir()] == ["broken-code"], "nothing but whole notes"
    broken_code.forget(tmp_path)
    broken_code.forget(tmp_path)
    assert broken_code.read(tmp_path) == ""


def test_what_cannot_be_written_is_no_matter(tmp_path: Path) -> None:
    assert broken_code.note(tmp_path / "nowhere", error("x")) == "x"
    broken_code.forget(tmp_path / "nowhere")


def test_a_long_one_keeps_its_end(tmp_path: Path) -> None:
    text = broken_code.note(tmp_path, error("x", ValueError("a" * 100_000 + "the end")))
    assert len(text) < 2 * broken_code.MOST_CHARS
    assert text.rstrip().endswith("the end")
