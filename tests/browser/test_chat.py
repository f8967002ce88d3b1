"""The chat's page in two tabs of a real browser, through a real cluster."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster import REPOSITORY, Cluster
from tests.conformance.driver import unique

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

REQUIRED = os.environ.get("ROOST_REQUIRE_BROWSER") == "1"
"""Whether a missing browser fails these tests instead of skipping them."""
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        reason = "needs Debian's chromium (apt-get install chromium) and the package playwright"
        if REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS, headless=True)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    example = REPOSITORY / "deploy" / "examples" / "chat.py"
    with Cluster(example, routers=2, shards=2, shard={"hibernate_after_s": 0.2}) as running:
        yield running


@pytest.fixture
def room(cluster: Cluster) -> str:
    return cluster.http(f"/chat-room/{unique('browser')}")


def enter(browser: Browser, room: str, name: str) -> Page:
    """A tab in which *name* has entered the room."""
    page = browser.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"{room}?name={name}")
    page.wait_for_function("document.getElementById('state').textContent.includes('pe')")
    assert problems == []
    return page


def say(page: Page, text: str) -> None:
    page.fill("#text", text)
    page.press("#text", "Enter")


def lines(page: Page, kind: str) -> list[str]:
    """The lines of one kind, without the names above them."""
    return page.eval_on_selector_all(f"li.{kind}", "all => all.map(line => line.lastChild.textContent)")


def test_two_tabs_chat(browser: Browser, room: str) -> None:
    ann, bob = enter(browser, room, "ann"), enter(browser, room, "bob")
    ann.wait_for_selector("li.note:has-text('bob joined')")
    ann.wait_for_function("document.getElementById('state').textContent == '2 people'")

    say(ann, "hello <b>bob</b>")
    bob.wait_for_selector("li.theirs")
    assert lines(bob, "theirs") == ["hello <b>bob</b>"], "text, never markup"
    assert bob.inner_text("li.theirs b") == "ann"
    ann.wait_for_selector("li.mine")

    say(bob, "hi ann")
    ann.wait_for_selector("li.theirs:has-text('hi ann')")
    assert lines(ann, "mine") == ["hello <b>bob</b>"]
    assert lines(bob, "mine") == ["hi ann"]

    bob.close()
    ann.wait_for_selector("li.note:has-text('bob left')")
    ann.wait_for_function("document.getElementById('state').textContent == '1 person'")
    ann.close()


def test_the_room_may_sleep_between_two_lines(browser: Browser, room: str) -> None:
    ann, bob = enter(browser, room, "ann"), enter(browser, room, "bob")
    for number in range(3):
        ann.wait_for_timeout(500)  # longer than the room stays in memory
        say(ann, f"line {number}")
        bob.wait_for_selector(f"li.theirs:has-text('line {number}')")
    assert lines(bob, "theirs") == ["line 0", "line 1", "line 2"]
    ann.close()
    bob.close()


def test_a_change_of_name(browser: Browser, room: str) -> None:
    ann, bob = enter(browser, room, "ann"), enter(browser, room, "bob")
    ann.fill("#name", "anna")
    ann.press("#name", "Tab")
    bob.wait_for_selector("li.note:has-text('anna joined')")
    bob.wait_for_selector("li.note:has-text('ann left')")
    say(ann, "it is me")
    bob.wait_for_selector("li.theirs:has-text('it is me')")
    assert bob.inner_text("li.theirs b") == "anna"
    ann.close()
    bob.close()


def test_a_tab_reconnects_by_itself(browser: Browser) -> None:
    """The only router goes and comes back; so does the conversation."""
    example: Path = REPOSITORY / "deploy" / "examples" / "chat.py"
    with Cluster(example) as cluster:
        room = cluster.http(f"/chat-room/{unique('reconnect')}")
        ann, bob = enter(browser, room, "ann"), enter(browser, room, "bob")
        cluster.kill_router("router-1")
        for page in (ann, bob):
            page.wait_for_function("document.getElementById('state').textContent == 'reconnecting'")
        cluster.start("router", "router-1")
        for page in (ann, bob):
            page.wait_for_function("document.getElementById('state').textContent == '2 people'")
        say(ann, "back again")
        bob.wait_for_selector("li.theirs:has-text('back again')")
        ann.close()
        bob.close()
