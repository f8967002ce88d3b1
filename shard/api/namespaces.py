"""Object ids as users see them, and the namespaces in ``env``."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from ...common import ids
from ...common.errors import ApiError, ConfigError
from ...common.limits import MAX_NAME_CHARS

_SYSTEM_RANDOM = random.SystemRandom()


class DurableObjectId:
    """The id of an object; ``str(id)`` is its 64 hex digits. Ids of one object are equal.

    Attributes:
        name: The name that it was made from, ``None`` without one. The name does not count when ids are compared.
    """

    __slots__ = ("name", "raw")

    def __init__(self, raw: ids.ObjectId, name: str | None) -> None:
        self.raw = raw
        self.name: str | None = name

    def __str__(self) -> str:
        return self.raw.hex()

    def __repr__(self) -> str:
        return f"<DurableObjectId {self.raw.hex()} name={self.name!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DurableObjectId) and other.raw == self.raw

    def __hash__(self) -> int:
        return hash(self.raw)


class DurableObjectNamespace:
    """All objects of one class: ``env.CHAT_ROOM`` for the class ``ChatRoom``. Makes ids."""

    __slots__ = ("namespace",)

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def id_from_name(self, name: str) -> DurableObjectId:
        """The id of the object called *name*; the same on every machine and at each run.

        Args:
            name: 1 to 512 characters.

        Raises:
            TypeError: *name* is not a string.
            ValueError: It is empty, or longer than 512 characters.
        """
        if not isinstance(name, str):
            raise TypeError(f"an object's name is a string, got {name!r:.80}")
        if not 1 <= len(name) <= MAX_NAME_CHARS:
            raise ValueError(f"an object's name has 1 to {MAX_NAME_CHARS} characters, got {len(name)}")
        return DurableObjectId(ids.id_from_name(self.namespace, name), name)

    def id_from_string(self, text: str) -> DurableObjectId:
        """Read an id back from its 64 hex digits. The id has no ``name``.

        Args:
            text: What ``str(id)`` has given, in any case.

        Raises:
            TypeError: *text* is not a string.
            InvalidObjectId: *text* is not an id, or the id of an object in another namespace.
        """
        return DurableObjectId(ids.id_from_string(self.namespace, text), None)

    def new_unique_id(self) -> DurableObjectId:
        """An id that no name has, drawn at random."""
        return DurableObjectId(ids.new_unique_id(self.namespace, _SYSTEM_RANDOM), None)

    idFromName = id_from_name  # noqa: N815  # the original spellings
    idFromString = id_from_string  # noqa: N815
    newUniqueId = new_unique_id  # noqa: N815

    def get(self, object_id: DurableObjectId, /) -> NoReturn:
        """Not there yet: in this version of roost objects cannot call each other.

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
    """What the classes were configured with: ``self.env``.

    Each ``--var NAME=VALUE`` is an attribute, a string. Each hosted class, public or not, has its
    ``DurableObjectNamespace`` here under the class's name in capitals: ``env.CHAT_ROOM`` for ``ChatRoom``. Any other
    name raises ``AttributeError``, which says what there is.

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
