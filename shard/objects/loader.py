"""Loading an app: the user's module, and the classes in it that can be hosted."""

from __future__ import annotations

import abc
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from ...common.errors import AppError
from ...common.ids import namespace_of
from ...common.limits import MAX_NAME_CHARS
from ..api.durable_object import DurableObject
from . import handlers
from .import_hints import hint


class HostedClass:
    """A user's class, checked.

    Attributes:
        cls: The class.
        namespace: Its address.
        public: Whether clients may reach its objects.

    Raises:
        AppError: One of its handlers cannot be one: see ``handlers.names_of``; or its ``trial_name`` is no name.
    """

    __slots__ = ("_names", "cls", "namespace", "public")

    def __init__(self, cls: type[DurableObject]) -> None:
        self.cls = cls
        self.namespace = namespace_of(cls.__name__)
        self.public = cls.public is not False
        self._names = handlers.names_of(cls)
        trial = cls.trial_name
        if trial is not None and not (isinstance(trial, str) and 0 < len(trial) <= MAX_NAME_CHARS):
            raise AppError(
                f"class {cls.__name__} has the trial_name {trial!r}: it must be None, or a string of 1 to "
                f"{MAX_NAME_CHARS} characters"
            )

    def doubts(self) -> Iterator[str]:
        """What is probably wrong with the class: one sentence each, for the log."""
        return handlers.doubts(self.cls, self._names)

    def near_miss(self, handler: str) -> str | None:
        """A method that may have been meant for *handler*, which the class lacks."""
        return handlers.near_miss(self.cls, self._names, handler)

    def bound(self, instance: DurableObject, handler: str) -> Callable[..., Any] | None:
        """The handler of *instance*, ``None`` if its class has none."""
        name = self._names[handler]
        return None if name is None else getattr(instance, name)


def load(app: str) -> dict[str, HostedClass]:
    """Import *app* and find its classes.

    Args:
        app: Path of a ``.py`` file, or the name of a module that can be imported from here.

    Returns:
        By its namespace, each class that extends ``DurableObject`` and was defined there (of a package: in any of its
        modules), or is named in the module's ``__all__``. Abstract classes are not, nor those whose names begin with an
        underscore: they are bases of others.

    Raises:
        AppError: It does not import, has no such class, two for one namespace, none that is public, or one that cannot
            be hosted.
    """
    module = _import(app)
    exported = set(getattr(module, "__all__", ()))
    found: dict[str, HostedClass] = {}
    imported: list[str] = []
    for name, value in vars(module).items():
        if not (isinstance(value, type) and issubclass(value, DurableObject)) or value is DurableObject:
            continue
        if name.startswith("_") or _is_abstract(value):
            continue
        if name not in exported and not _is_of(value, module):
            imported.append(name)
            continue
        hosted = HostedClass(value)
        other = found.get(hosted.namespace)
        if other is not None and other.cls is not value:
            raise AppError(
                f"classes {other.cls.__name__} and {value.__name__} of {app} share the namespace {hosted.namespace!r}"
            )
        found[hosted.namespace] = hosted
    if not found:
        hint = (
            f"; {', '.join(imported)}, which it imports, must be named in its __all__ to be hosted" if imported else ""
        )
        raise AppError(f"{app} defines no class that extends roost.shard.DurableObject{hint}")
    if not any(hosted.public for hosted in found.values()):
        raise AppError(f"each class of {app} says `public = False`: nobody could reach any of its objects")
    return found


def _is_abstract(cls: type) -> bool:
    """Whether *cls* is only there to be extended."""
    return inspect.isabstract(cls) or abc.ABC in cls.__bases__


def _is_of(cls: type, module: ModuleType) -> bool:
    """Whether *cls* was defined in *module*, or in a part of it if it is a package."""
    return cls.__module__ == module.__name__ or (
        hasattr(module, "__path__") and cls.__module__.startswith(f"{module.__name__}.")
    )


def _import(app: str) -> ModuleType:
    path = Path(app)
    is_file = app.endswith(".py") or path.is_file()
    if is_file and not path.is_file():
        raise AppError(f"there is no file {app}")
    if not is_file:
        _check_module_name(app, path)
    # A file's neighbours, or the modules of the folder that roost was started in, as `python app.py` finds them. But
    # last: what else is imported later, also by ourselves, must not turn into a file that lies beside an app.
    folder = path.resolve().parent if is_file else Path.cwd()
    is_taken = is_file and _is_taken(path.stem)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    # Without byte code beside the source: what was compiled from a file counts while the file's second and size stay
    # the same, so that a file that is saved twice in a second would be reloaded as it was before.
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
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
    finally:
        sys.dont_write_bytecode = writes_bytecode
    return module


def _check_module_name(app: str, path: Path) -> None:
    """Say what is wrong with an app that is neither a file nor the name of a module.

    Raises:
        AppError: It is a folder, or has a form that other servers know.
    """
    module, colon, _ = app.partition(":")
    if colon:
        there = Path(f"{module}.py")
        instead = str(there) if there.is_file() else module
        raise AppError(
            f"{app} is neither a file nor a module. All classes of a module are hosted, so that none is named: "
            f"give {instead}"
        )
    if path.is_dir() and not ((path / "__init__.py").is_file() and app.isidentifier()):
        files = sorted(file for file in path.glob("*.py") if not file.name.startswith("_"))
        instead = f": {files[0]}, say" if files else ""
        raise AppError(f"{app} is a folder: give the file, or the module, that defines the classes{instead}")
    if not all(part.isidentifier() for part in app.split(".")):
        file = Path(f"{app}.py")
        raise AppError(
            f"{app} is neither a file nor the name of a module"
            + (f": give {file}" if file.is_file() else f", and there is no {file} either")
        )


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
