from __future__ import annotations

from typing import Any

import pytest

from roost.common.errors import ConfigError
from roost.common.runtime.config import parse
from roost.common.settings.shard import ShardConfig


def config(**fields: Any) -> ShardConfig:
    return ShardConfig(**({"app": "app.py", "name": "shard-1"} | fields))


def test_defaults() -> None:
    made = config()
    assert (made.hibernate_after_s, made.max_attachment_bytes) == (10.0, 2_048)
    assert made.variables == {}


def test_variables() -> None:
    made = config(vars=("A=1", "B=x=y", "A=2", "_c="))
    assert made.variables == {"A": "2", "B": "x=y", "_c": ""}


@pytest.mark.parametrize("text", ["A", "=1", "1A=x", "A-B=x", "__init__=x", "a b=x"])
def test_what_is_no_variable(text: str) -> None:
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        config(vars=(text,))


@pytest.mark.parametrize(
    "fields",
    [
        {"hibernate_after_s": 0.09},
        {"max_attachment_bytes": 16_385},
        {"max_attachment_bytes": 0},
        {"initial_shards": 0},
        {"initial_shards": 4_097},
        {"drain_timeout_s": -1.0},
    ],
    ids=repr,
)
def test_out_of_range(fields: dict[str, Any]) -> None:
    (name,) = fields
    with pytest.raises(ConfigError, match=name):
        config(**fields)


def test_command_line() -> None:
    words = ["--app", "app.py", "--name", "s", "--hibernate-after-s", "0.1", "--vars", "A=1", "--vars", "B=2"]
    made = parse(ShardConfig, words, prog="roost shard")
    assert made.hibernate_after_s == 0.1
    assert made.variables == {"A": "1", "B": "2"}
