"""What a structured clone carries, by the rows of the table in ``deploy/docs/attachments.md``, and how to compare."""

from __future__ import annotations

import datetime
import enum
import math
import re
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, namedtuple
from decimal import Decimal
from fractions import Fraction
from typing import Any

UTC = datetime.UTC
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def zone(**offset: float) -> datetime.timezone:
    """A fixed zone; the arguments are a timedelta's."""
    return datetime.timezone(datetime.timedelta(**offset))


class Colour(enum.IntEnum):
    RED = 1


class Word(enum.StrEnum):
    YES = "yes"


class Weight(float):
    pass


class Refusal(ValueError):
    """An exception of a user's own."""


Point = namedtuple("Point", "x y")


def dictionary(**fields: Any) -> OrderedDict[str, Any]:
    """In another order than that in which its keys came."""
    made = OrderedDict(fields)
    made.move_to_end(next(iter(made)))
    return made


CARRIED: dict[str, list[Any]] = {
    "None, bool": [None, True, False],
    "int": [0, -1, 2**53 + 1, 2**64, -(2**64) - 1, 10**40, -(2**4000)],
    "float": [0.5, -1e300, math.inf, -math.inf, math.nan, -0.0, 5e-324],
    "str": ["", "ä € 𝄞 \0", "x" * 300],
    "bytes": [b"", b"\x00\xff"],
    "bytearray": [bytearray(), bytearray(b"\x00\xff")],
    "memoryview": [
        memoryview(b"read-only"),
        memoryview(bytearray(b"writable")),
        memoryview(bytes(range(16))).cast("i"),
        memoryview(bytes(range(16))).cast("B", [4, 4]),
        memoryview(b""),
        memoryview(b"every second")[::2],
    ],
    "list": [[], [1, [2, [3]]], [[]] * 3],
    "tuple, named tuple": [(), (1, ("a",)), {"at": (1, 2)}, Point(1, 2)],
    "dict": [
        {},
        {"a": {"b": [1]}},
        {5: "int", 1.5: "float", None: "none", True: "bool", b"k": "bytes"},
        {("a", 1): "tuple", ("b", ("c", 2)): "nested", frozenset({1}): "frozenset"},
        {datetime.date(2026, 1, 1): 1, datetime.datetime(2026, 1, 1): 2, Decimal("1.5"): 3, uuid.UUID(int=5): 4},
    ],
    "OrderedDict": [OrderedDict(), dictionary(a=1, b=2, c=[3])],
    "set": [set(), {1, "x", b"y", None}, {(1, ("a", 2))}, {frozenset({1}), datetime.date(2026, 1, 1)}],
    "frozenset": [frozenset(), frozenset({1, "x"}), frozenset({frozenset({(1, 2)})})],
    "datetime, aware": [
        datetime.datetime(2026, 11, 24, 10, 30, 0, 123456, tzinfo=UTC),
        datetime.datetime(2026, 5, 1, tzinfo=zone(hours=1)),
        datetime.datetime(2026, 5, 1, tzinfo=zone(seconds=30)),
        datetime.datetime(2026, 5, 1, tzinfo=zone(hours=-3, seconds=-1, microseconds=7)),
        datetime.datetime(2026, 5, 1, tzinfo=zone(microseconds=1)),
        datetime.datetime(1, 1, 1, tzinfo=zone(hours=23, minutes=59)),
        datetime.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=zone(hours=-23, minutes=-59)),
        datetime.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zone(hours=1)),
        datetime.datetime(2026, 10, 25, 2, 30, fold=0, tzinfo=BERLIN),
        datetime.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN),
        datetime.datetime(1900, 1, 1, tzinfo=zoneinfo.ZoneInfo("Africa/Monrovia")),
    ],
    "datetime, naive": [
        datetime.datetime(2026, 1, 1, 12),
        datetime.datetime(1, 1, 1, 0, 0, 0, 1),
        datetime.datetime(2026, 10, 25, 2, 30, fold=1),
    ],
    "date": [datetime.date(2026, 1, 1), datetime.date.min, datetime.date.max],
    "time": [
        datetime.time(12, 30),
        datetime.time(1, 2, 3, 4, tzinfo=zone(hours=2, seconds=5)),
        datetime.time(2, fold=1),
    ],
    "timedelta": [datetime.timedelta(), datetime.timedelta(-1, 5, 7), datetime.timedelta.max],
    "Decimal": [
        Decimal("1.50"),
        Decimal("-0"),
        Decimal("Infinity"),
        Decimal("NaN"),
        Decimal("sNaN5"),
        Decimal("1e-90"),
    ],
    "Fraction": [Fraction(1, 3), Fraction(-(10**30), 7)],
    "UUID": [uuid.UUID(int=0), uuid.UUID("12345678123456781234567812345678")],
    "re.Pattern": [
        re.compile("a+b"),
        re.compile(r"ä(?P<n>\d)", re.IGNORECASE | re.VERBOSE),
        re.compile(b"\xff.", re.S),
    ],
    "exception": [
        ValueError("no such room"),
        KeyError(("a", 1)),
        Exception(),
        Exception("two", [1, {"b": 2}]),
        FileNotFoundError(2, "no such file", "room.txt"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        SyntaxError("bad", ("room.py", 1, 2, "x = ", 1, 5)),
        ExceptionGroup("both", [ValueError(1), ExceptionGroup("inner", [TypeError("t")])]),
    ],
    "instance of a subclass": [
        Colour.RED,
        Word.YES,
        Weight(1.5),
        {Word.YES: [Colour.RED]},
        defaultdict(list, a=[1]),
        Counter("abca"),
        Refusal("not", "today"),
    ],
}
"""Row of the table → values."""


def expected_type(value: Any) -> type:
    """The type that *value* comes back as."""
    if isinstance(value, BaseException):
        return next(cls for cls in type(value).__mro__ if cls.__module__ == "builtins")
    for cls in (bool, int, float, str, OrderedDict, dict):
        if isinstance(value, cls):
            return cls
    return list if isinstance(value, tuple) else type(value)


def assert_same(value: Any, back: Any, *, fixed: bool = False) -> None:
    """*back* is what *value* comes back as. *fixed*: in a key, a set or an exception, where tuples stay tuples."""
    kind = tuple if fixed and isinstance(value, tuple) else expected_type(value)
    found: object = back  # else it would be narrowed to less than *value* is
    assert type(found) is kind, f"{value!r} came back as {back!r}"
    if isinstance(value, BaseException):
        if isinstance(value, BaseExceptionGroup):
            assert str(back) == str(value)
            for one, other in zip(value.exceptions, back.exceptions, strict=True):
                assert_same(one, other)
        else:
            assert_same(value.args, back.args, fixed=True)
        assert getattr(value, "filename", None) == getattr(back, "filename", None)
    elif isinstance(value, dict):
        assert len(value) == len(back)
        for (key, item), (key_back, item_back) in zip(value.items(), back.items(), strict=True):
            assert_same(key, key_back, fixed=True)
            assert_same(item, item_back)
    elif isinstance(value, list | tuple):
        assert len(value) == len(back)
        for one, other in zip(value, back, strict=True):
            assert_same(one, other, fixed=fixed)
    elif isinstance(value, set | frozenset):
        assert sorted(map(repr, value)) == sorted(map(repr, back)) or value == back
    elif isinstance(value, memoryview):
        assert (value.tobytes(), value.format, value.shape, value.readonly) == (
            back.tobytes(),
            back.format,
            back.shape,
            back.readonly,
        )
    elif isinstance(value, datetime.datetime | datetime.time):
        assert (value.utcoffset(), value.fold) == (back.utcoffset(), back.fold)
        assert value.replace(tzinfo=None) == back.replace(tzinfo=None)
    elif isinstance(value, float | Decimal):
        assert repr(kind(value)) == repr(back)
    else:
        assert back == value
