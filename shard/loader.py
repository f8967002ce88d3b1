"""Loading an app: the user's module, and the classes in it that can be hosted."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from ..common.errors import AppError
from ..common.ids import namespace_of
from .durable_object import DurableObject
from .import_hints import hint

SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "fetch": ("fetch",),
    "web_socket_message": ("web_socket_message", "webSocketMessage"),
    "web_socket_close": ("web_socket_close", "webSocketClose"),
    "web_socket_error": ("web_socket_error", "webSocketError"),
}
"""Each handler and how a class may spell it."""


class HostedClass:
    """A user's class, checked.

    Attributes:
        cls: The class.
        namespace: Its address.

    Raises:
        AppError: The class defines both spellings of a handler, or a handler that cannot be called.
    """

    __slots__ = ("_names", "cls", "namespace")

    def __init__(self, cls: type[DurableObject]) -> None:
        self.cls = cls
        self.namespace = namespace_of(cls.__name__)
        self._names: dict[str, str | None] = {}
        for handler, spellings in SPELLINGS.items():
            defined = [name for name in spellings if getattr(cls, name, None) is not None]
            if len(defined) > 1:
                raise AppError(f"class {cls.__name__} defines one handler twice, as {' and '.join(defined)}")
            if defined and not callable(getattr(cls, defined[0])):
                raise AppError(f"class {cls.__name__} has a {defined[0]} that cannot be called")
            self._names[handler] = defined[0] if defined else None

    def bound(self, instance: DurableObject, handler: str) -> Callable[..., Any] | None:
        """The handler of *instance*, ``None`` if its class has none."""
        name = self._names[handler]
        return None if name is None else getattr(instance, name)


def load(app: str) -> dict[str, HostedClass]:
    """Import *app* and find its classes.

    Args:
        app: Path of a ``.py`` file, or the name of a module that can be imported from here.

    Returns:
        Each class that extends ``DurableObject`` and was defined there, or is named in the module's ``__all__``, by
        its namespace.

    Raises:
        AppError: It does not import, has no such class, two for one namespace, or one that cannot be hosted.
    """
    module = _import(app)
    exported = set(getattr(module, "__all__", ()))
    found: dict[str, HostedClass] = {}
    for name, value in vars(module).items():
        if not (isinstance(value, type) and issubclass(value, DurableObject)) or value is DurableObject:
            continue
        if (value.__module__ != module.__name__ and name not in exported) or name.startswith("_"):
            continue
        hosted = HostedClass(value)
        other = found.get(hosted.namespace)
        if other is not None and other.cls is not value:
            raise AppError(
                f"classes {other.cls.__name__} and {value.__name__} of {app} share the namespace {hosted.namespace!r}"
            )
        found[hosted.namespace] = hosted
    if not found:
        raise AppError(f"{app} defines no class that extends roost.shard.DurableObject")
    return found


def _import(app: str) -> ModuleType:
    path = Path(app)
    is_file = app.endswith(".py") or path.is_file()
    if is_file and not path.is_file():
        raise AppError(f"there is no file {app}")
    # A file's neighbours, or the modules of the folder that roost was started in, as `python app.py` finds them. But
    # last: what else is imported later, also by ourselves, must not turn into a file that lies beside an app.
    folder = path.resolve().parent if is_file else Path.cwd()
    is_taken = is_file and _is_taken(path.stem)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    try:
        if not is_file:
            return importlib.import_module(app)
        # Under its own name, as an import would, unless that is another module's: an app may be called queue.py.
        name = f"app_{path.stem}" if is_taken else path.stem
        spec = importlib.util.spec_from_file_location(name, path.resolve())
        if spec is None or spec.loader is None:
            raise AppError(f"{app} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    except AppError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        what = f"{type(error).__name__}: {error}{hint(error, folder)}"
        raise AppError(f"{app} does not import: {_where(error)}{what}") from error
    return module


def _is_taken(name: str) -> bool:
    """Whether a module that has nothing to do with the app has this name, imported or not."""
    if name in sys.modules or name in sys.stdlib_module_names:
        return True
    found = PathFinder.find_spec(name, sys.path)
    return found is not None and found.loader is not None  # without a loader: a folder that happens to have the name


def _where(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return ""  # says it itself
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    return f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
