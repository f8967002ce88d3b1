"""JSON as JavaScript writes and reads it."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import json
import uuid
from typing import Any
from unittest import mock

import orjson
import pytest

from roost.shard import Request, Response
from roost.shard.api import json_text
from roost.shard.api.json_text import MAX_DEPTH, dumps, loads, number_text


class Text(str):
    __slots__ = ()


class Whole(int):
    def __repr__(self) -> str:
        return "never this"

    __str__ = __repr__


class Real(float):
    __str__ = __repr__ = lambda self: "never this"


class Names(enum.Enum):
    ONE = "one"
    TWO = 2
    BOTH = ("one", 2)


class Level(enum.IntEnum):
    HIGH = 3


Point = collections.namedtuple("Point", "x y")


@dataclasses.dataclass
class Player:
    name: str
    score: Any
    _secret: str = "s"


MOMENT = datetime.datetime(2026, 11, 30, 15, 4, 5, 678000, tzinfo=datetime.UTC)
NUMBER = uuid.UUID(int=7)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({1: "a"}, '{"1":"a"}'),
        ({None: 1, True: 2, False: 3}, '{"null":1,"true":2,"false":3}'),
        ({1.5: 1, float("nan"): 2, float("-inf"): 3}, '{"1.5":1,"NaN":2,"-Infinity":3}'),
        ({2**64: 1}, '{"18446744073709551616":1}'),
        ({Text("k"): 1}, '{"k":1}'),
        ({Whole(3): Whole(4)}, '{"3":4}'),
        ({Real(0.5): Real(1.5)}, '{"0.5":1.5}'),
        ({Names.ONE: Names.TWO, Names.TWO: Names.ONE, Level.HIGH: Level.HIGH}, '{"one":2,"2":"one","3":3}'),
        ({MOMENT: 1, NUMBER: 2}, f'{{"2026-11-30T15:04:05.678000+00:00":1,"{NUMBER}":2}}'),
        ({'quoted"': {0: 1}}, '{"quoted\\"":{"0":1}}'),
        ({"wei": 2**64, "debt": -(2**64)}, '{"wei":18446744073709551616,"debt":-18446744073709551616}'),
        ({"text": "\ud83d"}, '{"text":"\\ud83d"}'),
        ({"\udfff": "é\ud800€"}, '{"\\udfff":"é\\ud800€"}'),
        ([float("nan"), float("inf"), -float("inf")], "[null,null,null]"),
        ([{1: float("nan")}], '[{"1":null}]'),
        ((1, (2, ())), "[1,[2,[]]]"),
        (Point(1, 2), "[1,2]"),
        (collections.OrderedDict(a=1), '{"a":1}'),
        (collections.defaultdict(list, {1: [2]}), '{"1":[2]}'),
        (collections.Counter("a"), '{"a":1}'),
        (Player("ann", 2**70), '{"name":"ann","score":1180591620717411303424}'),
        ([Names.BOTH, 2**64], '[["one",2],18446744073709551616]'),
        ({}, "{}"),
        ({1: {}, 2: []}, '{"1":{},"2":[]}'),
        ("\x00\x1f\u2028/", '"\\u0000\\u001f\u2028/"'),
    ],
)
def test_values_are_written_as_javascript_has_them(value: Any, text: str) -> None:
    assert dumps(value).decode() == text
    loads(text.encode())


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        [1, -1, 0.5, 1e300, 'é\u2028\x7f\x00"\\/'],
        {"a": {"b": [1, 2, {"c": None}]}, "": []},
        [MOMENT, MOMENT.replace(tzinfo=None), MOMENT.date(), MOMENT.time(), NUMBER],
        [Names.ONE, Level.HIGH, Player("ann", 1), Text("t"), Whole(1)],
    ],
)
def test_the_slow_road_writes_what_the_fast_one_does(value: Any) -> None:
    fast = orjson.dumps(value)
    with mock.patch.object(json_text.orjson, "dumps", wraps=orjson.dumps) as spied:
        assert json_text._write(value).encode() == fast
        assert all(not isinstance(call.args[0], list | dict) for call in spied.call_args_list)


def cycle(kind: str) -> Any:
    if kind == "list":
        itself: Any = []
        itself.append([itself])
    elif kind == "dict":
        itself = {"a": {}}
        itself["a"]["b"] = itself
    else:
        itself = Player("ann", None)
        itself.score = [itself]
    return itself


@pytest.mark.parametrize("kind", ["list", "dict", "Player"])
def test_what_contains_itself_is_a_value_error_that_names_it(kind: str) -> None:
    with pytest.raises(ValueError, match=f"{kind} that contains itself"):
        dumps(cycle(kind))


def test_what_is_there_twice_is_no_cycle() -> None:
    shared = {1: 2}
    assert dumps([shared, shared, {3: shared}]) == b'[{"1":2},{"1":2},{"3":{"1":2}}]'


def test_deep_values_are_written_to_a_limit() -> None:
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    assert dumps(deep) == b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH
    with pytest.raises(ValueError, match="2,000 levels"):
        dumps([deep])


@pytest.mark.parametrize(("value", "named"), [({1, 2}, "set"), (b"x", "bytes"), (object(), "object"), (Player, "type")])
def test_what_json_does_not_carry_is_a_type_error_that_names_it(value: Any, named: str) -> None:
    for whole in (value, [value], {"a": {1: value}}):
        with pytest.raises(TypeError, match=f"does not carry {named}"):
            dumps(whole)
    with pytest.raises(TypeError, match=r"keys are .* got tuple"):
        dumps({(1, 2): 3})


def test_an_int_beyond_pythons_own_limit_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="bits cannot be written as JSON"):
        dumps({"n": 10**5000})


def test_numbers_alone() -> None:
    texts = [number_text(n) for n in (5, 0.5, 2**70, Whole(3), Real(0.5), float("nan"), float("inf"), -float("inf"))]
    assert texts == ["5", "0.5", "1180591620717411303424", "3", "0.5", "NaN", "Infinity", "-Infinity"]


# --- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"wei": 18446744073709551617}', {"wei": 2**64 + 1}),
        (b"[-9223372036854775809]", [-(2**63) - 1]),
        (b"[9007199254740993, 9223372036854775807]", [2**53 + 1, 2**63 - 1]),
        (b'["0000000000000000000000000", 0.12345678901234567890123]', ["0" * 25, 0.12345678901234568]),
        (b'"\\ud83d"', "\ud83d"),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b"\xef\xbb\xbf[1]", [1]),
        (b" \t\r\n1 ", 1),
        (b"1e999", float("inf")),
        (b"9" * 5000, float("inf")),
        (b"1" * 1000, int("1" * 1000)),
    ],
)
def test_what_json_parse_accepts_is_read(text: bytes, value: Any) -> None:
    assert loads(text) == value
    assert Request("http://h/", body=text).json() == value


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"  ",
        b"NaN",
        b"[Infinity]",
        b'{"a": -Infinity}',
        b"[1,]",
        b"{'a': 1}",
        b"01",
        b"1 2",
        b'"\t"',
        b"[" * 100_000,
        b"\xef\xbb\xbf",
        "\u00a01".encode(),
    ],
)
def test_what_json_parse_refuses_is_a_value_error(text: bytes) -> None:
    with pytest.raises(json.JSONDecodeError):
        loads(text)


def test_the_refusal_says_what_and_where() -> None:
    with pytest.raises(ValueError, match="JSON has no NaN"):
        loads(b"[NaN]")
    with pytest.raises(ValueError, match="empty text is no JSON"):
        loads(b"")
    with pytest.raises(ValueError, match="line 2 column 3"):
        loads(b"[1,\n2 x]")
    with pytest.raises(ValueError, match="nested too deeply"):
        loads(b"[" * 100_000)


def test_what_is_no_utf_8_is_a_value_error() -> None:
    with pytest.raises(UnicodeDecodeError):
        loads(b'"\xff"')


@pytest.mark.parametrize("value", [{1: [2**70, "\ud800", None]}, [float("nan")], {"a": (1, 2)}])
def test_a_response_carries_it(value: Any) -> None:
    body = Response.json(value).body
    assert body == dumps(value)
