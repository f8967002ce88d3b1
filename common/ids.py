"""Ids: what names an object, and where it belongs.

An object id is 32 bytes, ``base ‖ tag``: *base* is derived from the object's name or drawn at random, *tag* is a MAC
of base under a key made of the namespace. So equal names give equal ids on every process without asking anyone, an id
of another namespace is recognised, and ids spread evenly over the slots.
"""

from __future__ import annotations

import hashlib
import hmac
import random
import re
from functools import lru_cache
from typing import NewType

from . import limits
from .errors import InvalidObjectId

ObjectId = NewType("ObjectId", bytes)
"""32 bytes; users see its 64 hex digits."""
Slot = NewType("Slot", int)
"""0 … 4,095: the first 12 bits of an object id."""
Incarnation = NewType("Incarnation", int)
"""32 bits, from the directory at each start of a member, never used twice."""
ConnectionId = NewType("ConnectionId", int)
"""64 bits: the router's incarnation ‖ its counter. Unique for ever."""

OBJECT_ID_BYTES = 32
_HALF = OBJECT_ID_BYTES // 2


@lru_cache(maxsize=1024)
def _key(namespace: str) -> bytes:
    return hashlib.sha256(namespace.encode()).digest()


def _with_tag(namespace: str, base: bytes) -> ObjectId:
    return ObjectId(base + hmac.digest(_key(namespace), base, "sha256")[:_HALF])


def id_from_name(namespace: str, name: str) -> ObjectId:
    """The id of the object called *name* in *namespace*; the same on every machine and run.

    Args:
        namespace: The class's address, such as ``chat-room``.
        name: 1 to 512 characters, no lone surrogates.
    """
    return _with_tag(namespace, hmac.digest(_key(namespace), name.encode(), "sha256")[:_HALF])


def new_unique_id(namespace: str, rng: random.Random) -> ObjectId:
    """An id that no name has. *rng* decides it: pass ``random.SystemRandom()`` outside tests."""
    return _with_tag(namespace, rng.randbytes(_HALF))


def id_from_string(namespace: str, text: str) -> ObjectId:
    """Read an id back from its 64 hex digits.

    Raises:
        InvalidObjectId: *text* is not 64 hex digits, or its id belongs to another namespace.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise InvalidObjectId(f"an object id has 64 hex digits, got {text[:80]!r}")
    object_id = ObjectId(bytes.fromhex(text))
    if not belongs_to(object_id, namespace):
        raise InvalidObjectId(f"the object id {text} does not belong to the namespace {namespace!r}")
    return object_id


def belongs_to(object_id: ObjectId, namespace: str) -> bool:
    """Whether *object_id* was made for *namespace*."""
    return hmac.compare_digest(_with_tag(namespace, object_id[:_HALF]), object_id)


def slot_of(object_id: ObjectId) -> Slot:
    """The slot that *object_id* falls into."""
    return Slot(int.from_bytes(object_id[:2], "big") >> (16 - limits.SLOT_BITS))


def connection_id(router: Incarnation, counter: int) -> ConnectionId:
    """The id of a router's *counter*-th connection."""
    return ConnectionId(router << 32 | counter)


_WORD_STARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def namespace_of(class_name: str) -> str:
    """The address of a class: ``ChatRoom`` → ``chat-room``, ``HTTPServer2`` → ``http-server2``."""
    return _WORD_STARTS.sub("-", class_name).replace("_", "-").lower()


def binding_of(class_name: str) -> str:
    """The name of a class's namespace in ``env``: ``ChatRoom`` → ``CHAT_ROOM``."""
    return namespace_of(class_name).replace("-", "_").upper()
