"""Attachments: the one value that a socket carries through hibernation, moves and crashes, as CBOR.

What a user may attach is a fixed list of types, checked before anything is encoded: CBOR libraries would carry more
(or fail deep inside), and a value must come back as what it was.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterable
from typing import Any

import cbor2

from ..common.errors import AttachmentTooLarge, DataCloneError

_SCALARS = (str, int, float, bytes, datetime.datetime)
_MAX_DEPTH = 200


def serialize(value: Any, limit: int) -> bytes:
    """Copy *value* into bytes.

    Args:
        value: ``None``, bool, int of any size, float, str, bytes, datetime with a time zone, or a list, tuple (comes
            back as a list), dict or set of such values.
        limit: Bytes that the result may have.

    Raises:
        DataCloneError: A value of another type, a container that holds itself, or text that is no valid Unicode.
        AttachmentTooLarge: The result is longer than *limit*.
    """
    _check(value, limit)
    try:
        data: bytes = cbor2.dumps(value, timezone=datetime.UTC)
    except (cbor2.CBOREncodeError, ValueError, TypeError) as error:
        raise DataCloneError(f"{_shown(value)} cannot be attached: {error}") from error
    if len(data) > limit:
        raise AttachmentTooLarge(len(data), limit)
    return data


def deserialize(data: bytes | None) -> Any:
    """A fresh copy of what was attached; ``None`` if nothing was."""
    return None if data is None else cbor2.loads(data)


def _check(value: Any, limit: int) -> None:
    """Each value takes a byte at least: what holds more than *limit* of them, counted once for each place that it is
    in, is too large, and need not be walked to its end (twenty lists, each holding the next one twice, are a million).
    """
    count = 0
    pending: list[tuple[int, Iterable[Any]]] = [(0, (value,))]
    while pending:
        depth, values = pending.pop()
        for item in values:
            count += 1
            if count > limit:
                raise AttachmentTooLarge(count, limit)
            if item is None or isinstance(item, _SCALARS):  # bool is an int
                continue
            if isinstance(item, dict):
                inner: Iterable[Any] = itertools.chain.from_iterable(item.items())
            elif isinstance(item, list | tuple | set | frozenset):
                inner = item
            else:
                raise DataCloneError(
                    f"{_shown(item)} of type {type(item).__name__} cannot be attached: use None, bool, int, float, "
                    f"str, bytes, list, tuple, dict, set or datetime"
                )
            if depth == _MAX_DEPTH:
                raise DataCloneError(
                    f"an attachment can be nested {_MAX_DEPTH} levels deep, and a value cannot hold itself"
                )
            pending.append((depth + 1, inner))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
