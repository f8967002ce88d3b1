"""Lines for a terminal of any width, or for a pipe. Pure.

A terminal that is too narrow for a table gets fewer columns, the least needed ones left out and named below it; never
half a name or half a number. A pipe has no width (``None``): it gets everything, without colours, one line for a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        title: Its name.
        right: Figures stand to the right.
        leaves: When the table is too wide, the column with the highest number leaves first; 0: it always stays.
    """

    title: str
    right: bool = False
    leaves: int = 0


def width_of(console: Console) -> int | None:
    """The width that there is to write in; ``None`` when it is no terminal."""
    return console.width if console.file.isatty() else None


def show(console: Console, lines: Text) -> None:
    """Print lines as they are: a pipe gets what was made, not what fits 80 columns."""
    console.print(lines, soft_wrap=True, highlight=False)


def table(columns: Sequence[Column], rows: Sequence[Sequence[Text]], width: int | None) -> Text:
    """A table with a line of titles, as wide as it must be and at most *width* if columns may leave for that."""
    sizes = [
        max([Text(column.title).cell_len, *(row[place].cell_len for row in rows)])
        for place, column in enumerate(columns)
    ]
    kept = list(range(len(columns)))
    left: list[str] = []
    while width is not None and sum(sizes[place] for place in kept) + len(GAP) * (len(kept) - 1) > width:
        first = max(kept, key=lambda place: columns[place].leaves)
        if not columns[first].leaves:
            break
        kept.remove(first)
        left.append(columns[first].title)
    lines = [_line([Text(columns[place].title, "dim") for place in kept], kept, columns, sizes)]
    lines += [_line([row[place] for place in kept], kept, columns, sizes) for row in rows]
    if left:
        names = [column.title for column in columns if column.title in left]
        assert width is not None
        lines.append(flow(["no room for", *names], width, GAP, "dim"))
    return Text("\n").join(lines)


def _line(cells: Sequence[Text], kept: Sequence[int], columns: Sequence[Column], sizes: Sequence[int]) -> Text:
    line = Text()
    for number, (place, cell) in enumerate(zip(kept, cells, strict=True)):
        space = " " * (sizes[place] - cell.cell_len)
        line.append(GAP if number else "")
        if columns[place].right:
            line.append(space).append_text(cell)
        else:
            line.append_text(cell).append(space)
    line.rstrip()
    return line


def flow(parts: Iterable[str], width: int | None, between: str = " · ", style: str = "") -> Text:
    """Parts one behind the other, in as few lines as hold them whole."""
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]}{between}{part}" if lines else part
        if lines and (width is None or Text(longer).cell_len <= width):
            lines[-1] = longer
        else:
            lines.append(part)
    return Text("\n".join(lines), style)


def printable(text: str) -> str:
    """*text* in one line, with escapes in place of what a terminal would act upon: names may be anybody's."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
