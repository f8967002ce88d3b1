"""The documents say what the code does."""

from __future__ import annotations

import re

from roost.common import errors
from tests.cluster import REPOSITORY
from tests.packaging.settings_table import PAGE, page_with_tables


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
