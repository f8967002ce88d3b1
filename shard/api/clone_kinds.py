"""The types that a structured clone carries, beyond the containers: how each is taken apart, and put together again."""

from __future__ import annotations

import builtins
import datetime
import decimal
import fractions
import re
import uuid
from collections import OrderedDict
from collections.abc import Callable
from enum import IntEnum
from typing import Any

_MICROSECOND = datetime.timedelta(microseconds=1)

Node = list[Any]
"""A kind and its items: the linked form in ``structured_clone``."""

ATOMS = frozenset((type(None), bool, int, float, str, bytes))
"""Types that CBOR carries as they are."""


class Kind(IntEnum):
    """What a node is. The numbers are on the wire: add to them, never change one."""

    LIST = 0
    """Its items."""
    MAP = 1
    """A dict: key, value, key, value …"""
    SET = 2
    """Its items."""
    ORDERED_MAP = 3
    """An OrderedDict, as MAP."""
    FROZENSET = 4
    """Its items."""
    TUPLE = 5
    """Its items; only in keys and sets: elsewhere a tuple is a LIST."""
    DATETIME = 6
    """ISO 8601 without an offset; fold, if it has one or is aware; its offset in microseconds, if it is aware."""
    DATE = 7
    """ISO 8601."""
    TIME = 8
    """As DATETIME."""
    TIMEDELTA = 9
    """Days, seconds, microseconds."""
    DECIMAL = 10
    """Its text, which is exact."""
    FRACTION = 11
    """Numerator, denominator."""
    UUID = 12
    """16 bytes."""
    PATTERN = 13
    """The pattern, and its flags."""
    ERROR = 14
    """The name of a built-in exception's class, and its arguments."""
    BYTEARRAY = 15
    """Its bytes."""
    MEMORYVIEW = 16
    """Its bytes, whether it is read-only, its format, and its shape."""


CONTAINERS: dict[int, Callable[[], Any]] = {
    Kind.LIST: list,
    Kind.MAP: dict,
    Kind.SET: set,
    Kind.ORDERED_MAP: OrderedDict,
}
"""The kinds that may hold themselves, and what makes an empty one."""

KEEPS_IDENTITY = (list, dict, set, bytearray, memoryview, BaseException)
"""Types of which one object at two places comes back as one object at two places: those that can be changed."""

BUILTIN_ERRORS: dict[str, type[BaseException]] = {
    name: value
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException) and value.__name__ == name
}
"""The exceptions of the language, by name (without aliases, such as IOError)."""


def atom_of(value: Any) -> Any:
    """*value* as the atom that it is an instance of a subclass of (an ``IntEnum``, say); ``None`` if it is no such."""
    # By the base's own methods: what the subclass has made of them is not called.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__index__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, bytes):
        return bytes.__getitem__(value, slice(None))
    return None


def pack(value: Any) -> Node | None:
    """The node of *value*; ``None`` if it is of no type that is carried.

    Raises:
        ValueError: It is one that does not come back as it is; the message says why.
    """
    for cls, kind, parts in _LEAVES:
        if isinstance(value, cls):
            return [kind, *parts(value)]
    return None


def unpack(kind: Kind, items: list[Any]) -> Any:
    """The value of a node that is no container. What is wrong with it raises any exception."""
    return _MAKERS[kind](*items)


def _moment(value: datetime.datetime | datetime.time) -> Node:
    base = datetime.datetime if isinstance(value, datetime.datetime) else datetime.time
    text = base.isoformat(value.replace(tzinfo=None))  # type: ignore[arg-type]  # each by its own class's method
    if value.tzinfo is None:
        return [text, 1] if value.fold else [text]
    offset = value.utcoffset()
    if offset is None:
        raise ValueError(f"its zone {value.tzinfo!r:.80} gives no offset for it; use .replace(tzinfo=None)")
    # As a number: `fromisoformat` takes an offset of less than a second for none.
    return [text, value.fold, offset // _MICROSECOND]


def _zone(offset_us: int | None) -> datetime.timezone | None:
    return None if offset_us is None else datetime.timezone(datetime.timedelta(microseconds=offset_us))


def _datetime(text: str, fold: int = 0, offset_us: int | None = None) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(fold=fold, tzinfo=_zone(offset_us))


def _time(text: str, fold: int = 0, offset_us: int | None = None) -> datetime.time:
    return datetime.time.fromisoformat(text).replace(fold=fold, tzinfo=_zone(offset_us))


def _pattern(value: re.Pattern[Any]) -> Node:
    return [value.pattern, value.flags & ~re.DEBUG]  # which would print at each reading


def _view(value: memoryview) -> Node:
    if value.format == "B" and value.ndim == 1:
        return [value.tobytes(), value.readonly]
    shape = value.shape or ()
    try:
        memoryview(bytes(value.nbytes)).cast(value.format, shape)  # type: ignore[call-overload]
    except (ValueError, TypeError) as error:
        raise ValueError(f"no memoryview of format {value.format!r} and shape {shape} can be made: {error}") from error
    return [value.tobytes(), value.readonly, value.format, *shape]


def _memoryview(data: bytes, readonly: bool, form: str = "B", *shape: int) -> memoryview:
    view = memoryview(data if readonly else bytearray(data))
    return view.cast(form, shape) if shape else view  # type: ignore[call-overload]


def _error(name: str, *arguments: Any) -> BaseException:
    cls = BUILTIN_ERRORS[name]
    if issubclass(cls, BaseExceptionGroup):
        message, *errors = arguments
        return cls(message, errors)
    return cls(*arguments)


_LEAVES: tuple[tuple[type, Kind, Callable[[Any], Node]], ...] = (
    (datetime.datetime, Kind.DATETIME, _moment),  # before date, which it is one of
    (datetime.date, Kind.DATE, lambda value: [datetime.date.isoformat(value)]),
    (datetime.time, Kind.TIME, _moment),
    (datetime.timedelta, Kind.TIMEDELTA, lambda value: [value.days, value.seconds, value.microseconds]),
    (decimal.Decimal, Kind.DECIMAL, lambda value: [decimal.Decimal.__str__(value)]),
    (fractions.Fraction, Kind.FRACTION, lambda value: [value.numerator, value.denominator]),
    (uuid.UUID, Kind.UUID, lambda value: [value.bytes]),
    (re.Pattern, Kind.PATTERN, _pattern),
    (bytearray, Kind.BYTEARRAY, lambda value: [bytes(memoryview(value))]),
    (memoryview, Kind.MEMORYVIEW, _view),
)

_MAKERS: dict[Kind, Callable[..., Any]] = {
    Kind.FROZENSET: lambda *items: frozenset(items),
    Kind.TUPLE: lambda *items: items,
    Kind.DATETIME: _datetime,
    Kind.DATE: datetime.date.fromisoformat,
    Kind.TIME: _time,
    Kind.TIMEDELTA: datetime.timedelta,
    Kind.DECIMAL: decimal.Decimal,
    Kind.FRACTION: fractions.Fraction,
    Kind.UUID: lambda data: uuid.UUID(bytes=data),
    Kind.PATTERN: re.compile,
    Kind.ERROR: _error,
    Kind.BYTEARRAY: bytearray,
    Kind.MEMORYVIEW: _memoryview,
}
