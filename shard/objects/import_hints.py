"""What to do about an app that does not import: the sentence behind the error's own."""

from __future__ import annotations

import sys
from pathlib import Path


def hint(error: BaseException, folder: Path) -> str:
    """What follows from *error*, as the end of a sentence; empty when there is nothing to say.

    Args:
        error: What the import of an app raised.
        folder: The app's own, which is the last place that modules are looked for in.
    """
    if isinstance(error, ModuleNotFoundError) and error.name:
        top = error.name.partition(".")[0]
        if top in sys.modules:
            return ""  # a part of something that is there
        return (
            f"; there is no {top}.py in {folder}, and {sys.executable} has no such package: "
            f"`{sys.executable} -m pip install {top}` adds it, if that is the package's name"
        )
    if isinstance(error, ImportError) and "no known parent package" in str(error):
        return (
            f"; a file that is given as the app is a module by itself. If {folder} is a package, give the module: "
            f"`{folder.name}.NAME`, from {folder.parent}"
        )
    name = _module_of(error)
    if name and _is_hidden(name, folder):
        return (
            f"; {folder / name}{'.py' if (folder / f'{name}.py').is_file() else ''} is not what was imported: a module "
            f"of Python or of an installed package has the name {name!r}, and goes before it. Give yours another name"
        )
    return ""


def _module_of(error: BaseException) -> str:
    """The module that lacks what the app wanted of it."""
    if isinstance(error, ImportError):
        return error.name or ""
    if isinstance(error, AttributeError) and isinstance(error.obj, type(sys)):
        return error.obj.__name__
    return ""


def _is_hidden(name: str, folder: Path) -> bool:
    """Whether the app's folder has a module of that name, and another one was imported."""
    found = getattr(sys.modules.get(name), "__file__", None)
    is_there = (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()
    return is_there and (found is None or folder not in Path(found).resolve().parents)
