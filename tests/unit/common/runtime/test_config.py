"""Settings: checked values, command lines made from fields, and the folders that members meet in."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from roost.common.errors import ConfigError
from roost.common.machine.run_folder import run_folder
from roost.common.runtime.config import MemberConfig, check, describe, parse, setting, to_argv


@dataclass(frozen=True, kw_only=True)
class Example(MemberConfig):
    port: int = setting(8787, help="public port", at_least=1, at_most=65_535)
    max_message_bytes: int = setting(1 << 20, help="largest message", unit="bytes", at_least=1)
    idle_s: float = setting(10.0, help="100% idle time", unit="s", at_least=0.1)
    compression: bool = setting(False, help="offer permessage-deflate")
    vars: tuple[str, ...] = setting((), help="a variable, NAME=VALUE")
    app: str | None = setting(None, help="the app")


def test_defaults_come_from_the_fields() -> None:
    made = parse(Example, ["--name", "x"], prog="roost x")
    assert made == Example(name="x")
    assert (made.port, made.idle_s, made.compression, made.vars, made.app) == (8787, 10.0, False, (), None)
    assert made.data == Path(".roost")
    assert made.run == run_folder(Path(".roost"))


def test_options_are_the_fields_names() -> None:
    argv = "--name a.b-1 --port=1 --max-message-bytes 5 --idle-s 0.5 --compression --vars A=1 --vars B=2 --app x.py"
    made = parse(Example, [*argv.split(), "--data", "d", "--run", "/tmp/r"], prog="roost x")
    assert made == Example(
        name="a.b-1",
        port=1,
        max_message_bytes=5,
        idle_s=0.5,
        compression=True,
        vars=("A=1", "B=2"),
        app="x.py",
        data=Path("d"),
        run=Path("/tmp/r"),
    )
    assert not parse(Example, ["--name", "x", "--compression", "--no-compression"], prog="roost x").compression


def test_a_config_goes_to_another_process_as_arguments() -> None:
    made = Example(name="x", compression=True, vars=("A=1", "--b"), app="-x", idle_s=1, data=Path("d"))
    argv = to_argv(made)
    assert parse(Example, argv, prog="roost x") == made
    assert "--port" not in " ".join(argv)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--port", "0"], "port must be at least 1, got 0"),
        (["--port", "65536"], "port must be at most 65,535, got 65,536"),
        (["--port", "many"], "argument --port: invalid int value: 'many' (see roost x --help)"),
        (["--max-message-bytes", "-5"], "max_message_bytes must be at least 1 bytes, got -5"),
        (["--idle-s", "nan"], "idle_s must be a finite number, got nan"),
        (["--log-level", "loud"], "log_level must be one of debug, info, warning, error, got 'loud'"),
        (["--log-level", ""], "log_level must not be empty"),
        (["--max-message", "5"], "unrecognized arguments: --max-message 5 (see roost x --help)"),
        (["--nonsense"], "unrecognized arguments: --nonsense (see roost x --help)"),
        (["--port"], "argument --port: expected one argument (see roost x --help)"),
        (["--name", "../x"], "got '../x'"),
        (["--name", "x" * 33], "a member's name has 1 to 32 of the characters"),
    ],
)
def test_a_wrong_value_is_named_with_its_limit(argv: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        parse(Example, ["--name", "x", *argv], prog="roost x")


def test_a_required_setting_must_be_given() -> None:
    with pytest.raises(ConfigError, match="--name"):
        parse(Example, [], prog="roost x")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"port": "80"}, "port must be of type int, got '80'"),
        ({"port": True}, "port must be of type int, got True"),
        ({"compression": 1}, "compression must be of type bool, got 1"),
        ({"vars": ["A=1"]}, "vars must be a tuple of strings"),
        ({"idle_s": "1"}, "idle_s must be of type float, got '1'"),
    ],
)
def test_types_are_checked_for_configs_made_in_code(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        Example(name="x", **changes)  # type: ignore[arg-type]


def test_an_int_is_a_fine_float() -> None:
    assert Example(name="x", idle_s=3).idle_s == 3


def test_help_shows_every_setting_with_unit_bounds_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(Example, ["--help"], prog="roost x")
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "largest message (bytes; at least 1; default 1048576)" in text
    assert "public port (1 to 65,535; default 8787)" in text
    assert "100% idle time (s; at least 0.1; default 10.0)" in text
    assert "--compression, --no-compression" in text


def test_settings_describe_themselves() -> None:
    described = {item.field: item for item in describe(Example)}
    assert list(described)[:5] == ["name", "data", "run", "ready_fd", "log_level"]
    assert described["name"].required
    assert described["vars"].repeatable
    assert described["app"].optional
    assert described["max_message_bytes"].option == "--max-message-bytes"
    assert described["port"].about.bounds == "1 to 65,535"


def test_a_type_that_no_command_line_gives_is_a_defect() -> None:
    made = dataclasses.make_dataclass("Odd", [("x", dict, setting(None, help="odd"))], frozen=True)
    with pytest.raises(TypeError, match="setting x"):
        check(made())
