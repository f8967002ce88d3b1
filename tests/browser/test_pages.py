"""The pages that roost ships: whole at each width and in both colour schemes, and usable without eyes or mouse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from roost.deploy.loadtest.ledger import Findings
from roost.deploy.loadtest.page import page as report_page
from roost.deploy.loadtest.plots import draw, svg
from roost.router.formats.page import home
from tests.conformance.driver import unique
from tests.support.cluster import Cluster
from tests.unit.deploy.loadtest.test_plots import run_with_memory

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

WIDTHS = (320, 390, 1280)
SCHEMES = ("light", "dark")
PAGES = {
    "home": "/",
    "chat": "/chat-room/lobby?name=" + "x" * 60,
    "a room with a long name": "/chat-room/" + "x" * 512,
    "not found": "/" + "x" * 300,
}

UNNAMED = """() => [...document.querySelectorAll("input, button, select, textarea, [role=log]")].filter(element =>
    !(element.labels?.length || element.getAttribute("aria-label") || element.tagName == "BUTTON" && element.innerText)
).map(element => element.outerHTML)"""

CONTRAST = """() => {
  // Through a canvas, which makes numbers of any colour and mixes those that are half transparent.
  const pen = Object.assign(document.createElement("canvas"), {width: 1, height: 1})
      .getContext("2d", {willReadFrequently: true});
  const over = (colour, below) => {
    pen.fillStyle = `rgb(${below.join()})`; pen.fillRect(0, 0, 1, 1);
    pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = colour => colour.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
      .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const probe = document.body.appendChild(document.createElement("i"));
  probe.style.background = "Canvas";  // what the browser paints below everything, by the colour scheme
  const paper = over(getComputedStyle(probe).backgroundColor, [255, 255, 255]);
  probe.remove();
  const ground = element => {
    const below = element.parentElement ? ground(element.parentElement) : paper;
    return over(getComputedStyle(element).backgroundColor, below);
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some(node => node.nodeType == 3 && node.data.trim()) || element.value;
    if (!own || !element.getClientRects().length || element.disabled || ["SCRIPT", "STYLE"].includes(element.tagName))
      continue;
    const below = ground(element), ink = over(getComputedStyle(element).color, below);
    const alpha = [element, element.parentElement].reduce((a, e) => a * getComputedStyle(e).opacity, 1);
    const seen = ink.map((c, i) => c * alpha + below[i] * (1 - alpha));
    const [dark, bright] = [light(seen), light(below)].sort((a, b) => a - b);
    const ratio = (bright + 0.05) / (dark + 0.05);
    if (ratio < 4.5) found.push(`${element.outerHTML.slice(0, 80)}: ${ratio.toFixed(2)}`);
  }
  return found;
}"""


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=WIDTHS)
def page(browser: Browser, scheme: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": request.param, "height": 700}, color_scheme=scheme)  # type: ignore[arg-type]
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES.keys())
def test_a_page_fits_and_can_be_read(page: Page, cluster: Cluster, path: str) -> None:
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(cluster.http(path))
    if "chat-room" in path:
        page.wait_for_selector("li.note")
        page.fill("#text", "x" * 500)
        page.press("#text", "Enter")
        page.wait_for_selector("li.mine")
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth")
    outside = "all => all.filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML)"
    assert page.eval_on_selector_all("body *", outside) == []
    assert page.evaluate(UNNAMED) == []
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.title()
    assert problems == []


def test_many_namespaces_fit(page: Page) -> None:
    names = ["chat-room", "a-namespace-" + "with-a-long-name-" * 6, *(f"game-{number}" for number in range(40))]
    page.set_content(home(names).decode())
    assert page.locator("form").count() == 42
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth")
    assert page.evaluate(UNNAMED) == []
    assert page.evaluate(CONTRAST) == []


def test_the_home_page_of_a_cluster_that_starts_looks_again(page: Page) -> None:
    answers = iter([home([], starting=True), home([], starting=True), home(["chat-room"])])
    page.route("http://roost.test/", lambda route: route.fulfill(body=next(answers), content_type="text/html"))
    page.clock.install(time=0)
    page.clock.pause_at(1)  # else time goes on by itself, and a busy machine sees the next page, too
    page.goto("http://roost.test/")
    for forms in (0, 1):
        assert page.locator("form").count() == 0
        with page.expect_navigation():
            page.clock.run_for(1_000)
        assert page.locator("form").count() == forms


@pytest.mark.parametrize("passed", [True, False])
def test_the_report_of_a_load_test_fits_and_can_be_read(page: Page, tmp_path: Path, passed: bool) -> None:
    measured = run_with_memory()
    if not passed:
        measured.findings.merge(Findings(lost=3, examples=["connection 1 never got 3 echoes, from message 12 on"]))
    pictures = {title: svg(figure, title) for title, figure in draw(measured).items()}
    result = measured.to_dict({"url": "ws://h/" + "x" * 200}, {"cpu": "a name without end " * 10, "cores": 2})
    file = tmp_path / "report.html"
    file.write_text(report_page(result, pictures))
    page.goto(file.as_uri())
    assert page.inner_text("h1").startswith("Passed: every message" if passed else "Failed: 3 lost")
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth")
    assert page.evaluate(CONTRAST) == []
    assert page.get_by_role("img", name="Server memory and connections").count() == 1
    ink = page.eval_on_selector("svg text", "text => getComputedStyle(text).fill")
    assert ink == page.eval_on_selector("body", "body => getComputedStyle(body).color"), "the page's, light or dark"


def test_the_home_page_leads_to_an_object_by_keyboard(browser: Browser, cluster: Cluster) -> None:
    page = browser.new_page()
    page.goto(cluster.http("/"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "name of an object in chat-room"
    page.keyboard.type("ä & b?")
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('ä & b?')")
    assert page.title() == "ä & b?"
    page.close()


def test_the_chat_is_announced_and_worked_by_keyboard(browser: Browser, cluster: Cluster) -> None:
    page = browser.new_page()
    page.goto(cluster.http(f"/chat-room/{unique('keys')}?name=ann"))
    page.wait_for_selector("li.note:has-text('ann joined')")
    assert page.evaluate("document.activeElement.id") == "text"
    page.keyboard.type("hello")
    page.keyboard.press("Enter")
    page.wait_for_selector("li.mine")
    assert page.get_by_role("log").get_by_text("hello").count() == 1
    assert page.get_by_role("status").inner_text() == "1 person"
    assert page.get_by_label("name").input_value() == "ann"
    page.close()
