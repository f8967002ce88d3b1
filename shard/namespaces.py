"""Object ids as users see them, and the namespaces in ``env``."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from ..common import ids
from ..common.errors import ApiError, ConfigError
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

    def get(self, object_id: DurableObjectId, /) -> NoReturn:
        """Not there yet: objects cannot call each other.

        Raises:
            ApiError: Always.
        """
        raise ApiError(
            "objects cannot call each other in this version of roost: send the other object an HTTP request, at "
            f"/{self.namespace}/NAME of the address that clients use"
        )

    getByName = get_by_name = get  # noqa: N815

    def __repr__(self) -> str:
        return f"<DurableObjectNamespace {self.namespace}>"


class Env:
    """What an object's class was configured with: each ``--var NAME=VALUE`` and one namespace for each class.

    For type checkers it has any attribute. ``DurableObject[MyEnv]`` says which ones there are.
    """

    def __init__(self, variables: Mapping[str, str], class_names: Iterable[str]) -> None:
        namespaces = {ids.binding_of(name): name for name in class_names}
        for name in variables:
            if name in namespaces:
                raise ConfigError(
                    f"--var {name}=… would hide env.{name}, the namespace of class {namespaces[name]}: "
                    "give the variable another name"
                )
        self.__dict__.update(
            {binding: DurableObjectNamespace(ids.namespace_of(name)) for binding, name in namespaces.items()}
        )
        self.__dict__.update(variables)

    def __getattr__(self, name: str) -> Any:
        # Only called for what is not there.
        raise AttributeError(
            f"env has no {name!r}; it has: {', '.join(sorted(self.__dict__)) or 'nothing'}. `--var {name}=…` adds it"
        )
