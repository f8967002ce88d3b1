"""Code that was called and did not run: a call of a generator function, or of an async one, gives an object, and
nothing else happens until somebody loops over that or awaits it.

A handler that returns such an object has done nothing, and nobody would ever notice: its event would count as handled.
So that is an error, in handlers, listeners and callbacks alike. Handlers that hold `yield` themselves are refused when
their class is loaded (``handlers``); here are those that return what another function gave them.
"""

from __future__ import annotations

from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

_KINDS = {
    GeneratorType: "a generator",
    AsyncGeneratorType: "an async generator",
    CoroutineType: "a coroutine",
}


def unrun(result: Any) -> TypeError | None:
    """What is wrong with *result*, which code of an object's has come to; ``None`` if nothing is. A coroutine is
    closed, so that Python does not warn of it as well."""
    kind = _KINDS.get(type(result))
    if kind is None:
        return None
    name = getattr(result, "__qualname__", "")
    if type(result) is CoroutineType:
        result.close()
        return TypeError(f"{kind} was returned, {name}(), of which nothing has run: `await` it")
    return TypeError(
        f"{kind} was returned, {name}(), of which nothing has run: it holds `yield`, so that a call only makes it. "
        "Loop over it, or take the `yield` out"
    )
