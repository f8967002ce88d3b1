"""Structured clone: any value made of what it carries comes back as the table says, and any bytes end in one error."""

from __future__ import annotations

import datetime
from collections import OrderedDict
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from roost.common.errors import DataCloneError
from roost.shard.api.structured_clone import deserialize, serialize
from tests.support.carried import assert_same

LIMIT = 1 << 20

offsets = st.timedeltas(
    min_value=datetime.timedelta(hours=-23, minutes=-59), max_value=datetime.timedelta(hours=23, minutes=59)
).map(datetime.timezone)
folds = st.sampled_from([0, 1])
fixed_moments = st.builds(
    lambda moment, fold: moment.replace(fold=fold), st.datetimes(timezones=st.none() | offsets), folds
)
# Not as keys: a moment comes back with its offset for its zone, and Python finds those two different where the zone's
# clock jumps.
zoned_moments = st.builds(lambda moment, fold: moment.replace(fold=fold), st.datetimes(timezones=st.timezones()), folds)
fixed_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | fixed_moments
    | st.dates()
    | st.times(timezones=st.none() | offsets)
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.uuids()
)
leaves = (
    fixed_leaves
    | zoned_moments
    | st.just(float("nan"))
    | st.binary().map(bytearray)
    | st.binary().map(memoryview)
    | st.builds(ValueError, st.text())
    | st.builds(KeyError, fixed_leaves)
)
keys = st.recursive(
    fixed_leaves, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=5
)
values = st.recursive(
    leaves | st.sets(keys, max_size=3) | st.frozensets(keys, max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4).map(OrderedDict)
    ),
    max_leaves=25,
)


@given(values)
def test_any_value_comes_back(value: Any) -> None:
    assert_same(value, deserialize(serialize(value, LIMIT)))


def _shape(value: Any, numbers: dict[int, int]) -> Any:
    """The value with each container replaced by a number at every place but the first."""
    if id(value) in numbers:
        return ("again", numbers[id(value)])
    if isinstance(value, list | dict | set):
        numbers[id(value)] = len(numbers)
    if isinstance(value, list):
        return [_shape(item, numbers) for item in value]
    if isinstance(value, dict):
        return {key: _shape(item, numbers) for key, item in value.items()}
    return value


@given(st.data())
def test_any_web_of_containers_comes_back_in_its_shape(data: st.DataObject) -> None:
    """Lists and dicts that refer to any of each other, themselves included."""
    makers: st.SearchStrategy[Any] = st.sampled_from([list, dict])
    nodes: list[Any] = [make() for make in data.draw(st.lists(makers, min_size=1, max_size=8))]
    numbers = st.integers(0, len(nodes) - 1)
    for node in nodes:
        for position, number in enumerate(data.draw(st.lists(numbers, max_size=4))):
            if isinstance(node, list):
                node.append(nodes[number])
            else:
                node[position] = nodes[number]
    back = deserialize(serialize(nodes[0], LIMIT))
    assert _shape(back, {}) == _shape(nodes[0], {})


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_the_documented_error(data: bytes) -> None:
    try:
        deserialize(data)
    except DataCloneError:
        pass


@given(values, st.data())
def test_damaged_bytes_are_a_value_or_the_documented_error(value: Any, data: st.DataObject) -> None:
    written = bytearray(serialize([value, datetime.date(2026, 1, 1)], LIMIT))
    position = data.draw(st.integers(0, len(written) - 1))
    written[position] = data.draw(st.integers(0, 255))
    try:
        deserialize(bytes(written[: data.draw(st.integers(0, len(written)))]))
    except DataCloneError:
        pass
