"""Tags: the words by which an object finds its sockets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...common.errors import TagTooLong, TooManyTags
from ...common.limits import MAX_TAG_CHARS, MAX_TAGS
from . import exact


def checked(tags: Iterable[str] | None) -> tuple[str, ...]:
    """The distinct *tags* in the order first given.

    Args:
        tags: A list or tuple (any iterable but a string or mapping) of strings; ``None`` for none. The empty string
            is a tag.

    Raises:
        TypeError: *tags* is a string, a mapping or no iterable, or one of them is no string.
        TooManyTags: More than 10 distinct ones (seed; duplicates are dropped first).
        TagTooLong: One has more than 256 characters (seed).
        UnicodeEncodeError: One holds a lone surrogate, which UTF-8, and so the wire, does not have.
    """
    if tags is None:
        return ()
    if isinstance(tags, str | bytes | Mapping) or not isinstance(tags, Iterable):
        raise TypeError(f"tags must be a list of strings, got {tags!r:.80}")
    distinct: dict[str, None] = {}
    for tag in tags:
        if not isinstance(tag, str):
            raise TypeError(f"a tag must be a string, got {tag!r:.80}")
        distinct[exact.text(tag)] = None
    for tag in distinct:
        tag.encode()
        if len(tag) > MAX_TAG_CHARS:
            raise TagTooLong(tag, MAX_TAG_CHARS)
    if len(distinct) > MAX_TAGS:
        raise TooManyTags(len(distinct), MAX_TAGS)
    return tuple(distinct)
