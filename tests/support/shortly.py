"""Long values in the messages of failures: by length, digest and first difference, and never whole."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

LONG = 400
"""Characters, bytes or elements from which on a value is shown by ``brief``."""
NEAR = 24
"""How much is shown around the first difference."""


def brief(value: Any) -> str:
    """The value's ``repr`` when it is short; else its type, length and digest, and how it begins."""
    if isinstance(value, (bytes, bytearray, str)):
        if len(value) <= LONG:
            return repr(value)
        data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        digest = hashlib.sha256(data).hexdigest()[:12]
        return f"{type(value).__name__} of {len(value):,}, sha256 {digest}…, beginning {value[:NEAR]!r}"
    text = repr(value)
    return text if len(text) <= LONG else f"{text[:LONG]}… ({len(text):,} characters)"


def first_difference(left: Sequence[Any], right: Sequence[Any]) -> int:
    """Where two sequences differ first; the shorter one's length when it is the beginning of the other."""
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return index
    return min(len(left), len(right))


def comparison(op: str, left: Any, right: Any) -> list[str] | None:
    """How pytest explains ``left == right`` when one of them is long; ``None`` leaves it to pytest.

    Args:
        op: The operator as written.
        left: Bytes, text, a list or a tuple; other types are left to pytest.
        right: Of the same type.
    """
    kinds = (bytes, bytearray, str, list, tuple)
    if op != "==" or not isinstance(left, kinds) or type(left) is not type(right):
        return None
    if max(len(left), len(right)) <= LONG and max(len(repr(left)), len(repr(right))) <= LONG:
        return None
    at = first_difference(left, right)
    near = slice(max(0, at - NEAR), at + NEAR) if not isinstance(left, (list, tuple)) else slice(at, at + 1)
    return [
        f"{type(left).__name__} of {len(left):,} == {type(right).__name__} of {len(right):,}",
        f"left:  {brief(left)}",
        f"right: {brief(right)}",
        f"first difference at {at:,}: {brief(left[near])} != {brief(right[near])}",
    ]
