"""Settings: frozen dataclasses whose fields carry their default, unit, bounds and a sentence.

Each process has one such class. From its fields come the check of the values, the command line with ``--help``, and
the table in ``deploy/docs/operations.md``::

    @dataclass(frozen=True, kw_only=True)
    class RouterConfig(MemberConfig):
        port: int = setting(8787, help="public port", at_least=1, at_most=65_535)

    config = parse(RouterConfig, sys.argv[1:], prog="roost router")

A field may be ``bool``, ``int``, ``float``, ``str``, ``Path``, one of these ``| None``, or ``tuple[str, ...]`` (an
option that may be repeated).
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
import types
import typing
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ..errors import ConfigError
from ..machine.run_folder import DATA_FOLDER, run_folder

ConfigT = TypeVar("ConfigT")

MAX_MEMBER_NAME_CHARS = 32
"""Characters in a member's name: it is a part of socket paths."""
LOG_LEVELS = ("debug", "info", "warning", "error")

_MEMBER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_KEY = "roost.setting"


@dataclass(frozen=True, slots=True)
class Setting:
    """What a field says of itself beside its type and default.

    Attributes:
        help: One sentence, without a full stop.
        unit: Unit of the bare number, such as ``s`` or ``bytes``.
        at_least: Smallest value allowed.
        at_most: Largest value allowed.
        choices: The values allowed, when they can be listed.
    """

    help: str
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    choices: tuple[Any, ...] | None = None

    @property
    def bounds(self) -> str:
        """The bounds in words, for ``--help`` and the docs; empty when there are none."""
        if self.choices is not None:
            return "one of " + ", ".join(map(str, self.choices))
        if self.at_least is not None and self.at_most is not None:
            return f"{self.at_least:,} to {self.at_most:,}"
        if self.at_least is not None:
            return f"at least {self.at_least:,}"
        if self.at_most is not None:
            return f"at most {self.at_most:,}"
        return ""


def setting(
    default: Any = MISSING,
    *,
    help: str,
    unit: str = "",
    at_least: float | None = None,
    at_most: float | None = None,
    choices: Sequence[Any] | None = None,
) -> Any:
    """A dataclass field that is a setting; see ``Setting`` for the arguments. Without *default* it must be given."""
    about = Setting(help, unit, at_least, at_most, None if choices is None else tuple(choices))
    return dataclasses.field(default=default, metadata={_KEY: about})


@dataclass(frozen=True, slots=True)
class Described:
    """One setting of a config class, for docs and command lines."""

    field: str
    option: str
    kind: type
    optional: bool
    repeatable: bool
    default: Any
    required: bool
    about: Setting


def describe(cls: type[Any]) -> list[Described]:
    """The settings of *cls* in the order of their fields."""
    hints = typing.get_type_hints(cls)
    found = []
    for field in dataclasses.fields(cls):
        kind, optional, repeatable = _kind(hints[field.name], field.name)
        found.append(
            Described(
                field=field.name,
                option="--" + field.name.replace("_", "-"),
                kind=kind,
                optional=optional,
                repeatable=repeatable,
                default=None if field.default is MISSING else field.default,
                required=field.default is MISSING,
                about=field.metadata[_KEY],
            )
        )
    return found


def _kind(hint: Any, name: str) -> tuple[type, bool, bool]:
    optional = False
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        inner = [arg for arg in typing.get_args(hint) if arg is not types.NoneType]
        optional = len(inner) < len(typing.get_args(hint))
        if len(inner) != 1:
            raise TypeError(f"setting {name} has a type with several alternatives: {hint}")
        hint = inner[0]
    if hint == tuple[str, ...]:
        return str, optional, True
    if hint not in (bool, int, float, str, Path):
        raise TypeError(f"setting {name} has a type that no command line can give: {hint}")
    return hint, optional, False


def check(config: object) -> None:
    """Check each field of *config* against its type and bounds; call it in ``__post_init__``.

    Raises:
        ConfigError: naming the field, its value and what it may be.
    """
    for item in describe(type(config)):
        value = getattr(config, item.field)
        if value is None and item.optional:
            continue
        if item.repeatable:
            if not isinstance(value, tuple) or not all(isinstance(part, str) for part in value):
                raise ConfigError(f"{item.field} must be a tuple of strings, got {value!r}")
            continue
        _check_one(item, value)


def _check_one(item: Described, value: Any) -> None:
    about, kind = item.about, item.kind
    # An int is a fine float; a bool is an int to Python, but never meant as one.
    fits = isinstance(value, (int, float) if kind is float else kind) and isinstance(value, bool) == (kind is bool)
    if not fits:
        raise ConfigError(f"{item.field} must be of type {kind.__name__}, got {value!r}")
    if kind is str and not value and item.default:
        # Of a variable that is not set, mostly: an empty host, say, would be every address of the machine.
        raise ConfigError(f"{item.field} must not be empty")
    if kind is float and not math.isfinite(value):
        raise ConfigError(f"{item.field} must be a finite number, got {value!r}")
    unit = f" {about.unit}" if about.unit else ""
    if about.at_least is not None and value < about.at_least:
        raise ConfigError(f"{item.field} must be at least {about.at_least:,}{unit}, got {value:,}")
    if about.at_most is not None and value > about.at_most:
        raise ConfigError(f"{item.field} must be at most {about.at_most:,}{unit}, got {value:,}")
    if about.choices is not None and value not in about.choices:
        raise ConfigError(f"{item.field} must be {about.bounds}, got {value!r}")


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ours, so that they reach the supervisor like any other failed start."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see {self.prog} --help)")


def parse(cls: type[ConfigT], argv: Sequence[str], *, prog: str, description: str | None = None) -> ConfigT:
    """Make a *cls* from command-line arguments: ``max_message_bytes`` is ``--max-message-bytes``.

    A ``bool`` has ``--x`` and ``--no-x``; a ``tuple[str, ...]`` is given by repeating its option. ``--help`` prints
    all settings and exits with code 0.

    Raises:
        ConfigError: An unknown option, a missing one, or a value that is out of range.
    """
    parser = _Parser(prog=prog, description=description, allow_abbrev=False)
    for item in describe(cls):
        _add_option(parser, item)
    return cls(**vars(parser.parse_args(list(argv))))


def _add_option(parser: argparse.ArgumentParser, item: Described) -> None:
    about = item.about
    notes = [note for note in (about.unit, about.bounds) if note]
    if item.required:
        notes.append("required")
    elif item.default not in (None, "", ()):
        notes.append(f"default {item.default}")
    text = about.help + (f" ({'; '.join(notes)})" if notes else "")
    common: dict[str, Any] = {
        "dest": item.field,
        "help": text.replace("%", "%%"),
        "default": argparse.SUPPRESS,  # what is not given is left to the dataclass
        "required": item.required,
    }
    if item.kind is bool:
        parser.add_argument(item.option, action=argparse.BooleanOptionalAction, **common)
    elif item.repeatable:
        parser.add_argument(item.option, action=_Collect, metavar="TEXT", **common)
    else:
        metavar = {int: "N", float: "X", Path: "PATH"}.get(item.kind, "TEXT")
        parser.add_argument(item.option, type=item.kind, metavar=metavar, **common)


def to_argv(config: object) -> list[str]:
    """The arguments from which ``parse`` makes *config* again, for starting another process; defaults are left out."""
    words = []
    for item in describe(type(config)):
        value = getattr(config, item.field)
        if not item.required and value == item.default:
            continue
        if item.kind is bool:
            words.append(item.option if value else "--no-" + item.option.removeprefix("--"))
        else:
            # One word each, so that a value may start with a dash.
            words += [f"{item.option}={part}" for part in (value if item.repeatable else (value,))]
    return words


class _Collect(argparse.Action):
    """Collects a repeated option into a tuple."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        setattr(namespace, self.dest, (*getattr(namespace, self.dest, ()), values))


# --- what routers and shards share ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class MemberConfig:
    """The settings that every member of a cluster has; a subclass that checks more calls
    ``MemberConfig.__post_init__(self)`` first."""

    name: str = setting(help="this member's name, unique in its cluster, the same at each of its starts")
    data: Path = setting(DATA_FOLDER, help="data folder: what must outlive the processes")
    run: Path = setting(None, help="run folder: sockets, locks and counters; by default derived from the data folder")
    ready_fd: int = setting(-1, help="descriptor to which one line of JSON goes once the start succeeded or failed")
    log_level: str = setting("info", help="least severe log records to write", choices=LOG_LEVELS)

    def __post_init__(self) -> None:
        if self.run is None:
            object.__setattr__(self, "run", run_folder(self.data))
        check(self)
        check_member_name(self.name)


def check_member_name(name: str) -> None:
    """Refuse a member's name that cannot stand in a file name, or is too long.

    Raises:
        ConfigError: with the name and the rule.
    """
    if not _MEMBER_NAME.fullmatch(name) or len(name) > MAX_MEMBER_NAME_CHARS:
        raise ConfigError(
            f"a member's name has 1 to {MAX_MEMBER_NAME_CHARS} of the characters A-Z a-z 0-9 . _ - and starts with a "
            f"letter or digit, got {name[:80]!r}"
        )
