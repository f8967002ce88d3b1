from __future__ import annotations

import array
import dataclasses
import datetime
import enum
import re
import sys
import zoneinfo
from collections import OrderedDict
from typing import Any

import cbor2
import pytest

from roost.common.errors import DataCloneError
from roost.shard.api.structured_clone import MAX_DEPTH, CloneTooLarge, deserialize, serialize
from tests.support.carried import CARRIED, assert_same
from tests.support.cluster import REPOSITORY

LIMIT = 4_096
PAGE = REPOSITORY / "deploy" / "docs" / "attachments.md"


def copy_of(value: Any, limit: int = LIMIT) -> Any:
    return deserialize(serialize(value, limit))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(value, id=f"{row} {number}")
        for row, values in CARRIED.items()
        for number, value in enumerate(values)
    ],
)
def test_a_value_comes_back_as_the_table_says(value: Any) -> None:
    assert_same(value, copy_of(value))
    assert_same([value], copy_of([value]))
    assert_same({"in": {"side": value}}, copy_of({"in": {"side": value}}))
    assert_same([value, datetime.time(1)], copy_of([value, datetime.time(1)]))  # in the linked form


def test_the_table_of_the_page_is_what_is_tested() -> None:
    lines = PAGE.read_text().splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert [row for row in rows if row not in ("type", "---")] == list(CARRIED)


# --- sharing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "made",
    [
        lambda: [1],
        lambda: {"a": 1},
        lambda: OrderedDict(a=1),
        lambda: {1},
        lambda: bytearray(b"x"),
        lambda: memoryview(bytearray(b"x")),
        lambda: ValueError("x"),
    ],
    ids=["list", "dict", "OrderedDict", "set", "bytearray", "memoryview", "exception"],
)
def test_what_can_be_changed_and_is_at_two_places_comes_back_as_one(made: Any) -> None:
    shared, equal = made(), made()
    back = copy_of({"a": shared, "b": [shared], "c": equal})
    assert back["a"] is back["b"][0]
    assert back["a"] is not back["c"]
    assert_same(shared, back["c"])


def test_a_tuple_at_two_places_comes_back_as_two_lists() -> None:
    """Nobody could change the one through the other before."""
    place = (0, 0)
    back = copy_of({"now": place, "home": place})
    assert back == {"now": [0, 0], "home": [0, 0]}
    assert back["now"] is not back["home"]


def test_a_value_may_hold_itself() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    back = copy_of(loop)
    assert back[0] == 1
    assert back[1] is back

    parent: dict[str, Any] = {"name": "parent"}
    parent["children"] = OrderedDict(one={"parent": parent}, two=(parent,))
    back = copy_of(parent)
    assert back["children"]["one"]["parent"] is back
    assert back["children"]["two"][0] is back

    pair: tuple[Any, ...] = ([],)
    pair[0].append(pair)
    back = copy_of(pair)
    assert back[0][0] is back


def test_what_cannot_be_changed_cannot_hold_itself() -> None:
    error = ValueError("x")
    error.args = ([error],)
    with pytest.raises(DataCloneError, match=r"at value\.args\[0\]\[0\].*ValueError that holds itself"):
        serialize(error, LIMIT)
    error = ValueError()
    error.args = (frozenset([error]),)
    with pytest.raises(DataCloneError, match="holds itself"):
        serialize({error: 1}, LIMIT)


@pytest.mark.parametrize(
    "value",
    [
        {"name": "guest", "tags": ["a", "b"], "at": (1, 2), "seen": {1, 2}, "n": 5},
        {"now": (0, 0), "home": (0, 0), ("a", 1): None},
        [[], [], {}, {}, "x", "x"],
        datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        {"roles": {("a", "b")}},
    ],
)
def test_an_ordinary_value_takes_no_more_than_cbor_takes(value: Any) -> None:
    assert serialize(value, LIMIT) == cbor2.dumps(value)


def test_a_shared_value_takes_less_than_two() -> None:
    shared = ["x" * 100]
    assert len(serialize([shared, shared], LIMIT)) < 130


# --- what is refused ----------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Player:
    name: str


class Suit(enum.Enum):
    HEARTS = "h"


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def a_function() -> None: ...


@pytest.mark.parametrize(
    ("value", "where", "words"),
    [
        (a_function, "at value,", "a name that stands for it"),
        ([1, a_function], r"at value\[1\],", "function"),
        ({"deep": [{"er": object()}]}, r"at value\['deep'\]\[0\]\['er'\],", "object"),
        ({"set": {object()}}, r"at value\['set'\]{…},", "object"),
        ({object(): 1}, r"at value\[<object", "object"),
        (ValueError("x", object()), r"at value\.args\[1\],", "object"),
        (type, "at value,", "type"),
        (1j, "at value,", "complex"),
        (range(3), "at value,", "range"),
        (Player("a"), "at value,", r"dataclasses\.asdict\(\)"),
        (Suit.HEARTS, "at value,", r"use its \.value"),
        (Unspeakable(), "at value,", "Unspeakable"),
        ({}.keys(), "at value,", "dict_keys"),
        (cbor2.CBORTag(25, 5), "at value,", "CBORTag"),
        (cbor2.undefined, "at value,", "use None"),
        (["\ud800"], r"at value\[0\],", "lone surrogate"),
        ({"a": {"\ud800": 1}}, r"at value\['a'\]", "lone surrogate"),
        ([datetime.date(2026, 1, 1), "\ud800"], r"at value\[1\],", "lone surrogate"),
        (datetime.time(1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")), "at value,", "gives no offset"),
        (memoryview(array.array("i")), "at value,", r"format 'i' and shape \(0,\)"),
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_anything_else_is_refused_with_its_place_and_a_remedy(value: Any, where: str, words: str) -> None:
    with pytest.raises(DataCloneError, match=where) as raised:
        serialize(value, LIMIT)
    assert isinstance(raised.value, TypeError)
    assert re.search(words, str(raised.value)), raised.value


def test_the_refused_value_is_shown_short() -> None:
    with pytest.raises(DataCloneError) as raised:
        serialize({"x": [Player("n" * 5000)]}, LIMIT)
    assert len(str(raised.value)) < 300


def test_a_long_way_to_the_refused_value_is_shown_short() -> None:
    with pytest.raises(DataCloneError, match=r"at value\['a'\](\[0\]){3}…(\[0\]){4}, cannot be carried"):
        serialize({"a": nested(100, object())}, LIMIT)
    with pytest.raises(DataCloneError, match=r"at value(\[0\]){8}, cannot be carried"):
        serialize(nested(8, object()), LIMIT)
    with pytest.raises(DataCloneError) as refused:
        serialize(nested(MAX_DEPTH + 1, 0), LIMIT)
    assert len(str(refused.value)) < 300


def test_an_exception_that_cannot_be_made_again_is_refused() -> None:
    class Odd(UnicodeDecodeError):
        def __init__(self) -> None:
            super().__init__("utf-8", b"\xff", 0, 1, "bad")
            self.args = (1,)

    error = ValueError("x")
    assert copy_of(error).args == ("x",)
    with pytest.raises(DataCloneError, match="a copy cannot be made: function takes exactly 5 arguments"):
        serialize(Odd(), LIMIT)


# --- depth and size -----------------------------------------------------------------------------------------------


def nested(levels: int, bottom: Any) -> Any:
    value = bottom
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("bottom", ["plain", datetime.date(2026, 1, 1)])
def test_the_deepest_value_allowed_comes_back(bottom: Any) -> None:
    assert copy_of(nested(MAX_DEPTH, bottom)) == nested(MAX_DEPTH, bottom)
    with pytest.raises(DataCloneError, match="200 levels"):
        serialize(nested(MAX_DEPTH + 1, bottom), LIMIT)


@pytest.mark.parametrize("bottom", ["plain", datetime.date(2026, 1, 1), object()])
def test_a_value_far_too_deep_is_refused_as_any(bottom: Any) -> None:
    with pytest.raises(DataCloneError):
        serialize(nested(100_000, bottom), 1 << 20)


def test_a_stack_that_is_nearly_full_is_no_recursion_error() -> None:
    value = nested(150, datetime.date(2026, 1, 1))

    def at(levels: int) -> None:
        if levels:
            at(levels - 1)
        else:
            serialize(value, LIMIT)

    with pytest.raises(DataCloneError, match="stack"):
        at(sys.getrecursionlimit() - 400)


def test_the_limit_is_of_serialised_bytes_and_exact() -> None:
    assert len(serialize(bytes(LIMIT - 3), LIMIT)) == LIMIT
    for value in (bytes(LIMIT - 2), [bytearray(LIMIT)]):
        with pytest.raises(CloneTooLarge) as raised:
            serialize(value, LIMIT)
        assert raised.value.limit == LIMIT
        assert raised.value.size > LIMIT


@pytest.mark.parametrize("bottom", ["plain", datetime.date(2026, 1, 1)])
def test_a_small_web_of_shared_tuples_is_not_walked_to_its_end(bottom: Any) -> None:
    """Its 2^40 places would take days."""
    value: Any = bottom
    for _ in range(40):
        value = (value, value)
    with pytest.raises(CloneTooLarge):
        serialize(value, LIMIT)


def test_a_web_of_shared_lists_is_small() -> None:
    value: Any = ["x"]
    for _ in range(40):
        value = [value, value]
    back = copy_of(value)
    for _ in range(40):
        assert back[0] is back[1]
        back = back[0]


# --- bytes of others ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\x9b" + b"\xff" * 8,
        b"\x81" * 5000,
        b"\xc0\x61x",
        b"\xd8\x23\x61(",
        b"\xa1\x80",
        cbor2.dumps(cbor2.CBORTag(61440, [])),
        cbor2.dumps(cbor2.CBORTag(61440, 5)),
        cbor2.dumps(cbor2.CBORTag(61440, [[0]])),
        cbor2.dumps(cbor2.CBORTag(61440, [[-1], [6, "2026-01-01"]])),
        cbor2.dumps(cbor2.CBORTag(61440, [[0], [4, [0]]])),
        cbor2.dumps(cbor2.CBORTag(61440, [[0], [4, [1]], [4]])),
        cbor2.dumps(cbor2.CBORTag(61440, [[0], [99]])),
        cbor2.dumps(cbor2.CBORTag(61440, [[0], [1, "key only"]])),
        cbor2.dumps(cbor2.CBORTag(61440, [[0], [2, [1]], [0]])),
        cbor2.dumps(cbor2.CBORTag(61440, [[0], [14, "Colour"]])),
        cbor2.dumps(cbor2.CBORTag(61440, [[0], [14, "print", "x"]])),
        cbor2.dumps(cbor2.CBORTag(61440, [[0], [13, "("]])),
        cbor2.dumps(cbor2.CBORTag(60000, 1)),
    ],
    ids=lambda data: data[:8].hex(),
)
def test_bytes_that_are_no_value_raise_one_documented_error(data: bytes) -> None:
    with pytest.raises(DataCloneError, match="cannot be read back"):
        deserialize(data)


def test_what_earlier_versions_have_written_is_read() -> None:
    for value in ({"name": "guest", ("a", 1): {1, 2}}, datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), [2**70]):
        assert deserialize(cbor2.dumps(value)) == value
