"""The reference of the API: it is up to date, and says something of everything that users can reach."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator
from typing import Any

import griffe
import pytest

import roost
from tests.packaging.api_outline import SECTIONS
from tests.packaging.api_page import COMMAND, PAGE, Kind, anchor_of, page
from tests.packaging.api_source import load, members_of, sections_of

SHOWN = [shown.name for section in SECTIONS for shown in section.classes]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> griffe.Module:
    return load(tmp_path_factory.mktemp("sources"))


def documented(package: griffe.Module) -> Iterator[tuple[str, Any]]:
    """The classes of the reference and their functions, by their names."""
    for name in SHOWN:
        cls = package["shard"][name].final_target
        yield name, cls
        for member in members_of(cls).values():
            if member.found.is_function:
                yield f"{name}.{member.name}", member.found


def test_it_is_up_to_date(caplog: pytest.LogCaptureFixture) -> None:
    made = page()
    assert not caplog.messages, "what griffe says of docstrings that do not fit their signatures"
    assert PAGE.read_text() == made, f"run: {COMMAND}"


def test_its_links_lead_to_one_place_each() -> None:
    text = PAGE.read_text()
    anchors = [anchor_of(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
    links = re.findall(r"\]\(#([^)]*)\)", text)
    assert len(links) > 200
    assert not {link for link in links if anchors.count(link) != 1}
    for page_of_docs in re.findall(r"\]\(([^)#]+\.md)", text):
        assert (PAGE.parent / page_of_docs).is_file()


def test_it_has_everything_that_is_public() -> None:
    headings = re.findall(r"^### (.*)$", PAGE.read_text(), re.MULTILINE)
    assert set(roost.__all__) <= set(headings)


@pytest.mark.parametrize("name", SHOWN)
def test_each_public_member_is_documented(package: griffe.Module, name: str) -> None:
    cls = package["shard"][name].final_target
    listed = {each.name for each in sections_of(cls).get(Kind.attributes, ())}
    members = members_of(cls)
    assert not [each.name for each in members.values() if not each.is_documented and each.name not in listed]
    assert listed <= members.keys(), "its attributes are members"


def test_each_argument_is_described(package: griffe.Module) -> None:
    left_out = []
    for name, found in documented(package):
        if found.is_function and str(found.returns) != "NoReturn":
            sections = sections_of(found)
            described = {each.name for each in sections.get(Kind.parameters, ())}
            described |= set(re.findall(r"\*(\w+)\*", sections[Kind.text]))
            left_out += [(name, each.name) for each in found.parameters if each.name not in {"self", "cls"} | described]
    assert not left_out


def test_each_error_that_a_docstring_names_can_be_caught(package: griffe.Module) -> None:
    known = {*roost.__all__, *vars(builtins)}
    for name, found in documented(package):
        for error in sections_of(found).get(Kind.raises, ()):
            names = str(error.annotation).strip("()").split(", ")
            assert set(names) <= known, name
