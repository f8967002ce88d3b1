"""The report: one HTML file that needs nothing else. Pure; the plots come from ``plots``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .15rem .8rem .15rem 0; text-align: right; font-weight: normal }
td:first-child, th:first-child { text-align: left } th { color: #777 } svg { width: 100%; height: auto }
.ok { color: #176f2c } .failed { color: #b3261e } .note { color: #8a5a00 }
"""

_TITLES = {
    "connect": "connect",
    "echo": "echo",
    "echo_service": "echo, service time",
    "delivery": "delivery of a broadcast",
    "delivery_service": "delivery, service time",
    "fan_out_first": "broadcast to its first receiver",
    "fan_out_last": "broadcast to its last receiver",
    "late": "sent late by",
}


def page(result: Mapping[str, Any], plots: Mapping[str, str]) -> str:
    """The report.

    Args:
        result: What ``Books.to_dict`` has made.
        plots: SVG by title.
    """
    verdict, settings, connections = result["verdict"], result["settings"], result["connections"]
    messages = result["messages"]
    title = f"{connections['opened']:,} connections to {settings['url']}"
    if verdict["ok"]:
        judgement = '<p class="ok"><strong>ok</strong></p>'
    else:
        judgement = f'<p class="failed"><strong>failed</strong>: {escape(", ".join(verdict["faults"]))}</p>'
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in verdict["notes"])
    examples = "".join(f"<li>{escape(sentence)}</li>" for sentence in messages["examples"])
    parts = [
        f"<h1>{escape(title)}</h1>",
        judgement,
        notes,
        f"<ul>{examples}</ul>" if examples else "",
        "<h2>Figures</h2>",
        _table((), _figures(result)),
        "<h2>Latency</h2>",
        _table(
            ("", "count", "p50", "p90", "p99", "p99.9", "max"),
            (
                (
                    _TITLES[name],
                    f"{it['count']:,}",
                    *(f"{it[percent] / 1000:,.2f} ms" for percent in ("p50", "p90", "p99", "p99.9", "p100")),
                )
                for name, it in ((name, result["latency_us"].get(name)) for name in _TITLES)
                if it
            ),
        ),
        "<p>From when a message was due by the schedule, whether or not it could be sent then; the service time from "
        "when it was sent. What is late by its own doing, the load tester says in the last line.</p>",
        *(f"<h2>{escape(name)}</h2>{picture}" for name, picture in plots.items()),
        "<h2>Processes of the load tester</h2>",
        _table(
            ("", "opening", "sending", "while broadcasts came in", "longest lag"),
            (
                (
                    str(number),
                    f"{process['cpu_opening']:.0%}",
                    f"{process['cpu_sending']:.0%}",
                    f"{process['cpu_in_broadcasts']:.0%}",
                    f"{process['longest_lag_us'] / 1000:,.1f} ms",
                )
                for number, process in enumerate(result["processes"])
            ),
        ),
        "<h2>Settings</h2>",
        _table((), ((name, _plain(value)) for name, value in settings.items())),
        "<h2>Machine</h2>",
        _table((), ((name, _plain(value)) for name, value in result["machine"].items())),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n" + "\n".join(part for part in parts if part) + "\n</html>\n"
    )


def _figures(result: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    connections, messages, broadcasts = result["connections"], result["messages"], result["broadcasts"]
    yield "opened", f"{connections['opened']:,} of {connections['wanted']:,} in {connections['opening_s']:,.1f} s"
    for name, counts in (
        ("not opened", connections["failed"]),
        ("closed by the server", connections["closed_by_server"]),
    ):
        for reason, count in counts.items():
            yield f"{name}: {reason}", f"{count:,}"
    if connections["exchanged"]:
        yield "exchanged", f"{connections['exchanged']:,}"
    yield "sent", f"{messages['sent']:,} of {messages['offered']:,} due ({messages['sent_per_s']:,.0f}/s)"
    yield "received", f"{messages['received']:,} ({messages['received_per_s']:,.0f}/s)"
    for name in ("lost", "duplicated", "reordered", "corrupted", "misdelivered"):
        yield name, f"{messages[name]:,}"
    if broadcasts["sent"]:
        yield "broadcasts that came to all", f"{broadcasts['complete']:,} of {broadcasts['sent']:,}"
    for kind, size in result["server_memory"]["per_connection"].items():
        yield f"memory of the {kind}s, a connection", f"{size / 1000:,.1f} kB"


def _table(head: tuple[str, ...], rows: Iterable[Iterable[str]]) -> str:
    top = f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr>" if head else ""
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{top}{body}</table>"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "–"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
