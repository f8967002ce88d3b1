"""The report: one HTML file that needs nothing else. Pure; the plots come from ``plots``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from ...common.runtime.pages import document

_STYLE = """main { max-width: 64rem; padding-top: 2rem; font-size: 0.94rem; }
h1 { font-size: 1.5rem; letter-spacing: 0; } h2 { font-size: 1.05rem; margin: 2rem 0 0.5rem; }
p { margin: 0.5rem 0; } .ok { color: var(--good); } .failed { color: var(--bad); } .note { color: var(--note); }
.plots { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 1rem 0 0; min-width: 0; } figcaption { font-weight: 600; }
svg { display: block; width: 100%; height: auto; --c0: #1667a8; --c1: #b45309; --c2: #15803d; --c3: #a21caf; }
@media (prefers-color-scheme: dark) { svg { --c0: #6fb3ee; --c1: #f2a65a; --c2: #6fcf8b; --c3: #e59bf2; } }
.scrolled { overflow-x: auto; }
table { border-collapse: collapse; } td, th { padding: 0.15rem 0.8rem 0.15rem 0; text-align: right; }
th { color: var(--soft); font-weight: normal; } td { overflow-wrap: normal; }
td:first-child, th:first-child { text-align: left; } .numbers td { white-space: nowrap; }
.facts td { vertical-align: top; text-align: left; } .facts td:last-child { overflow-wrap: anywhere; }
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
    subject = f"{connections['opened']:,} connections to {settings['url']}"
    word, style = ("Passed", "ok") if verdict["ok"] else ("Failed", "failed")
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in verdict["notes"])
    examples = "".join(f"<li>{escape(sentence)}</li>" for sentence in messages["examples"])
    figures = "".join(
        f"<figure><figcaption>{escape(title)}</figcaption>{picture}</figure>" for title, picture in plots.items()
    )
    parts = [
        f'<h1 class="{style}">{word}: {escape(verdict["sentence"])}</h1>',
        f"<p>{escape(subject)}</p>",
        notes,
        f"<ul>{examples}</ul>" if examples else "",
        f'<div class="plots">{figures}</div>' if figures else "",
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
    return document(f"{word}: {subject}", "\n".join(part for part in parts if part), style=_STYLE)


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
    kind = "numbers" if head else "facts"
    # A table of many columns is scrolled by itself where the page is narrow; by keyboard, too.
    return f'<div class="scrolled" tabindex="0"><table class="{kind}">{top}{body}</table></div>'


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "–"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
