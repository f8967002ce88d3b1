"""What the sources say of roost's public classes, as ``griffe`` reads them: for ``api_page``.

It reads them without running them, so that signatures are as they are written, and overloads and what only type
checkers see are there as well.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import griffe

from tests.packaging.api_outline import INTERNAL
from tests.support.cluster import REPOSITORY

WIDTH = 100
"""Characters of a signature that stands on one line."""

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def load(folder: Path) -> griffe.Module:
    """The package ``roost``, as far as users' code meets it.

    Args:
        folder: An empty one, for a copy of the sources: griffe does not follow the links that the package is made of.
    """
    for part in ("common", "shard"):
        shutil.copytree(REPOSITORY / part, folder / "roost" / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "deploy" / "package" / "roost" / "__init__.py", folder / "roost")
    package = griffe.load(
        "roost",
        search_paths=[folder],
        allow_inspection=False,
        docstring_parser="google",
        docstring_options={"returns_named_value": False, "returns_multiple_items": False},
    )
    assert isinstance(package, griffe.Module)
    return package


def snake_case(name: str) -> str:
    """``acceptWebSocket`` → ``accept_web_socket``; a constant stays as it is."""
    return name if name.isupper() else _HUMP.sub("_", name).lower()


@dataclass(slots=True)
class Member:
    """A method or attribute of a class.

    Attributes:
        name: Its own name, which is in snake_case where there are two spellings.
        found: What griffe has found.
        spellings: Its further names.
    """

    name: str
    found: Any
    spellings: list[str] = field(default_factory=list)

    @property
    def is_documented(self) -> bool:
        """Whether it has a docstring of its own."""
        return self.found.docstring is not None


def members_of(cls: griffe.Class) -> dict[str, Member]:
    """The public members of *cls* by their own names, in the order of the source, inherited ones last.

    A member is another spelling when it is the same name in camelCase, or is set to the other one.
    """
    left_out = INTERNAL.get(cls.name, set())
    public = {
        name: found
        for name, found in {**cls.members, **cls.inherited_members}.items()
        if not name.startswith("_") and name not in left_out
    }
    members: dict[str, Member] = {}
    spellings: dict[str, str] = {}
    for name, found in public.items():
        # ``A = B = 0``
        twins = [other for other in members if name.isupper() and members[other].found.lineno == found.lineno]
        for other in (str(getattr(found, "value", None)), snake_case(name), *twins):
            if other != name and other in public:
                spellings[name] = other
                break
        else:
            members[name] = Member(name, found)
    for name, other in spellings.items():
        while other in spellings:
            other = spellings[other]
        members[other].spellings.append(name)
    return members


def sections_of(documented: Any) -> dict[griffe.DocstringSectionKind, Any]:
    """The sections of a docstring by their kinds; the text is in one piece."""
    found: dict[griffe.DocstringSectionKind, Any] = {}
    for section in documented.docstring.parsed if documented.docstring is not None else ():
        before = found.get(section.kind)
        found[section.kind] = f"{before}\n\n{section.value}" if isinstance(before, str) else section.value
    return found


def further_names(function: Any) -> dict[str, list[str]]:
    """What the arguments of *function* may be called beside their own names (``spellings.also_named``)."""
    names: dict[str, list[str]] = {}
    for decorator in getattr(function, "decorators", ()):
        call = decorator.value
        if isinstance(call, griffe.ExprCall) and str(call.function) == "also_named":
            for argument in call.arguments:
                assert isinstance(argument, griffe.ExprKeyword)
                names.setdefault(str(argument.value).strip("'\""), []).append(argument.name)
    return names


def written(expression: object) -> str:
    """An expression as our sources write it: strings in double quotes."""
    return str(expression).replace("'", '"')


def signature(name: str, function: Any, *, of_call: bool) -> str:
    """*function* under *name* with its arguments and, unless it is a constructor, what it returns.

    Args:
        name: What stands before the parenthesis.
        function: The function; of an overloaded one the first form, which is in snake_case.
        of_call: Leave out ``self`` or ``cls``.
    """
    declared = function.overloads[0] if function.overloads else function
    words, before = [], None
    for parameter in list(declared.parameters)[1 if of_call else 0 :]:
        if before == griffe.ParameterKind.positional_only != parameter.kind:
            words.append("/")
        if parameter.kind is griffe.ParameterKind.keyword_only and before is not parameter.kind:
            words.append("*")
        before = parameter.kind
        default = "" if parameter.default is None else f" = {written(parameter.default)}"
        words.append(f"{parameter.name}: {written(parameter.annotation)}{default}")
    if before is griffe.ParameterKind.positional_only:
        words.append("/")
    returns = "" if declared.returns is None or declared.name == "__init__" else f" -> {written(declared.returns)}"
    line = f"{name}({', '.join(words)}){returns}"
    if len(line) <= WIDTH:
        return line
    return "\n".join((f"{name}(", *(f"    {word}," for word in words), f"){returns}"))
