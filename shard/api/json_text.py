"""JSON, written and read as JavaScript does: all JSON of users' values goes through here.

orjson is fast, and refuses or bends part of what ``JSON.stringify`` and ``JSON.parse`` carry. So it goes first, and
what it cannot do is done by the standard library, or here:

====================================== ==================================== =======================================
what                                   written                              read
====================================== ==================================== =======================================
dict keys that are no str              as text: ``1``, ``1.5``, ``true``,   —
                                       ``null`` (an Enum's: its value)
integers of more than 64 bits          whole                                whole (orjson makes floats of them)
lone surrogates                        ``\\ud83d``                           accepted
NaN, Infinity                          ``null``                             refused, as JSON has no such words
subclasses of str, int, float, dict,   as what they are a kind of           —
list, tuple
tuples, named ones too                 arrays                               —
datetime, date, time, UUID, Enum       as orjson writes them                —
dataclass instances                    their fields, but for ``_private``   —
a byte order mark in front             —                                    skipped (Fetch, "UTF-8 decode")
a value that holds itself              ``ValueError``                       —
====================================== ==================================== =======================================
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import re
import uuid
from codecs import BOM_UTF8
from collections.abc import Iterator
from enum import Enum
from json.encoder import encode_basestring
from typing import Any, NoReturn

import orjson

MAX_DEPTH = 2_000
"""Levels that a value may be nested, written."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_DIGITS = bytes(ord("0") if chr(byte).isdigit() and byte < 128 else ord(" ") for byte in range(256))
_MANY_DIGITS = b"0" * 19
"""An integer that needs more than 64 bits has at least so many."""
_MAX_INT_DIGITS = 4_300
"""What Python makes an int of, at most; JSON.parse makes a float of any."""


def dumps(value: Any) -> bytes:
    """*value* as JSON text in UTF-8, without spaces.

    Raises:
        TypeError: A value in it has a type that JSON does not carry; the text names it.
        ValueError: It holds itself, is nested too deeply, or holds an int of more than 4,300 digits.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        return _write(value).encode()


def loads(data: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Raises:
        ValueError: It is none (a ``json.JSONDecodeError`` with the place), or no UTF-8 (a ``UnicodeDecodeError``).
    """
    if data.startswith(BOM_UTF8):
        data = data[len(BOM_UTF8) :]
    if _MANY_DIGITS not in data.translate(_DIGITS):
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            pass  # perhaps it is a kind that the standard library reads; if not, its words for the reason are better
    text = data.decode()
    if not text or text.isspace():
        raise json.JSONDecodeError("an empty text is no JSON", text, 0)
    try:
        return json.loads(text, parse_constant=_refuse, parse_int=_int)
    except RecursionError:
        raise json.JSONDecodeError("the JSON is nested too deeply", "", 0) from None


def _refuse(word: str) -> NoReturn:
    raise json.JSONDecodeError(f"JSON has no {word}", word, 0)


def _int(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_INT_DIGITS else float(digits)


# --- writing what orjson does not ---


def _write(value: Any) -> str:
    """Without recursion, since Python's stack would end long before the memory does."""
    parts: list[str] = []
    levels: list[_Level] = []
    within: set[int] = set()
    while True:
        while isinstance(value, Enum):
            value = value.value
        text = _scalar(value)
        if text is not None:
            parts.append(text)
        else:
            level = _Level.of(value)
            if id(value) in within:
                raise ValueError(f"a {type(value).__name__} that contains itself cannot be written as JSON")
            if len(levels) == MAX_DEPTH:
                raise ValueError(f"a value that is nested more than {MAX_DEPTH:,} levels cannot be written as JSON")
            within.add(id(value))
            levels.append(level)
            parts.append(level.opening)
        while levels:
            level = levels[-1]
            item = next(level.items, _END)
            if item is not _END:
                key, value = item
                parts.append(level.separator)
                level.separator = ","
                if level.opening == "{":
                    parts.append(_string(key) + ":")
                break
            parts.append("}" if level.opening == "{" else "]")
            within.discard(id(level.value))
            levels.pop()
        else:
            return "".join(parts)


_END: Any = object()


class _Level:
    """A container that is being written."""

    __slots__ = ("items", "opening", "separator", "value")

    def __init__(self, value: Any, opening: str, items: Iterator[tuple[str, Any]]) -> None:
        self.value = value
        self.opening = opening
        self.items = items
        self.separator = ""

    @classmethod
    def of(cls, value: Any) -> _Level:
        """Raises:
        TypeError: *value* is nothing that JSON carries.
        """
        if isinstance(value, dict):
            return cls(value, "{", ((_key(key), item) for key, item in dict.items(value)))
        if isinstance(value, list | tuple):
            return cls(value, "[", (("", item) for item in value))
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = [field.name for field in dataclasses.fields(value) if not field.name.startswith("_")]
            return cls(value, "{", ((name, getattr(value, name)) for name in names))
        raise TypeError(
            f"JSON does not carry {type(value).__name__}, got {value!r:.80}: use dict, list, tuple, str, int, float, "
            "bool, None, datetime, UUID, Enum or a dataclass"
        )


def _scalar(value: Any) -> str | None:
    """The text of *value*; ``None`` if it is a container, or nothing that JSON carries."""
    if isinstance(value, str):
        return _string(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _digits(value)
    if isinstance(value, float):
        return float.__repr__(value) if math.isfinite(value) else "null"
    if isinstance(value, datetime.datetime | datetime.date | datetime.time | uuid.UUID):
        return orjson.dumps(value).decode()
    return None


def _key(key: Any) -> str:
    """The text of a key, as JavaScript and Python's ``json`` have it."""
    while isinstance(key, Enum):
        key = key.value
    if isinstance(key, str):
        return key
    if isinstance(key, float):
        return number_text(key)
    text = _scalar(key)
    if text is None:
        raise TypeError(f"JSON keys are str, int, float, bool or None, got {type(key).__name__}: {key!r:.80}")
    return text.strip('"')  # a date's or an id's


def _string(text: str) -> str:
    return _SURROGATE.sub(_escaped, encode_basestring(text))


def _escaped(surrogate: re.Match[str]) -> str:
    return f"\\u{ord(surrogate[0]):04x}"


def _digits(value: int) -> str:
    try:
        return int.__repr__(value)
    except ValueError:
        raise ValueError(
            f"an int of {value.bit_length():,} bits cannot be written as JSON: Python writes at most "
            f"{_MAX_INT_DIGITS:,} digits"
        ) from None


def number_text(value: float) -> str:
    """An int or float as text; for what is not finite JavaScript's words."""
    if isinstance(value, int):
        return _digits(value)
    if math.isfinite(value):
        return float.__repr__(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
