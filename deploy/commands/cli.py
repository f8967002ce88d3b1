"""The command ``roost``. Its exit codes stand in ``_EXIT_CODES``, which each ``--help`` shows.

What one command alone needs is imported by it, where that takes long: the others are called beside a cluster at work.
"""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ...common.errors import RoostError
from ...common.machine.system import check_system
from ...common.runtime.config import describe
from ...common.runtime.logs import escaped
from ...common.runtime.processes import python_words
from ...common.runtime.startup import report_error
from ..loadtest.command import EXIT_CODES as LOAD_EXIT_CODES
from ..loadtest.command import load
from ..plan.changes import ChangeFailed
from ..plan.config import UpConfig
from ..plan.reloading import CANARY_S, LONGEST_CANARY_S
from ..processes.log_file import log_path
from ..report.status import render
from ..report.tables import show, width_of
from . import client
from .background import start_in_background

_EXIT_CODES = (
    "Exit codes: 0 done · 1 no cluster, or an unexpected error · 2 wrong usage · 70 the start failed · "
    "71 a setting is wrong · 72 the app cannot be used · 73 a port is taken · 74 descriptors are too few · "
    "75 the data folder is in use · 76 the system will not do."
)

app = typer.Typer(
    name="roost",
    help="A self-hosted home for Durable Objects with hibernatable WebSockets.",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_UP = {item.field: item for item in describe(UpConfig)}


def _option(field: str, *names: str) -> Any:
    """The option of a field of ``UpConfig``: its sentence, unit and bounds are said there."""
    item = _UP[field]
    notes = "; ".join(note for note in (item.about.unit, item.about.bounds) if note)
    return typer.Option(*(names or (item.option,)), help=item.about.help + (f" ({notes})" if notes else ""))


_DEFAULT = {item.field: item.default for item in _UP.values()}
_REQUIREMENTS = typer.Option(
    "--requirements", help="a requirements.txt of the app: installed with pip first, when it has changed"
)
_DEVELOPMENT_DRAIN_S = 1.0
"""Seconds that members have to end in development: Ctrl-C is to be the end."""
_DATA = _option("data")
_RUN = _option("run")


@app.command(epilog=_EXIT_CODES)
def up(
    app: Annotated[str, typer.Argument(help=_UP["app"].about.help, show_default=False)] = "",
    routers: Annotated[int, _option("routers")] = _DEFAULT["routers"],
    shards: Annotated[int, _option("shards")] = _DEFAULT["shards"],
    host: Annotated[str, _option("host")] = _DEFAULT["host"],
    port: Annotated[int, _option("port")] = _DEFAULT["port"],
    admin_port: Annotated[int, _option("admin_port")] = _DEFAULT["admin_port"],
    data: Annotated[Path, _DATA] = _DEFAULT["data"],
    run: Annotated[Path | None, _RUN] = None,
    background: Annotated[
        bool, typer.Option("-d", "--detach", help="run in the background; returns once the cluster serves")
    ] = False,
    hibernate_after: Annotated[float, _option("hibernate_after")] = _DEFAULT["hibernate_after"],
    var: Annotated[list[str] | None, _option("var")] = None,
    connections: Annotated[int, _option("connections")] = _DEFAULT["connections"],
    set: Annotated[list[str] | None, _option("set")] = None,
    grace: Annotated[float, _option("grace")] = _DEFAULT["grace"],
    stall_kill: Annotated[float, _option("stall_kill")] = _DEFAULT["stall_kill"],
    watch: Annotated[bool, _option("watch", "--watch")] = _DEFAULT["watch"],
    start_timeout: Annotated[float, _option("start_timeout")] = _DEFAULT["start_timeout"],
    drain_timeout: Annotated[float, _option("drain_timeout")] = _DEFAULT["drain_timeout"],
    log_level: Annotated[str, _option("log_level")] = _DEFAULT["log_level"],
    requirements: Annotated[Path | None, _REQUIREMENTS] = None,
) -> None:
    """Start a cluster on this machine: routers, shards, and their supervisor.

    Members that an earlier supervisor left in the data folder are taken over, and become what this command says.
    """
    config = UpConfig(
        app=app,
        routers=routers,
        shards=shards,
        host=host,
        port=port,
        admin_port=admin_port,
        data=data,
        run=run,  # type: ignore[arg-type]  # None: derived from data
        hibernate_after=hibernate_after,
        var=tuple(var or ()),
        connections=connections,
        set=tuple(set or ()),
        grace=grace,
        stall_kill=stall_kill,
        watch=watch,
        start_timeout=start_timeout,
        drain_timeout=drain_timeout,
        log_level=log_level,
    )
    _install(requirements)
    if not background:
        from ..supervisor.supervisor import serve

        raise typer.Exit(serve(config, announce=_say))
    pid = start_in_background(config)
    _say(f"roost serves at {config.url} (supervisor {pid}, log {log_path(config.data)})")


@app.command(epilog=_EXIT_CODES)
def dev(
    app: Annotated[str, typer.Argument(help=_UP["app"].about.help, show_default=False)] = "",
    host: Annotated[str, _option("host")] = _DEFAULT["host"],
    port: Annotated[int, _option("port")] = _DEFAULT["port"],
    data: Annotated[Path, _DATA] = _DEFAULT["data"],
    hibernate_after: Annotated[float, _option("hibernate_after")] = _DEFAULT["hibernate_after"],
    var: Annotated[list[str] | None, _option("var")] = None,
    set: Annotated[list[str] | None, _option("set")] = None,
    log_level: Annotated[str, _option("log_level")] = _DEFAULT["log_level"],
    requirements: Annotated[Path | None, _REQUIREMENTS] = None,
) -> None:
    """Run an app while you write it: one router, one shard, and new code as soon as a file is saved.

    Sockets stay open when code changes. Errors are shown in the answers and here, as is what is asked, printed and
    logged; breakpoint() stops in this terminal.
    """
    from ..supervisor.supervisor import serve

    config = UpConfig(
        app=app,
        routers=1,
        shards=1,
        host=host,
        port=port,
        admin_port=0,
        data=data,
        hibernate_after=hibernate_after,
        var=tuple(var or ()),
        set=tuple(set or ()),
        watch=True,
        development=True,
        drain_timeout=_DEVELOPMENT_DRAIN_S,
        log_level=log_level,
    )
    _install(requirements)
    raise typer.Exit(serve(config, announce=_say))


@app.command(epilog=_EXIT_CODES)
def status(
    data: Annotated[Path, _DATA] = _DEFAULT["data"],
    run: Annotated[Path | None, _RUN] = None,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON, for programs")] = False,
) -> None:
    """Show a running cluster: processes, slots, objects, connections, rates."""
    found = client.status(data, run)
    if as_json:
        _say(json.dumps(found.to_dict(), indent=2))
    else:
        console = Console()
        show(console, render(found, width_of(console)))


@app.command(epilog=_EXIT_CODES)
def scale(
    shards: Annotated[
        int | None, typer.Option(help="shards that there should be (1 to 64); as many as there are by default")
    ] = None,
    routers: Annotated[int | None, typer.Option(help="the same for routers")] = None,
    data: Annotated[Path, _DATA] = _DEFAULT["data"],
    run: Annotated[Path | None, _RUN] = None,
) -> None:
    """Grow or shrink a running cluster; sockets stay, but for those of a router that leaves (Close 1001)."""
    if shards is None and routers is None:
        raise typer.BadParameter("say how many there should be: --shards, --routers or both")
    _say(client.scale(data, shards=shards, routers=routers, say=_say_progress, run=run))


@app.command(epilog=_EXIT_CODES)
def check(
    app: Annotated[str, typer.Argument(help=_UP["app"].about.help, show_default=False)] = "",
    var: Annotated[list[str] | None, _option("var")] = None,
    set: Annotated[list[str] | None, _option("set")] = None,
    start_timeout: Annotated[float, _option("start_timeout")] = _DEFAULT["start_timeout"],
) -> None:
    """Try an app without a cluster: load it as a shard would, and construct an object of each class with a trial_name.

    `roost reload` does the same before it touches a shard.
    """
    from ..processes.trial import check_app

    config = UpConfig(app=app, var=tuple(var or ()), set=tuple(set or ()), start_timeout=start_timeout)
    _say(check_app(config))


@app.command(epilog=_EXIT_CODES)
def reload(
    app: Annotated[
        str | None, typer.Argument(help="the new app; the one that runs when it is not given", show_default=False)
    ] = None,
    canary: Annotated[
        float,
        typer.Option(
            help="seconds to watch the first shard with the new code before the others follow, "
            "and all of them after the last one",
            min=0,
            max=LONGEST_CANARY_S,
        ),
    ] = CANARY_S,
    data: Annotated[Path, _DATA] = _DEFAULT["data"],
    run: Annotated[Path | None, _RUN] = None,
    requirements: Annotated[Path | None, _REQUIREMENTS] = None,
) -> None:
    """Give a running cluster new code; sockets stay. Code that does not work is refused, or taken back."""
    _install(requirements)
    _say(client.reload(data, app=app, canary_s=canary, say=_say_progress, run=run))


@app.command(epilog=_EXIT_CODES)
def down(
    data: Annotated[Path, _DATA] = _DEFAULT["data"],
    run: Annotated[Path | None, _RUN] = None,
    timeout: Annotated[float, typer.Option(help="seconds to wait for the end")] = 60.0,
) -> None:
    """Drain and stop a running cluster; clients get a Close 1001."""
    _say(client.down(data, timeout_s=timeout, run=run))


app.command(epilog=LOAD_EXIT_CODES)(load)

_PASS_ON: dict[str, Any] = {
    "add_help_option": False,
    "context_settings": {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
}


@app.command(**_PASS_ON)
def router(context: typer.Context) -> None:
    """Run one router, for systemd or an orchestrator; `roost router --help` shows all settings."""
    _become("router", context.args)


@app.command(**_PASS_ON)
def shard(context: typer.Context) -> None:
    """Run one shard, for systemd or an orchestrator; `roost shard --help` shows all settings."""
    _become("shard", context.args)


def _install(requirements: Path | None) -> None:
    if requirements is not None:
        from .requirements import install

        install(requirements, say=_say)


def _become(kind: str, args: list[str]) -> None:
    os.execv(sys.executable, [*python_words(f"roost.{kind}"), *args])


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False) -> None:
    if version:
        import importlib.metadata

        _say(importlib.metadata.version("roost"))
        raise typer.Exit


def _say(line: str) -> None:
    print(escaped(line), flush=True)  # it may tell of an app's errors, and these of what a client has sent


def _say_progress(line: str) -> None:
    _say(f"  {line}")


def main() -> None:
    """The console script: every error of ours is one line on stderr and its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a pipe in another encoding gets "?" for a dash, not a traceback
    try:
        if not {"-h", "--help", "--version"}.intersection(sys.argv):
            check_system()
        app(prog_name="roost")
    except ChangeFailed as error:
        report_error(-1, error)
        sys.exit(error.exit_code)
    except (RoostError, OSError) as error:
        sys.exit(report_error(-1, error))
