"""Attachments: the one value that a socket carries through hibernation, moves and crashes, as CBOR.

What a user may attach is a fixed list of types, checked before anything is encoded: CBOR libraries would carry more
(or fail deep inside), and a value must come back as what it was.
"""

from __future__ import annotations

import datetime
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
    _check(value, 0)
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


def _check(value: Any, depth: int) -> None:
    if value is None or isinstance(value, _SCALARS):  # bool is an int
        return
    if depth == _MAX_DEPTH:
        raise DataCloneError(f"an attachment can be nested {_MAX_DEPTH} levels deep, and a value cannot hold itself")
    if isinstance(value, dict):
        for key, item in value.items():
            _check(key, depth + 1)
            _check(item, depth + 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            _check(item, depth + 1)
    else:
        raise DataCloneError(
            f"{_shown(value)} of type {type(value).__name__} cannot be attached: use None, bool, int, float, str, "
            f"bytes, list, tuple, dict, set or datetime"
        )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
