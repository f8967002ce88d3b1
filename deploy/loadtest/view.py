"""What a run looks like in a terminal: the live picture, and the summary at the end."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ..report.tables import Column, flow, printable, table
from .config import IDLE
from .histogram import Histogram
from .result import SENDING, Books


def milliseconds(value_us: float) -> str:
    """A time for people."""
    return f"{value_us / 1000:,.2f} ms" if value_us < 100_000 else f"{value_us / 1e6:,.2f} s"


def live(books: Books, word: str) -> RenderableType:
    """The picture while it runs."""
    now = max(books.seconds, default=0)
    # The last whole second: the present one has begun only.
    second = books.seconds.get(now - 1) or books.seconds.get(now)
    wrong = books.total("bad")
    failed, closed = sum(books.reasons("failed").values()), sum(books.reasons("closed").values())
    table = Table.grid(padding=(0, 2))
    table.add_row(
        Text(word, "bold"),
        f"{books.total('open'):,} of {books.config.connections:,} open",
        Text(f"{failed:,} failed", "red" if failed else "dim"),
        Text(f"{closed:,} closed by the server", "red" if closed else "dim"),
    )
    if second is not None and books.config.mode != IDLE:
        table.add_row(
            "",
            f"{second.sent:,} sent/s",
            f"{second.received:,} received/s",
            Text(f"{wrong:,} wrong", "red" if wrong else "dim"),
        )
        for name, histogram in (("echo", second.echo), ("delivery", second.delivery)):
            if histogram.counts:
                table.add_row(
                    "",
                    name,
                    f"p50 {milliseconds(histogram.percentile(50))}",
                    f"p99 {milliseconds(histogram.percentile(99))}",
                )
    return table


def summary(books: Books, width: int | None = None) -> Text:
    """What came out.

    Args:
        books: The run.
        width: Columns of the terminal; ``None`` for a pipe.
    """
    config = books.config
    lines = [Text()]
    head = f"{books.opened:,} of {config.connections:,} connections opened in {books.opened_s:,.1f} s"
    if books.total("exchanged"):
        head += f", {books.total('exchanged'):,} exchanged"
    lines.append(Text(head))
    if config.mode != IDLE:
        span_s = max(0.001, books.done_s - books.begun_s)
        sent = f"{books.total('sent'):,} messages sent ({books.total('sent') / span_s:,.0f}/s),"
        received = f"{books.total('received'):,} received ({books.total('received') / span_s:,.0f}/s)"
        lines.append(flow([sent, received], width, " "))
    first, last = books.fan_out()
    named = [
        ("connect", books.histograms["connect"]),
        ("echo", books.histograms["echo"]),
        ("echo, service time", books.histograms["echo_service"]),
        ("delivery of a broadcast", books.histograms["delivery"]),
        ("… to its first receiver", first),
        ("… to its last receiver", last),
        ("sent late by", books.histograms["late"]),
    ]
    rows = [[Text(title), *_cells(histogram)] for title, histogram in named if histogram.counts]
    lines += [Text(), table(_COLUMNS, rows, width), Text()] if rows else []
    cpus = ", ".join(f"{process.cpu(SENDING):.0%}" for process in books.processes)
    fan = [process.fan_cpu for process in books.processes if process.fan_span_us]
    in_broadcasts = f" ({', '.join(f'{share:.0%}' for share in fan)} while broadcasts came in)" if fan else ""
    lag = max(process.lag_us for process in books.processes)
    own = [f"load tester: {cpus} of a core{in_broadcasts},", f"its loop at most {milliseconds(lag)} late"]
    lines.append(flow(own, width, " ", "dim"))
    memory = books.memory_per_connection()
    if memory:
        parts = ", ".join(f"{kind}s {size / 1000:,.1f} kB" for kind, size in sorted(memory.items()))
        lines.append(Text(f"server: {sum(memory.values()) / 1000:,.1f} kB a connection ({parts})"))
    lines += [Text(f"note: {note}", "yellow") for note in books.notes()]
    faults = books.faults()
    for sentence in books.findings.examples[:5] if faults else ():
        lines.append(Text(f"  {printable(sentence)}", "red"))
    word, style = ("FAILED", "bold red") if faults else ("ok", "bold green")
    lines.append(Text(f"{word}: {printable(books.sentence())}", style))
    return Text("\n").join(lines)


_COLUMNS = (
    Column("latency"),
    Column("count", right=True, leaves=3),
    Column("p50", right=True),
    Column("p90", right=True, leaves=2),
    Column("p99", right=True),
    Column("p99.9", right=True, leaves=1),
    Column("max", right=True),
)


def _cells(histogram: Histogram) -> list[Text]:
    percents = (50.0, 90.0, 99.0, 99.9, 100.0)
    values = histogram.percentiles(percents)
    return [Text(f"{histogram.total:,}"), *(Text(milliseconds(values[percent])) for percent in percents)]
