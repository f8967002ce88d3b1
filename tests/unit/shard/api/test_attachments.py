from __future__ import annotations

import datetime

import pytest

from roost.common.errors import AttachmentTooLarge, DataCloneError
from roost.shard.api.attachments import deserialize, serialize

LIMIT = 2_048


def test_never_set_is_none() -> None:
    assert deserialize(None) is None


def test_each_reading_is_a_copy_of_its_own() -> None:
    value = {"list": [1]}
    data = serialize(value, LIMIT)
    value["list"].append(2)
    first = deserialize(data)
    first["list"].append(3)
    assert deserialize(data) == {"list": [1]}


def test_the_limit_is_of_serialised_bytes_and_exact() -> None:
    assert len(serialize(bytes(LIMIT - 3), LIMIT)) == LIMIT
    with pytest.raises(AttachmentTooLarge) as raised:
        serialize(bytes(LIMIT - 2), LIMIT)
    assert (raised.value.size, raised.value.limit) == (LIMIT + 1, LIMIT)
    assert len(serialize(bytes(LIMIT - 2), LIMIT + 1)) == LIMIT + 1


def test_what_is_refused_says_what_and_where() -> None:
    with pytest.raises(DataCloneError, match=r"at value\['when'\]\[0\], cannot be carried: code"):
        serialize({"when": [datetime.datetime]}, LIMIT)


def test_an_unreadable_attachment_says_what_to_do() -> None:
    with pytest.raises(DataCloneError, match="serialise another value"):
        deserialize(b"\xff")
