"""Object ids as users see them, and the namespaces in ``env``."""

from __future__ import annotations

import random

from ..common import ids
from ..common.limits import MAX_NAME_CHARS

_SYSTEM_RANDOM = random.SystemRandom()


class DurableObjectId:
    """The id of an object: ``str(id)`` is its 64 hex digits, ``id.name`` the name it was made from, if any."""

    __slots__ = ("name", "raw")

    def __init__(self, raw: ids.ObjectId, name: str | None) -> None:
        self.raw = raw
        self.name = name

    def __str__(self) -> str:
        return self.raw.hex()

    def __repr__(self) -> str:
        return f"<DurableObjectId {self.raw.hex()} name={self.name!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DurableObjectId) and other.raw == self.raw

    def __hash__(self) -> int:
        return hash(self.raw)


class DurableObjectNamespace:
    """All objects of one class: ``env.CHAT_ROOM`` for ``ChatRoom``. Makes ids."""

    __slots__ = ("namespace",)

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def id_from_name(self, name: str) -> DurableObjectId:
        """The id of the object called *name* (1 to 512 characters); the same on every machine and run.

        Raises:
            TypeError: *name* is no string.
            ValueError: It is empty, or longer than 512 characters.
        """
        if not isinstance(name, str):
            raise TypeError(f"an object's name is a string, got {name!r:.80}")
        if not 1 <= len(name) <= MAX_NAME_CHARS:
            raise ValueError(f"an object's name has 1 to {MAX_NAME_CHARS} characters, got {len(name)}")
        return DurableObjectId(ids.id_from_name(self.namespace, name), name)

    def id_from_string(self, text: str) -> DurableObjectId:
        """Read an id back from its 64 hex digits.

        Raises:
            InvalidObjectId: It is none, or of another namespace.
        """
        return DurableObjectId(ids.id_from_string(self.namespace, text), None)

    def new_unique_id(self) -> DurableObjectId:
        """An id that no name has."""
        return DurableObjectId(ids.new_unique_id(self.namespace, _SYSTEM_RANDOM), None)

    idFromName = id_from_name  # noqa: N815  # the reference's spellings
    idFromString = id_from_string  # noqa: N815
    newUniqueId = new_unique_id  # noqa: N815

    def __repr__(self) -> str:
        return f"<DurableObjectNamespace {self.namespace}>"


class Env:
    """What an object's class was configured with: each ``--var NAME=VALUE`` and one namespace for each class."""

    def __init__(self, variables: dict[str, str], class_names: list[str]) -> None:
        self.__dict__.update(
            {ids.binding_of(name): DurableObjectNamespace(ids.namespace_of(name)) for name in class_names}
        )
        self.__dict__.update(variables)

    def __getattr__(self, name: str) -> str | DurableObjectNamespace:
        # Only called for what is not there.
        raise AttributeError(f"env has no {name!r}; it has: {', '.join(sorted(self.__dict__)) or 'nothing'}")
