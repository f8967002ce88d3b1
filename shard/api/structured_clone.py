"""Structured clone: copies Python values into bytes and back, as the reference's structured clone does JavaScript's.

Socket attachments are kept in this form; whatever else must outlive an object's memory can be. A value comes back equal
and of the type that the table in ``deploy/docs/attachments.md`` says, or is refused when it is written.

Two forms, both CBOR (RFC 8949)
===============================

*Plain*: what CBOR has by itself (None, bool, int, float, str, bytes, list, dict, set, and datetime with an offset of
whole minutes) is written as CBOR writes it. Nearly every value is plain, and ``cbor2`` does all the work.

*Linked*: anything else, and every value in which one container is found twice, or holds itself. The containers stand
side by side instead of inside each other, and refer to each other by number::

    tag 61440 ( [ root, node 0, node 1, … ] )

    root   an item
    item   None, bool, int, float, str, bytes: itself;  [number]: that node
    node   [kind, item, …]; see ``Kind``

So no depth of nesting is needed to say that a list holds itself, and reading one needs no recursion: first all mutable
containers are made, empty; then what cannot be changed, in the order written (its parts stand before it); then the
containers are filled.
"""

from __future__ import annotations

import datetime
import enum
from collections import OrderedDict
from typing import Any

import cbor2

from ...common.errors import DataCloneError
from .clone_kinds import ATOMS, BUILTIN_ERRORS, CONTAINERS, KEEPS_IDENTITY, Kind, Node, atom_of, pack, unpack

MAX_DEPTH = 200
"""Levels that a value may be nested."""

_LINKED = 61440
"""CBOR tag of the linked form; unassigned (IANA: first come, first served)."""

_SIMPLE = ATOMS - {str}
"""Types whose values are copied as they are; text must be looked at."""

_CARRIED = (
    "None, bool, int, float, str, bytes, list, tuple, dict, set, datetime, and the further types of the table in "
    "deploy/docs/attachments.md"
)


class CloneTooLarge(Exception):
    """The value takes more bytes than it may.

    Attributes:
        size: Bytes that it takes; at least that many, where it was not written to its end.
        limit: Bytes that it may take.
    """

    def __init__(self, size: int, limit: int) -> None:
        self.size, self.limit = size, limit
        super().__init__(f"{size} bytes, at most {limit}")


def serialize(value: Any, limit: int) -> bytes:
    """Copy *value* into bytes.

    Args:
        value: See the table in ``deploy/docs/attachments.md``.
        limit: Bytes that the result may have.

    Raises:
        DataCloneError: Something in *value* cannot be carried; the message says what, where, and what to do.
        CloneTooLarge: The result is longer than *limit*.
    """
    try:
        try:
            plain = _Plain(limit).copy(value, 0)
        except _NotPlain:
            data = cbor2.dumps(cbor2.CBORTag(_LINKED, _Linker(limit).link(value)))
            _check_size(data, limit)
            _check_readable(data, value)
        else:
            data = cbor2.dumps(plain)
            _check_size(data, limit)
    except _Refused as refused:
        raise DataCloneError(refused.sentence()) from refused.__cause__
    except RecursionError as error:
        raise DataCloneError("the value is nested too deeply for what is left of the stack here") from error
    except (cbor2.CBORError, ValueError, OverflowError) as error:
        raise DataCloneError(f"{_shown(value)} cannot be carried: {error}") from error
    return data


def deserialize(data: bytes) -> Any:
    """A fresh copy of the value in *data*.

    Raises:
        DataCloneError: *data* was not made by ``serialize``, or by one that knew more types.
    """
    try:
        value = cbor2.loads(data)
        if type(value) is cbor2.CBORTag:
            if value.tag != _LINKED:
                raise ValueError(f"unknown CBOR tag {value.tag}")
            return _resolve(value.value)
    except Exception as error:
        raise DataCloneError(
            f"the value kept here cannot be read back ({len(data)} bytes; {type(error).__name__}: {error}): "
            "it was written by another version, or is damaged; serialise another value in its place"
        ) from error
    return value


def _check_readable(data: bytes, value: Any) -> None:
    """What cannot be read must not be kept: an exception may be made of arguments that its class does not take."""
    try:
        deserialize(data)
    except DataCloneError as error:
        raise DataCloneError(f"{_shown(value)} cannot be carried: a copy cannot be made: {error.__cause__}") from error


def _check_size(data: bytes, limit: int) -> None:
    if len(data) > limit:
        raise CloneTooLarge(len(data), limit)


# --- writing ------------------------------------------------------------------------------------------------------


class _NotPlain(Exception):
    """The value needs the linked form."""


_STEPS_SHOWN = 4
"""Of the way to what cannot be carried, at its beginning and at its end."""


class _Refused(Exception):
    """Something cannot be carried. Each level that it passes through adds where it stands."""

    def __init__(self, item: Any, problem: str) -> None:
        self.item = item
        self.problem = problem
        self.path: list[str] = []
        super().__init__(problem)

    def at(self, step: str) -> None:
        """It stands at *step* of the value that holds it."""
        self.path.append(step)

    def sentence(self) -> str:
        """For the user."""
        steps = self.path[::-1]
        if len(steps) > 2 * _STEPS_SHOWN:
            steps = [*steps[:_STEPS_SHOWN], "…", *steps[-_STEPS_SHOWN:]]
        where = "value" + "".join(steps)
        return f"{_shown(self.item)} of type {type(self.item).__name__}, at {where}, cannot be carried: {self.problem}"


class _Walk:
    """Counts what is visited. Each value takes a byte at least: what holds more than *limit* of them is too large, and
    need not be walked to its end (forty tuples, each holding the next one twice, are 2^40)."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0

    def count(self, more: int) -> None:
        """There are *more* values."""
        self._count += more
        if self._count > self._limit:
            raise CloneTooLarge(self._count, self._limit)

    @staticmethod
    def enter(container: Any, depth: int) -> None:
        """*container* is taken apart, which stands so many levels deep."""
        if depth >= MAX_DEPTH:
            raise _Refused(container, f"a value can be nested {MAX_DEPTH} levels deep")


class _Plain(_Walk):
    """Copies a value that the plain form carries."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._seen: set[int] = set()

    def copy(self, value: Any, depth: int) -> Any:
        """*value*, of exactly the types that CBOR has.

        Raises:
            _NotPlain: It holds something else, or one container twice.
            _Refused: It holds text that UTF-8 does not have.
        """
        kind = type(value)
        if kind in ATOMS:
            return _text(value) if kind is str else value
        if kind is dict or kind is list or kind is set:
            if id(value) in self._seen:
                raise _NotPlain
            self._seen.add(id(value))
        elif kind is not tuple:
            return self._leaf(value)
        self.enter(value, depth)
        if kind is dict:
            self.count(2 * len(value))
            copied = {}
            for key, item in value.items():
                try:
                    # Most are short and simple, and this runs for each attachment: a call for each would double it.
                    own_key = key if type(key) is str and key.isascii() else self._key(key, depth + 1)
                    copied[own_key] = item if type(item) in _SIMPLE else self.copy(item, depth + 1)
                except _Refused as refused:
                    refused.at(f"[{_shown(key)}]")
                    raise
            return copied
        self.count(len(value))
        if kind is set:
            return {self._key(item, depth + 1) for item in value}
        items: list[Any] = []
        for item in value:
            try:
                items.append(item if type(item) in _SIMPLE else self.copy(item, depth + 1))
            except _Refused as refused:
                refused.at(f"[{len(items)}]")
                raise
        return items

    def _key(self, value: Any, depth: int) -> Any:
        """A key of a dict, or an item of a set: it must come back hashable."""
        kind = type(value)
        if kind in ATOMS:
            return _text(value) if kind is str else value
        if kind is tuple:
            self.enter(value, depth)
            self.count(len(value))
            return tuple([self._key(item, depth + 1) for item in value])
        return self._leaf(value)

    @staticmethod
    def _leaf(value: Any) -> Any:
        atom = atom_of(value)
        if atom is not None:
            return _text(atom) if type(atom) is str else atom
        if type(value) is datetime.datetime and not value.fold:
            offset = value.utcoffset()
            if offset is not None and not offset % datetime.timedelta(minutes=1):
                return value.replace(tzinfo=datetime.timezone(offset))
        raise _NotPlain


class _Linker(_Walk):
    """Takes a value apart into the nodes of the linked form."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._nodes: list[Node | None] = []
        self._numbers: dict[int, int] = {}  # id of what keeps its identity, or is being taken apart → number
        self._open: set[int] = set()  # ids of what cannot be changed and is being taken apart
        self._alive: list[Any] = []  # or an id might be another's by now

    def link(self, value: Any) -> list[Any]:
        """The root and the nodes of *value*.

        Raises:
            _Refused: Something in it cannot be carried.
        """
        root = self._item(value, 0)
        return [root, *self._nodes]

    def _item(self, value: Any, depth: int, *, hashable: bool = False) -> Any:
        self.count(1)
        atom = value if type(value) in ATOMS else atom_of(value)
        if atom is not None or value is None:
            return _text(atom) if type(atom) is str else atom
        number = self._numbers.get(id(value))
        if number is None:
            number = self._node(value, depth, hashable=hashable)
        return [number]

    def _node(self, value: Any, depth: int, *, hashable: bool) -> int:
        self._alive.append(value)
        if isinstance(value, (dict, list, set, frozenset, tuple, BaseException)):
            self.enter(value, depth)
        if isinstance(value, dict):
            if isinstance(value, OrderedDict):  # whose order is not that of the dict in it
                return self._mapping(Kind.ORDERED_MAP, value, list(OrderedDict.items(value)), depth)
            return self._mapping(Kind.MAP, value, list(dict.items(value)), depth)
        if isinstance(value, list):
            return self._mutable(Kind.LIST, value, list.__iter__(value), depth)
        if isinstance(value, set):
            return self._mutable(Kind.SET, value, set.__iter__(value), depth, hashable=True)
        if isinstance(value, frozenset):
            return self._fixed([Kind.FROZENSET], value, list(frozenset.__iter__(value)), depth)
        if isinstance(value, tuple):
            items = list(tuple.__iter__(value))
            if hashable:
                return self._fixed([Kind.TUPLE], value, items, depth)
            number = self._mutable(Kind.LIST, value, items, depth)
            del self._numbers[id(value)]  # two places of one tuple are two lists: nobody can tell two tuples apart
            return number
        if isinstance(value, BaseException):
            return self._error(value, depth)
        try:
            node = pack(value)
        except (ValueError, TypeError, OverflowError) as error:
            raise _Refused(value, str(error)) from error
        if node is None:
            raise _Refused(value, _remedy(value))
        return self._add(node, value)

    def _add(self, node: Node | None, value: Any) -> int:
        self._nodes.append(node)
        number = len(self._nodes) - 1
        if isinstance(value, KEEPS_IDENTITY):
            self._numbers[id(value)] = number
        return number

    def _mutable(self, kind: Kind, value: Any, items: Any, depth: int, *, hashable: bool = False) -> int:
        """A container that may hold itself: it has its number before its items have theirs."""
        number = self._numbers[id(value)] = self._add(None, value)
        node: Node = [kind]
        for index, item in enumerate(items):
            try:
                node.append(self._item(item, depth + 1, hashable=hashable))
            except _Refused as refused:
                refused.at(f"[{index}]" if not hashable else "{…}")
                raise
        self._nodes[number] = node
        return number

    def _mapping(self, kind: Kind, value: Any, pairs: list[tuple[Any, Any]], depth: int) -> int:
        number = self._add(None, value)
        node: Node = [kind]
        for key, item in pairs:
            try:
                node.append(self._item(key, depth + 1, hashable=True))
                node.append(self._item(item, depth + 1))
            except _Refused as refused:
                refused.at(f"[{_shown(key)}]")
                raise
        self._nodes[number] = node
        return number

    def _fixed(self, node: Node, value: Any, items: list[Any], depth: int) -> int:
        """What cannot be changed once made: its parts come first, so that it cannot be among them. A tuple in it stays
        one, since it may have to be hashable, or is an argument that must be a tuple."""
        if id(value) in self._open:
            raise _Refused(value, f"a {type(value).__name__} that holds itself cannot be made again")
        self._open.add(id(value))
        for index, item in enumerate(items):
            try:
                node.append(self._item(item, depth + 1, hashable=True))
            except _Refused as refused:
                refused.at(f".args[{index}]" if isinstance(value, BaseException) else "{…}")
                raise
        self._open.discard(id(value))
        return self._add(node, value)

    def _error(self, error: BaseException, depth: int) -> int:
        base = next(cls for cls in type(error).__mro__ if BUILTIN_ERRORS.get(cls.__name__) is cls)
        if isinstance(error, BaseExceptionGroup):
            arguments = [error.message, *error.exceptions]
        else:
            arguments = list(base.__reduce__(error)[1])  # with what OSError keeps beside its args
        self._alive.append(arguments)
        return self._fixed([Kind.ERROR, base.__name__], error, arguments, depth)


def _text(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise _Refused(text, "it holds a lone surrogate, which UTF-8 does not have") from error
    return text


# --- reading ------------------------------------------------------------------------------------------------------


def _resolve(linked: list[Any]) -> Any:
    """The value that ``_Linker`` has taken apart. What is wrong with it raises any exception."""
    root, *nodes = linked
    made: list[Any] = [CONTAINERS[node[0]]() if node[0] in CONTAINERS else None for node in nodes]
    done = [node[0] in CONTAINERS for node in nodes]

    def value_of(item: Any) -> Any:
        if type(item) not in (list, tuple):  # cbor2 may make either of an array inside a tag
            return item
        (number,) = item
        if number < 0 or not done[number]:
            raise ValueError(f"node {number} is not there yet")
        return made[number]

    for number, node in enumerate(nodes):
        if not done[number]:
            kind, *items = node
            made[number] = unpack(Kind(kind), [value_of(item) for item in items])
            done[number] = True
    for container, (kind, *items) in zip(made, nodes, strict=True):
        if kind == Kind.LIST:
            container.extend([value_of(item) for item in items])
        elif kind == Kind.SET:
            container.update([value_of(item) for item in items])
        elif kind in CONTAINERS:
            parts = [value_of(item) for item in items]
            container.update(zip(parts[::2], parts[1::2], strict=True))
    return value_of(root)


# --- words --------------------------------------------------------------------------------------------------------


def _remedy(value: Any) -> str:
    if isinstance(value, enum.Enum):
        return "use its .value"
    if isinstance(value, type) or callable(value):
        return "code cannot be carried; use a name that stands for it"
    if hasattr(type(value), "__dataclass_fields__"):
        return "use dataclasses.asdict()"
    if hasattr(type(value), "tolist"):
        return "use its .tolist()"
    return f"use {_CARRIED}"


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = object.__repr__(value)  # the value's own code fails, which is not what the user is to be told
    return text if len(text) <= 80 else text[:79] + "…"
