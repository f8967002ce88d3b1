"""The plots of a report, by matplotlib, which only a report needs."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from .histogram import Histogram
from .result import Books

_COLOURS = ("#1667a8", "#b45309", "#15803d", "#a21caf")
"""Of the curves, in turn; each is told from the others without green and red."""
_CURVE = tuple(100.0 - 100.0 / 2 ** (step / 4) for step in range(73))
"""Percentiles at even distances on the axis, up to 99.9996."""
_TICKS = (0.0, 90.0, 99.0, 99.9, 99.99, 99.999)
_LATENCIES = {
    "echo": "echo",
    "echo_service": "echo, service time",
    "delivery": "delivery of a broadcast",
    "connect": "connect",
}


def draw(books: Books) -> dict[str, Figure]:
    """The plots that there are figures for, by title."""
    with rc_context({"font.size": 12}):
        return _draw(books)


def _draw(books: Books) -> dict[str, Figure]:
    found = {}
    curves = {title: books.histograms[name] for name, title in _LATENCIES.items() if books.histograms[name].counts}
    if curves:
        found["Latency percentiles"] = _percentiles(curves)
    if books.seconds:
        found["Connections and messages over time"] = _over_time(books)
    if any(second.memory for second in books.seconds.values()):
        found["Server memory and connections"] = _memory(books)
    first, last = books.fan_out()
    if first.counts:
        found["Fan-out time of a broadcast"] = _percentiles({"first receiver": first, "last receiver": last})
    return found


def svg(figure: Figure, title: str) -> str:
    """A plot to stand in a page, in the page's font and colours: ``currentColor`` for ink, and its custom properties
    ``--c0``, ``--c1`` … for the curves."""
    out = io.StringIO()
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    picture = re.sub(r"^.*?(?=<svg)", "", out.getvalue(), flags=re.DOTALL)
    for number, colour in enumerate(_COLOURS):
        picture = picture.replace(colour, f"var(--c{number}, {colour})")
    picture = picture.replace("#000000", "currentColor")
    # What matplotlib has not written a colour for is black, which is what SVG begins with.
    return picture.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" fill="currentColor" ', 1)


def png(plots: Mapping[str, Figure]) -> bytes:
    """All plots below each other, as one picture."""
    out = io.BytesIO()
    rows = []
    for title, figure in plots.items():
        figure.suptitle(title, fontsize=10)
        rows.append(_pixels(figure))
    from PIL import Image

    width = max(row.width for row in rows)
    picture = Image.new("RGB", (width, sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        picture.paste(row, (0, top))
        top += row.height
    picture.save(out, format="png")
    return out.getvalue()


def _pixels(figure: Figure) -> Any:
    from PIL import Image

    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120)
    out.seek(0)
    return Image.open(out).convert("RGB")


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")  # so small that a phone shows it with legible figures
    axes = figure.add_subplot()
    axes.set_prop_cycle(color=_COLOURS)
    axes.grid(True, color="#000000", alpha=0.12)
    return figure, axes


def _legend(axes: Axes, lines: Sequence[Line2D]) -> None:
    """Above the plot, where it hides no curve."""
    names = [str(line.get_label()) for line in lines]
    axes.legend(
        lines,
        names,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=2,
        frameon=False,
        fontsize="small",
        borderaxespad=0.2,
    )


def _percentiles(curves: Mapping[str, Histogram]) -> Figure:
    figure, axes = _figure()
    for title, histogram in curves.items():
        # Beyond one value in all, a percentile is only the highest value again.
        percents = [percent for percent in _CURVE if 1 / (1 - percent / 100) <= 2 * histogram.total]
        values = histogram.percentiles(percents)
        axes.plot(
            [_place(percent) for percent in percents], [values[percent] / 1000 for percent in percents], label=title
        )
    axes.set_xscale("log")
    ticks = [_place(percent) for percent in _TICKS]
    axes.set_xticks(ticks, [f"{percent:g}" for percent in _TICKS])
    axes.minorticks_off()
    axes.set_yscale("log")
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_formatter(plain)
    axes.yaxis.set_minor_formatter(plain if high < 10 * low else NullFormatter())
    axes.set_xlabel("percentile")
    axes.set_ylabel("ms")
    _legend(axes, axes.get_lines())
    return figure


def _place(percent: float) -> float:
    return 1 / (1 - percent / 100)


def _over_time(books: Books) -> Figure:
    figure, axes = _figure()
    seconds = sorted(books.seconds.items())
    times = [t for t, _ in seconds]
    axes.plot(times, [second.open for _, second in seconds], label="connections open")
    axes.set_xlabel("s")
    axes.set_ylabel("connections")
    axes.set_ylim(bottom=0)
    if books.total("received") or books.total("sent"):
        other = axes.twinx()
        other.plot(times, [second.received for _, second in seconds], color=_COLOURS[2], label="received a second")
        other.plot(times, [second.sent for _, second in seconds], color=_COLOURS[1], label="sent a second")
        other.set_ylabel("messages")
        other.set_ylim(bottom=0)
        lines = [*axes.get_lines(), *other.get_lines()]
        _legend(axes, lines)
    return figure


def _memory(books: Books) -> Figure:
    """Over time, so that it says something of connections that are all open from the first second on as well."""
    figure, axes = _figure()
    seconds = [(t, second) for t, second in sorted(books.seconds.items()) if second.memory]
    for kind in sorted({kind for _, second in seconds for kind in second.memory}):
        there = [(t, second.memory[kind] / 1e6) for t, second in seconds if kind in second.memory]
        axes.plot([t for t, _ in there], [size for _, size in there], marker=".", label=f"{kind}s, MB")
    axes.set_xlabel("s")
    axes.set_ylabel("MB")
    axes.set_ylim(bottom=0)
    other = axes.twinx()
    times = [t for t, _ in seconds]
    opened = [second.open for _, second in seconds]
    other.plot(times, opened, color=_COLOURS[3], linestyle="--", label="connections open")
    other.set_ylabel("connections")
    other.set_ylim(bottom=0)
    lines = [*axes.get_lines(), *other.get_lines()]
    _legend(axes, lines)
    return figure
