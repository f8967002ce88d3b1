"""Values of users, as what they are.

A value of a class derived from ``str``, ``int`` or ``bytes`` may say something else of itself each time that it is
asked: of its length, its order, its encoding. So what a check has found need not hold when the value is written to the
wire, where it would end the shard. Whatever users' code passes in, and the runtime keeps, goes through here once: the
plain value within is checked, kept and written. Each function raises ``TypeError`` for a value of another type, also
when its ``__class__`` says that it is of this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def text(value: str) -> str:
    """The text of a ``str``."""
    return str.__str__(value)


def integer(value: int) -> int:
    """The number of an ``int``."""
    return int.__int__(value)


def number(value: int | float) -> int | float:
    """The number of an ``int`` or a ``float``."""
    return int.__int__(value) if isinstance(value, int) else float.__float__(value)


def octets(value: ReadableBuffer) -> bytes:
    """The bytes of something bytes-like."""
    return value if type(value) is bytes else memoryview(value).tobytes()
