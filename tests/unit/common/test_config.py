"""Settings: checked values, command lines made from fields, and the folders that members meet in."""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from roost.common.config import (
    MemberConfig,
    check,
    describe,
    ipc_endpoint,
    make_run_folder,
    parse,
    run_folder,
    setting,
    to_argv,
)
from roost.common.errors import ConfigError
from roost.common.ids import Incarnation


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


# --- folders ------------------------------------------------------------------------------------------------------


def test_a_data_folder_has_one_run_folder_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("d")
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    folders = {run_folder(Path(text)) for text in ("d", "./d", "x/../d", str(tmp_path / "d"), "link")}
    assert len(folders) == 1
    folder = folders.pop()
    assert folder.parent == Path("/tmp")
    assert run_folder(Path("e")) != folder


def test_the_run_folder_is_its_owners_alone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run_folder(run)
    assert run.stat().st_mode & 0o777 == 0o700
    make_run_folder(run)
    run.chmod(0o755)
    with pytest.raises(ConfigError, match="only its owner"):
        make_run_folder(run)


def test_a_link_in_the_place_of_the_run_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "run").symlink_to("real")
    with pytest.raises(ConfigError, match="only its owner"):
        make_run_folder(tmp_path / "run")


def test_a_run_folder_in_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be made: No such file"):
        make_run_folder(tmp_path / "a" / "b")


def test_a_socket_path_fits_or_is_refused() -> None:
    run = run_folder(Path("x"))
    assert ipc_endpoint(run, "shard-1", Incarnation(7)) == f"ipc://{run}/shard-1-7.sock"
    longest = ipc_endpoint(run, "x" * 32, Incarnation(0xFFFFFFFF))
    assert len(os.fsencode(longest)) - len("ipc://") <= 107
    with pytest.raises(ConfigError, match="108 bytes and may have 107"):
        ipc_endpoint(Path("/" + "ü" * 48), "a", Incarnation(123))
