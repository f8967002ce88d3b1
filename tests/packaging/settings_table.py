"""The tables of settings in ``deploy/docs/operations.md``, made from the config classes.

``python -m tests.packaging.settings_table`` brings the page up to date; a test fails while it is not.
"""

from __future__ import annotations

import re
from typing import Any

from roost.common.runtime.config import describe
from roost.common.settings.router import RouterConfig
from roost.common.settings.shard import ShardConfig
from roost.deploy.loadtest.config import LoadConfig
from roost.deploy.plan.config import UpConfig
from tests.support.cluster import REPOSITORY

PAGE = REPOSITORY / "deploy" / "docs" / "operations.md"
COMMANDS: dict[str, type[Any]] = {
    "roost up": UpConfig,
    "roost router": RouterConfig,
    "roost shard": ShardConfig,
    "roost load": LoadConfig,
}
ARGUMENTS = {(UpConfig, "app"), (LoadConfig, "url")}
"""Settings that are a command's argument rather than an option."""


def table(cls: type[Any]) -> str:
    """The settings of a config class as a Markdown table."""
    lines = ["| option | default | unit | allowed | what |", "| --- | --- | --- | --- | --- |"]
    for item in describe(cls):
        if (cls, item.field) in ARGUMENTS:
            continue
        default = "required" if item.required else f"`{item.default}`" if item.default not in (None, "", ()) else ""
        option = item.option.replace("--", "--[no-]", 1) if item.kind is bool else item.option
        bounds = item.about.bounds
        lines.append(f"| `{option}` | {default} | {item.about.unit} | {bounds} | {item.about.help} |")
    return "\n".join(lines)


def page_with_tables(page: str) -> str:
    """The page with each table as it should be."""
    for command, cls in COMMANDS.items():
        pattern = re.compile(rf"(?<=<!-- settings: {command} -->\n).*?(?=<!-- end -->)", re.DOTALL)
        place = pattern.search(page)
        assert place, f"the page has no place for the settings of {command}"
        page = f"{page[: place.start()]}{table(cls)}\n{page[place.end() :]}"
    return page


if __name__ == "__main__":
    PAGE.write_text(page_with_tables(PAGE.read_text()))
