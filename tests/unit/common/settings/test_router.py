"""The router's settings."""

from __future__ import annotations

import pytest

from roost.common import limits
from roost.common.errors import ConfigError
from roost.common.runtime.config import parse
from roost.common.settings.router import RouterConfig


def test_defaults_are_the_designs() -> None:
    config = parse(RouterConfig, ["--name", "r1"], prog="roost router")
    assert (config.host, config.port, config.compression) == ("127.0.0.1", 8787, False)
    assert config.max_message_bytes == limits.MAX_MESSAGE_BYTES
    assert config.ping_interval_s == limits.PING_INTERVAL_S


def test_options() -> None:
    config = parse(RouterConfig, ["--name", "r1", "--port", "1", "--compression", "--ping-interval-s", "0.5"], prog="x")
    assert (config.port, config.compression, config.ping_interval_s) == (1, True, 0.5)


@pytest.mark.parametrize("arguments", [["--port", "65536"], ["--max-message-bytes", "0"], ["--ping-timeout-s", "0"]])
def test_bounds(arguments: list[str]) -> None:
    with pytest.raises(ConfigError):
        parse(RouterConfig, ["--name", "r1", *arguments], prog="x")
