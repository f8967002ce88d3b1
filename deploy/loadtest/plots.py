"""The plots of a report, by matplotlib, which only a report needs."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from .histogram import Histogram
from .result import Books

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


def svg(figure: Figure) -> str:
    """A plot to stand in a page."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(r"^.*?(?=<svg)", "", out.getvalue(), flags=re.DOTALL)


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
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(True, alpha=0.3)
    return figure, axes


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
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("percentile")
    axes.set_ylabel("ms")
    axes.legend()
    return figure


def _place(percent: float) -> float:
    return 1 / (1 - percent / 100)


def _over_time(books: Books) -> Figure:
    figure, axes = _figure()
    seconds = sorted(books.seconds.items())
    times = [t for t, _ in seconds]
    axes.plot(times, [second.open for _, second in seconds], color="tab:blue", label="connections open")
    axes.set_xlabel("s")
    axes.set_ylabel("connections")
    axes.set_ylim(bottom=0)
    if books.total("received") or books.total("sent"):
        other = axes.twinx()
        other.plot(times, [second.received for _, second in seconds], color="tab:green", label="received a second")
        other.plot(times, [second.sent for _, second in seconds], color="tab:orange", label="sent a second")
        other.set_ylabel("messages")
        other.set_ylim(bottom=0)
        lines = [*axes.get_lines(), *other.get_lines()]
        axes.legend(lines, [str(line.get_label()) for line in lines], loc="lower right")
    return figure


def _memory(books: Books) -> Figure:
    figure, axes = _figure()
    seconds = [second for _, second in sorted(books.seconds.items()) if second.memory]
    opening = [second for second in seconds if second.open]
    for kind in sorted({kind for second in opening for kind in second.memory}):
        before = books.memory_before.get(kind, 0)
        axes.plot(
            [second.open for second in opening],
            [(second.memory.get(kind, 0) - before) / second.open / 1000 for second in opening],
            marker=".",
            label=f"{kind}s",
        )
    axes.set_xlabel("connections open")
    axes.set_ylabel("kB a connection")
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure
