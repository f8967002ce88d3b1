"""The plots of a report: what they show, and that a page can give them its colours."""

from __future__ import annotations

import re

import pytest

from roost.deploy.loadtest.plots import draw, png, svg
from roost.deploy.loadtest.result import Books
from tests.unit.deploy.loadtest.test_result import good, report


def run_with_memory() -> Books:
    """A run whose connections were open from the first second to the last."""
    made = good(mode="mixed")
    for second, size in enumerate((10_000_000, 14_000_000, 22_000_000)):
        made.second(0, report(second, open=5, sent=50 * second, histograms={"delivery": [[2_000, 9]]}))
        made.memory(second, {"router": size, "shard": 2 * size})
    made.second(0, report(3, fan=[[2, 1, 1_000, 3, 1_500, 1_900, 0, 0]]))
    return made


@pytest.fixture
def measured() -> Books:
    return run_with_memory()


def test_memory_is_drawn_over_time_also_when_connections_are_constant(measured: Books) -> None:
    axes, other = draw(measured)["Server memory and connections"].axes
    router, shard = axes.get_lines()
    assert list(map(float, router.get_xdata())) == [0, 1, 2]
    assert list(map(float, router.get_ydata())) == [10, 14, 22]
    assert list(map(float, shard.get_ydata())) == [20, 28, 44]
    assert (axes.get_xlabel(), axes.get_ylabel(), other.get_ylabel()) == ("s", "MB", "connections")
    assert set(map(float, other.get_lines()[0].get_ydata())) == {10}


def test_a_plot_takes_font_and_colours_of_its_page(measured: Books) -> None:
    for title, figure in draw(measured).items():
        picture = svg(figure, f"{title} <&>")
        assert picture.startswith("<svg ")
        assert f'role="img" aria-label="{title} &lt;&amp;&gt;"' in picture
        assert "var(--c0, #1667a8)" in picture
        assert "currentColor" in picture
        colours = set(re.findall(r"#[0-9a-f]{6}\b", re.sub(r"var\([^)]*\)", "", picture)))
        assert colours == set(), f"{title}: colours of its own"
        assert "<text" in picture, "text is text"


def test_all_plots_in_one_picture(measured: Books) -> None:
    assert png(draw(measured)).startswith(b"\x89PNG")


def test_a_run_of_nothing_has_no_plots() -> None:
    assert draw(Books(good().config, 1)) == {}
