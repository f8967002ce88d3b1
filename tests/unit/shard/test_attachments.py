from __future__ import annotations

import datetime
import math
from typing import Any

import cbor2
import pytest

from roost.common.errors import AttachmentTooLarge, DataCloneError
from roost.shard.attachments import deserialize, serialize

LIMIT = 2_048
BERLIN = datetime.timezone(datetime.timedelta(hours=1))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -1,
        2**64,
        -(2**200),
        0.1,
        math.inf,
        "",
        "text ä 😀",
        b"",
        bytes(range(256)),
        [],
        [1, [2, [3]]],
        {},
        {"name": "guest", 5: None, ("a", 1): b"key"},
        set(),
        {1, "two", b"three"},
        datetime.datetime(2026, 11, 24, 10, 30, 5, 123456, datetime.UTC),
        datetime.datetime(2026, 11, 24, 10, 30, tzinfo=BERLIN),
    ],
    ids=repr,
)
def test_a_value_comes_back_equal_and_of_its_type(value: Any) -> None:
    back = deserialize(serialize(value, LIMIT))
    assert back == value
    assert type(back) is type(value)


def test_not_a_number_comes_back() -> None:
    assert math.isnan(deserialize(serialize(math.nan, LIMIT)))


def test_a_tuple_comes_back_as_a_list() -> None:
    assert deserialize(serialize({"pair": (1, (2, 3))}, LIMIT)) == {"pair": [1, [2, 3]]}


def test_never_set_is_none() -> None:
    assert deserialize(None) is None


def test_each_reading_is_a_copy_of_its_own() -> None:
    value = {"list": [1]}
    data = serialize(value, LIMIT)
    value["list"].append(2)
    first = deserialize(data)
    first["list"].append(3)
    assert deserialize(data) == {"list": [1]}


@pytest.mark.parametrize(
    "value",
    [
        lambda: 1,
        object(),
        type,
        1j,
        range(3),
        bytearray(b"x"),
        memoryview(b"x"),
        datetime.timedelta(1),
        [object()],
        {"deep": [{"er": object()}]},
        {object(): 1},
        "\ud800",
        cbor2.CBORTag(25, 5),
        cbor2.undefined,
    ],
    ids=repr,
)
def test_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(DataCloneError) as raised:
        serialize(value, LIMIT)
    assert isinstance(raised.value, TypeError)


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(DataCloneError, match="itself"):
        serialize(value, LIMIT)


def test_the_limit_is_of_serialised_bytes_and_exact() -> None:
    assert len(serialize(bytes(LIMIT - 3), LIMIT)) == LIMIT
    with pytest.raises(AttachmentTooLarge) as raised:
        serialize(bytes(LIMIT - 2), LIMIT)
    assert (raised.value.size, raised.value.limit) == (LIMIT + 1, LIMIT)
    assert len(serialize(bytes(LIMIT - 2), LIMIT + 1)) == LIMIT + 1


def test_the_deepest_value_allowed_round_trips() -> None:
    value: Any = "bottom"
    for _ in range(200):
        value = [value]
    assert deserialize(serialize(value, 2_048)) == value
    with pytest.raises(DataCloneError, match="200 levels"):
        serialize([value], 2_048)


def test_a_small_web_of_shared_lists_is_not_walked_to_its_end() -> None:
    """Its 2^40 places would take days."""
    value: Any = "x"
    for _ in range(40):
        value = [value, value]
    with pytest.raises(AttachmentTooLarge):
        serialize(value, 2_048)
