"""The settings of a run, and what they contradict."""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from roost.common.errors import ConfigError
from roost.deploy.loadtest.command import load
from roost.deploy.loadtest.config import LoadConfig
from roost.deploy.loadtest.worker import config_from_dict, config_to_dict


def config(**settings: Any) -> LoadConfig:
    return LoadConfig(**{"url": "ws://h/{object}"} | settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "ws://h/room", "objects": 2}, "need {object} in the URL"),
        ({"connections": 3, "objects": 4}, "cannot spread"),
        ({"size": 39}, "at least 40 bytes"),
        ({"processes": "many"}, "processes must be"),
        ({"processes": "65"}, "processes must be"),
        ({"mode": "broadcast", "rate": 50_000}, "at most 200,000"),
        ({"report": Path("x.pdf")}, ".html or .png"),
        ({"mode": "both"}, "one of"),
        ({"rate": 0.0}, "at least"),
    ],
)
def test_what_cannot_be(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("{", "\\{")):
        config(**settings)


@pytest.mark.parametrize(
    ("settings", "echoes", "broadcasts", "frames"),
    [
        ({"mode": "idle"}, 0, 0, 0),
        ({}, 1_000, 0, 1_000),
        ({"rate": 5.0}, 5, 0, 5),
        ({"mode": "broadcast", "objects": 4}, 0, 1, 25),
        ({"mode": "broadcast", "rate": 8.0}, 0, 8, 800),
        ({"mode": "mixed", "rate": 50.0, "broadcast_rate": 2.0}, 50, 2, 250),
    ],
)
def test_rates(settings: dict[str, Any], echoes: float, broadcasts: float, frames: float) -> None:
    found = config(**settings)
    assert (found.echoes_per_s, found.broadcasts_per_s, found.frames_per_s) == (echoes, broadcasts, frames)


def test_settings_travel() -> None:
    one = config(header=("A: b",), report=Path("x.html"), rate=3.5, binary=True, source=("127.0.0.9",))
    assert config_from_dict(json.loads(json.dumps(config_to_dict(one)))) == one


def test_each_setting_is_an_option_of_the_command() -> None:
    assert list(inspect.signature(load).parameters) == [field.name for field in dataclasses.fields(LoadConfig)]
