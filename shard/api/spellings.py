"""Both spellings of arguments: the seed's own, and the same in snake_case."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def also_named(**others: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a function take arguments by further names. Overloads at the function say so to type checkers.

    Args:
        others: Each further name, and the function's own name for the same argument.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def renamed(*args: Any, **kwargs: Any) -> Any:
            if kwargs:
                for other in others.keys() & kwargs.keys():
                    own = others[other]
                    if own in kwargs:
                        raise TypeError(f"{function.__name__}() got the argument {own!r} twice, once as {other!r}")
                    kwargs[own] = kwargs.pop(other)
            return function(*args, **kwargs)

        return renamed

    return decorate
