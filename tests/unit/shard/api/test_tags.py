from __future__ import annotations

from typing import Any

import pytest

from roost.common.errors import TagTooLong, TooManyTags
from roost.shard.api.tags import checked


def test_duplicates_are_dropped_and_the_order_of_first_sight_is_kept() -> None:
    assert checked(["b", "a", "b", "a", "c"]) == ("b", "a", "c")


@pytest.mark.parametrize("tags", [None, [], ()])
def test_no_tags(tags: Any) -> None:
    assert checked(tags) == ()


def test_any_iterable_but_a_string_or_a_mapping_will_do() -> None:
    assert checked(tag for tag in "ab") == ("a", "b")
    assert checked({"a": 1}.keys()) == ("a",)


def test_the_empty_string_is_a_tag() -> None:
    assert checked([""]) == ("",)


def test_ten_distinct_tags_are_fine_however_often_each_is_given() -> None:
    tags = [str(number) for number in range(10)]
    assert checked(tags * 3) == tuple(tags)


def test_eleven_distinct_tags_are_too_many() -> None:
    with pytest.raises(TooManyTags) as raised:
        checked(str(number) for number in range(11))
    assert (raised.value.count, raised.value.limit) == (11, 10)


def test_a_tag_may_have_256_characters_whatever_their_bytes() -> None:
    assert checked(["ä" * 256]) == ("ä" * 256,)
    with pytest.raises(TagTooLong) as raised:
        checked(["x", "ä" * 257])
    assert (raised.value.tag, raised.value.limit) == ("ä" * 257, 256)


@pytest.mark.parametrize("tags", ["tag", b"tag", {"tag": 1}, 5, [5], [None], [["a"]], [b"a"]])
def test_what_is_no_list_of_strings_is_a_type_error(tags: Any) -> None:
    with pytest.raises(TypeError):
        checked(tags)


def test_a_lone_surrogate_is_refused_at_the_call() -> None:
    """Later it could only spoil the flush of everyone's output."""
    with pytest.raises(UnicodeEncodeError):
        checked(["ok", "\ud800"])


@pytest.mark.parametrize("tag", [["a"], {}, None, 5])
def test_what_is_no_string_is_named(tag: Any) -> None:
    with pytest.raises(TypeError, match="a tag must be a string, got"):
        checked(["ok", tag])
