"""``deploy/docs/api.md``: the reference of everything that ``from roost import …`` gives, made from the docstrings.

``python -m tests.packaging.api_page`` writes the page; a test fails while the page is not up to date. ``api_source``
reads the sources, ``api_outline`` has what no docstring can say.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import griffe

from roost.common.runtime.config import describe
from roost.common.settings.router import RouterConfig
from roost.common.settings.shard import ShardConfig
from roost.deploy.plan.config import UpConfig
from tests.packaging.api_outline import ERRORS, LIMITS, LIMITS_OPENING, OPENING, SECTIONS, TYPES, Limit, Shown
from tests.packaging.api_source import WIDTH, Member, further_names, load, members_of, sections_of, signature, written
from tests.support.cluster import REPOSITORY

PAGE = REPOSITORY / "deploy" / "docs" / "api.md"
COMMAND = "python -m tests.packaging.api_page"

_CODE = re.compile(r"``(.+?)``|(?<![\w*])\*(\w+)\*(?![\w*])", re.DOTALL)
"""In a docstring: a piece of code, or the name of an argument."""
_DOCUMENT = re.compile(r"deploy/docs/(([\w-]+)\.md)")
_CONFIGS = {"router": RouterConfig, "shard": ShardConfig, "up": UpConfig}

Kind = griffe.DocstringSectionKind


def anchor_of(heading: str) -> str:
    """The anchor that viewers of Markdown give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


class Page:
    """The page, made part by part.

    Args:
        package: ``roost``, as griffe has read it.
    """

    def __init__(self, package: griffe.Module) -> None:
        public = {name: package["shard"][name].final_target for name in package["shard"].exports}
        shown = {each.name for section in SECTIONS for each in section.classes}
        self._classes = {name: cls for name, cls in public.items() if name in shown}
        errors = [cls for cls in public.values() if cls.path.startswith("roost.common.errors.")]
        self._errors = {cls.name: cls for cls in sorted(errors, key=lambda cls: cls.lineno)}
        self._types = {name: package[module.removeprefix("roost.")][name] for name, module in TYPES.items()}
        unplaced = public.keys() - self._classes.keys() - self._errors.keys()
        if unplaced:
            raise ValueError(f"the page has no place for {', '.join(sorted(unplaced))}: see api_outline.SECTIONS")
        self._parts: list[str] = []
        self._raised_by: dict[str, dict[str, None]] = {}
        self._anchors = {name: anchor_of(name) for name in (*public, *self._types)}
        self._called = {name: name for name in public}
        for each in (each for section in SECTIONS for each in section.classes):
            for member in self._entries(each.name):
                anchor = anchor_of(f"{each.receiver}.{member.name}")
                if anchor in self._anchors.values():
                    raise ValueError(f"two entries of the page have the anchor {anchor}")
                called = self._called[f"{each.name}.{member.name}"] = f"{each.receiver}.{member.name}"
                self._anchors[f"{each.name}.{member.name}"] = self._anchors[called] = anchor

    def _entries(self, name: str) -> list[Member]:
        """The members of a class with a place of their own: the others are in its list of attributes."""
        return [member for member in members_of(self._classes[name]).values() if member.is_documented]

    def write(self) -> str:
        """The whole page."""
        self._add("# Reference", f"*Made from the docstrings by `{COMMAND}`; do not edit.*", OPENING)
        self._add_contents()
        for section in SECTIONS:
            self._add(f"## {section.title}", section.opening)
            for shown in section.classes:
                self._add_class(shown)
        self._add_types()
        self._add_errors()
        self._add_limits()
        return "\n\n".join(part.strip() for part in self._parts if part) + "\n"

    def _add(self, *parts: str) -> None:
        self._parts += parts

    # --- text ---

    def _linked(self, code: str, here: str = "") -> str:
        """A piece of code as Markdown, linked when the page has what it names.

        Args:
            code: The code.
            here: What the text is about, a class or a member: that is not linked, and its neighbours may be named
                without their class.
        """
        name = code.split("(")[0]
        anchor = self._anchors.get(f"{here.partition('.')[0]}.{name}") or self._anchors.get(name)
        return f"`{code}`" if anchor in (None, self._anchors.get(here)) else f"[`{code}`](#{anchor})"

    def _text(self, text: str, here: str = "") -> str:
        """Text of a docstring as Markdown."""

        def marked(match: re.Match[str]) -> str:
            code, argument = match.groups()
            if argument is not None:
                return f"`{argument}`"
            document = _DOCUMENT.fullmatch(code)
            return f"[{document[2].replace('-', ' ')}]({document[1]})" if document else self._linked(code, here)

        return _CODE.sub(marked, text)

    def _line(self, text: str, here: str = "") -> str:
        return self._text(" ".join(text.split()), here)

    # --- the parts ---

    def _add_contents(self) -> None:
        lines = ["## Contents", ""]
        for section in SECTIONS:
            names = ", ".join(self._linked(each.name) for each in section.classes)
            lines.append(f"* [{section.title}](#{anchor_of(section.title)}): {names}")
        lines.append(f"* [Types](#types): {', '.join(map(self._linked, self._types))}")
        lines.append(f"* [Errors](#errors): {', '.join(map(self._linked, self._errors))}")
        lines.append("* [Limits](#limits)")
        self._add("\n".join(lines))

    def _add_class(self, shown: Shown) -> None:
        cls = self._classes[shown.name]
        sections = sections_of(cls)
        self._add(f"### {shown.name}", self._text(sections[Kind.text], shown.name))
        if shown.made_by_users:
            self._add(_code(signature(shown.name, cls.all_members["__init__"], of_call=True)))
        self._add_details(sections, shown.name)
        entries = self._entries(shown.name)
        if len(entries) > 1:
            self._add(self._table_of(shown.name, entries))
        for member in entries:
            self._add_member(shown, member)

    def _table_of(self, name: str, entries: list[Member]) -> str:
        spelt_twice = any(member.spellings for member in entries)
        rows = [["name", "other spelling", "what"], ["---"] * 3]
        for member in entries:
            spellings = ", ".join(f"`{spelling}`" for spelling in member.spellings)
            link = f"[`{member.name}`](#{self._anchors[f'{name}.{member.name}']})"
            rows.append([link, spellings, self._line(_first_sentence(member.found.docstring.value), name)])
        return _table(rows if spelt_twice else [[first, last] for first, _, last in rows])

    def _add_member(self, shown: Shown, member: Member) -> None:
        found, here = member.found, f"{shown.name}.{member.name}"
        self._add(f"#### `{shown.receiver}.{member.name}`")
        receiver = shown.name if "classmethod" in found.labels else shown.receiver
        if not found.is_function:
            self._add(_code(f"{receiver}.{member.name}{_kind_of(found)}"))
        elif shown.is_extended:
            self._add(_code(signature(f"def {member.name}", found, of_call=False)))
        else:
            self._add(_code(signature(f"{receiver}.{member.name}", found, of_call=True)))
        if member.spellings:
            self._add(f"Also {' and '.join(f'`{name}`' for name in member.spellings)}.")
        sections = sections_of(found)
        self._add(self._text(sections[Kind.text], here))
        self._add_details(sections, here)

    def _add_details(self, sections: dict[Kind, Any], here: str) -> None:
        """Arguments, attributes, what is returned and what is raised: *here*, a class or one of its members."""
        cls, _, name = here.partition(".")
        members = members_of(self._classes[cls])
        names = further_names(members[name].found) if name else {}

        def argument(each: Any) -> str:
            return _names(each.name, names.get(each.name, ()))

        def attribute(each: Any) -> str:
            member = members[each.name]
            return f"{_names(each.name, member.spellings)} (`{_kind_of(member.found).lstrip(': =')}`)"

        def errors(each: Any) -> str:
            kinds = str(each.annotation).strip("()").split(", ")
            for kind in kinds:
                self._raised_by.setdefault(kind, {})[self._called[here]] = None
            return ", ".join(map(self._linked, kinds))

        lists: list[tuple[str, Kind, Callable[[Any], str]]] = [
            ("Arguments", Kind.parameters, argument),
            ("Attributes", Kind.attributes, attribute),
            ("Returns", Kind.returns, lambda each: ""),
            ("Raises", Kind.raises, errors),
        ]
        for title, kind, left in lists:
            if kind is Kind.returns and kind in sections:
                self._add(f"{title}: {self._line(sections[kind][0].description, here)}")
            elif kind in sections:
                lines = [f"* {left(each)}: {self._line(each.description, here)}" for each in sections[kind]]
                self._add(f"{title}:", "\n".join(lines))

    def _add_types(self) -> None:
        self._add("## Types", "What signatures above call by a name of its own; nobody needs to import these.")
        for name, found in self._types.items():
            text = self._text(sections_of(found)[Kind.text], name)
            self._add(f"### {name}", _code(_definition(name, found)), text)

    def _add_errors(self) -> None:
        self._add("## Errors", ERRORS)
        for name, cls in self._errors.items():
            types = {each.name: each.annotation for each in cls.parameters}
            facts = [f"`{fact}` (`{types[fact]}`)" for fact in members_of(cls)]
            lists = [
                ("Extends", [self._linked(str(base)) for base in cls.bases]),
                ("Attributes", facts),
                ("Raised by", [self._linked(each) for each in self._raised_by.get(name, ())]),
            ]
            self._add(f"### {name}", self._text(sections_of(cls)[Kind.text], name))
            self._add("\n".join(f"* {title}: {', '.join(items)}" for title, items in lists if items))

    def _add_limits(self) -> None:
        rows = [["what", "limit", "beyond it", "setting"], ["---"] * 4]
        rows += [[limit.what, _amount(limit.value, limit.unit), limit.beyond, _setting(limit)] for limit in LIMITS]
        linked = [[re.sub("`([^`]+)`", lambda match: self._linked(match[1]), cell) for cell in row] for row in rows]
        self._add("## Limits", LIMITS_OPENING, _table(linked))


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _table(rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def _names(name: str, others: Any) -> str:
    return ", also ".join(f"`{each}`" for each in (name, *others))


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.;:])\s", " ".join(text.split("\n\n")[0].split()))[0].rstrip(";:")


def _kind_of(attribute: Any) -> str:
    """Type of an attribute, and its value if the class has one: ``: bool = True``."""
    kind = re.sub(r"^ClassVar\[(.*)\]$", r"\1", written(attribute.annotation or ""))
    has_value = "class-attribute" in attribute.labels and attribute.value is not None
    return (f": {kind}" if kind else "") + (f" = {written(attribute.value)}" if has_value else "")


def _definition(name: str, found: Any) -> str:
    line = f"{name} = {written(found.value)}"
    return line if len(line) <= WIDTH else f"{name} = (\n    {written(found.value)}\n)"


def _amount(value: float, unit: str) -> str:
    if unit == "bytes" and value >= 1 << 16:
        return f"{value / (1 << 20):g} MiB" if value >= 1 << 20 else f"{value / (1 << 10):g} KiB"
    return f"{value:,} {unit}" if isinstance(value, int) else f"{value:g} {unit}"


def _setting(limit: Limit) -> str:
    """How a limit is set; checks that there is such a setting, and that it is the limit's."""
    if not limit.setting:
        return ""
    whose, _, name = limit.setting.partition(".")
    (setting,) = (each for each in describe(_CONFIGS[whose]) if each.field == name)
    if setting.default != limit.value:
        raise ValueError(f"{limit.setting} is {setting.default} by default, and the page says {limit.value}")
    most = f", up to {_amount(setting.about.at_most, limit.unit)}" if setting.about.at_most is not None else ""
    return f"`{setting.option if whose == 'up' else limit.setting}`{most}"


def page() -> str:
    """The page as it should be."""
    with tempfile.TemporaryDirectory() as folder:
        return Page(load(Path(folder))).write()


if __name__ == "__main__":
    PAGE.write_text(page())
