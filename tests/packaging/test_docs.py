"""The documents say what the code does."""

from __future__ import annotations

import re
from typing import Any

import pytest

from roost import Request
from roost.common import errors
from tests.packaging.settings_table import PAGE, page_with_tables
from tests.support.cluster import REPOSITORY


def test_the_tables_of_settings_are_up_to_date() -> None:
    text = PAGE.read_text()
    assert text == page_with_tables(text), "run: python -m tests.packaging.settings_table"


def test_each_exit_code_is_documented() -> None:
    text = PAGE.read_text()
    for error in errors.StartupError.__subclasses__():
        if error.__module__ == errors.__name__:
            assert re.search(rf"\| {error.exit_code} \| .*`{error.__name__}`", text), error
    assert f"| {errors.StartupError.exit_code} |" in text
    units = (REPOSITORY / "deploy" / "systemd").glob("*@.service")
    # A data folder that is in use may be free a moment later.
    codes = sorted(errors.STARTUP_EXIT_CODES - {errors.DataFolderInUse.exit_code})
    for unit in units:
        assert f"RestartPreventExitStatus={' '.join(map(str, codes))}\n" in unit.read_text()


def test_the_example_that_looks_at_the_origin_keeps_other_sites_pages_out() -> None:
    page = (REPOSITORY / "deploy" / "docs" / "writing-objects.md").read_text()
    (example,) = re.findall(r"```python\n(OUR_PAGES = .*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(f"from roost import DurableObject, Request, Response, WebSocketPair\n{example}", names)
    url, fetch = "https://chat.example/chat-room/lobby", names["ChatRoom"].fetch
    for origin in ("https://evil.example", "null", "", "https://evilchat.example", "http://chat.example"):
        assert fetch(object(), Request(url, headers={"Origin": origin})).status == 403, origin
    for headers in ({"Origin": "https://chat.example"}, {"Origin": "http://localhost:8787"}, {}):
        with pytest.raises(AttributeError, match="ctx"):  # it is accepted, for which this one has no ctx
            fetch(object(), Request(url, headers=headers))
