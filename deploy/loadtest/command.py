"""``roost load``, as the command line knows it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ...common.runtime.config import describe
from .config import LoadConfig

_FIELDS = {item.field: item for item in describe(LoadConfig)}
_DEFAULT = {item.field: item.default for item in _FIELDS.values()}
EXIT_CODES = (
    "Exit codes: 0 all came as it should · 3 something was lost, wrong, refused or closed · 130 Ctrl-C · "
    "1 the run could not be carried out · 70 nobody is there · 71 a setting is wrong · 74 it does not fit here."
)


def _option(field: str) -> Any:
    item = _FIELDS[field]
    notes = "; ".join(note for note in (item.about.unit, item.about.bounds) if note)
    return typer.Option(item.option, help=item.about.help + (f" ({notes})" if notes else ""))


def load(
    url: Annotated[str, typer.Argument(help=_FIELDS["url"].about.help, show_default=False)],
    connections: Annotated[int, _option("connections")] = _DEFAULT["connections"],
    objects: Annotated[int, _option("objects")] = _DEFAULT["objects"],
    processes: Annotated[str, _option("processes")] = _DEFAULT["processes"],
    ramp: Annotated[float, _option("ramp")] = _DEFAULT["ramp"],
    mode: Annotated[str, _option("mode")] = _DEFAULT["mode"],
    size: Annotated[int, _option("size")] = _DEFAULT["size"],
    rate: Annotated[float | None, _option("rate")] = None,
    broadcast_rate: Annotated[float, _option("broadcast_rate")] = _DEFAULT["broadcast_rate"],
    duration: Annotated[float, _option("duration")] = _DEFAULT["duration"],
    churn: Annotated[float, _option("churn")] = _DEFAULT["churn"],
    own_copies: Annotated[str, _option("own_copies")] = _DEFAULT["own_copies"],
    binary: Annotated[bool, _option("binary")] = _DEFAULT["binary"],
    header: Annotated[list[str] | None, _option("header")] = None,
    source: Annotated[list[str] | None, _option("source")] = None,
    insecure: Annotated[bool, _option("insecure")] = _DEFAULT["insecure"],
    connect_timeout: Annotated[float, _option("connect_timeout")] = _DEFAULT["connect_timeout"],
    patience: Annotated[float, _option("patience")] = _DEFAULT["patience"],
    admin: Annotated[str, _option("admin")] = _DEFAULT["admin"],
    json: Annotated[Path | None, _option("json")] = None,
    report: Annotated[Path | None, _option("report")] = None,
) -> None:
    """Load any WebSocket server: open many connections, send at a steady rate, check everything that comes back.

    In mode echo the server must send each message back to its sender, in mode broadcast to all connections of the
    object; deploy/examples/load_target.py does both. Ctrl-C ends a run with its result so far, a second one at once.
    """
    from .running import run  # uvloop and more, which other commands do not need

    config = LoadConfig(
        url=url,
        connections=connections,
        objects=objects,
        processes=processes,
        ramp=ramp,
        mode=mode,
        size=size,
        rate=rate,  # type: ignore[arg-type]  # None: by the mode
        broadcast_rate=broadcast_rate,
        duration=duration,
        churn=churn,
        own_copies=own_copies,
        binary=binary,
        header=tuple(header or ()),
        source=tuple(source or ()),
        insecure=insecure,
        connect_timeout=connect_timeout,
        patience=patience,
        admin=admin,
        json=json,
        report=report,
    )
    raise typer.Exit(run(config, Console()))
