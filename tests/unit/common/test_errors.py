"""The tree of errors is the one its docstring draws, and each error carries its facts."""

from __future__ import annotations

import re

import pytest

from roost.common import errors
from roost.common.errors import LifeOver, RoostError, StartupError

_ALL = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, RoostError | LifeOver)
}


def _drawn() -> dict[str, tuple[str | None, str | None]]:
    """Name → (parent, second base) as the docstring draws the tree."""
    tree: dict[str, tuple[str | None, str | None]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([│├└─ ]*)([A-Z]\w+)(?: \((\w+)\))?", line)
        if match:
            depth = len(match[1]) // 4
            del path[depth:]
            tree[match[2]] = (path[-1] if path else None, match[3])
            path.append(match[2])
    return tree


def test_the_drawn_tree_is_the_real_one() -> None:
    drawn = _drawn()
    assert drawn.keys() == _ALL.keys()
    for name, (parent, second) in drawn.items():
        bases = [base.__name__ for base in _ALL[name].__bases__]
        assert bases == [base for base in (parent, second or (None if parent else "Exception")) if base], name


def test_the_end_of_a_life_is_not_caught_with_other_errors() -> None:
    assert not issubclass(LifeOver, Exception)


def test_startup_errors_have_exit_codes_of_their_own() -> None:
    codes = [error.exit_code for error in _ALL.values() if issubclass(error, StartupError)]
    assert len(set(codes)) == len(codes)
    assert set(codes) == errors.STARTUP_EXIT_CODES
    # 1 is an uncaught exception, 2 a wrong command line, 128 and more a signal: those are started again.
    assert all(64 <= code < 128 for code in codes)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.BadRequest("x"), 400),
        (errors.UnknownNamespace("x", []), 404),
        (errors.BodyTooLarge(1), 413),
        (errors.HeadTooLarge(1), 431),
        (errors.Unavailable("x"), 503),
    ],
)
def test_request_errors_carry_their_status(error: errors.RequestError, status: int) -> None:
    assert error.status == status


@pytest.mark.parametrize(
    ("error", "facts"),
    [
        (errors.PortTaken("127.0.0.1", 8787, "by me"), ["8787", "127.0.0.1", "by me"]),
        (errors.DescriptorsTooFew(70_000, 1024), ["70000", "1024", "ulimit"]),
        (errors.UnknownNamespace("x", ["b", "a"]), ["'x'", "a, b"]),
        (errors.UnknownNamespace("x", []), ["none"]),
        (errors.BodyTooLarge(10), ["10 bytes"]),
        (errors.HeadTooLarge(11), ["11 bytes"]),
        (errors.TooManyTags(11, 10), ["11", "at most 10"]),
        (errors.TagTooLong("t" * 257, 256), ["257", "256", "'ttt"]),
        (errors.TooManyWebSockets(32_768, "hibernatable"), ["32768", "hibernatable"]),
        (errors.AttachmentTooLarge(2049, 2048), ["2049", "2048"]),
        (errors.AutoResponseTooLong("request", 2049, 2048), ["request", "2049", "2048"]),
        (errors.EventTimeoutTooLong(604_800_001, 604_800_000), ["604800001", "604800000"]),
        (errors.InvalidCloseCode(999), ["999", "1000 to 4999"]),
        (errors.OutboxFull(70, 64), ["70", "64"]),
    ],
)
def test_messages_say_what_was_wrong_with_value_and_limit(error: RoostError, facts: list[str]) -> None:
    for fact in facts:
        assert fact in str(error)


def test_a_long_tag_is_not_quoted_whole() -> None:
    assert len(str(errors.TagTooLong("t" * 100_000, 256))) < 200


def test_facts_are_attributes() -> None:
    assert errors.TooManyTags(11, 10).count == 11
    assert errors.TagTooLong("t", 256).tag == "t"
    assert errors.UnknownNamespace("x", ["b", "a"]).known == ("a", "b")
    assert errors.AttachmentTooLarge(5, 4).limit == 4
