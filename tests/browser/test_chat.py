"""The chat's page in two tabs of a real browser, through a real cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.browser.prefix_proxy import PrefixProxy
from tests.conformance.driver import unique
from tests.support.cluster import REPOSITORY, Cluster

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


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


def look(page: Page, people: str) -> list[str]:
    """Who is there, by the list that the count opens."""
    page.wait_for_function("text => document.getElementById('state').textContent == text", arg=people)
    page.click("summary")
    names = page.eval_on_selector_all("#people li", "all => all.map(row => row.textContent)")
    page.click("summary")
    return names


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


def test_who_is_there(browser: Browser, room: str) -> None:
    ann, bob = enter(browser, room, "ann"), enter(browser, room, "bob")
    for page in (ann, bob):
        assert sorted(look(page, "2 people")) == ["ann", "bob"]
    bob.close()
    assert look(ann, "1 person") == ["ann"]
    ann.close()


def test_somebody_of_the_same_name_is_somebody_else(browser: Browser, room: str) -> None:
    one, two = enter(browser, room, "ann"), enter(browser, room, "ann")
    say(one, "I am ann")
    two.wait_for_selector("li.theirs")
    one.wait_for_selector("li.mine")
    assert (lines(one, "theirs"), lines(two, "mine")) == ([], [])
    one.close()
    two.close()


def test_a_long_name_is_shortened_and_the_page_says_so(browser: Browser, room: str) -> None:
    page = enter(browser, room, "x" * 10_000)
    page.wait_for_selector("li.note:has-text('at most 40 characters')")
    assert page.input_value("#name") == "x" * 40
    say(page, "hello")
    page.wait_for_selector("li.mine")
    assert page.inner_text("li.mine b") == "x" * 40
    page.close()


def test_names_are_text_and_do_not_turn_the_line(browser: Browser, room: str) -> None:
    page = enter(browser, room, "%E2%80%AE%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E")
    assert look(page, "1 person") == ["<img src=x onerror=alert(1)>"]
    assert page.locator("img").count() == 0
    page.close()


def test_a_tab_that_hears_nothing_any_more_connects_anew(browser: Browser, room: str) -> None:
    """A connection that died without a word looks open; only the answer to a ping is missing."""
    context = browser.new_context()
    page = context.new_page()
    page.clock.install()
    # The browser's end of a connection that has gone deaf: nothing that comes is heard, nothing is closed.
    page.add_init_script(
        """const Real = WebSocket; let count = 0;
        window.opened = () => count;
        window.pongs = 0;
        window.WebSocket = class extends Real {
          constructor(...all) { super(...all); this.number = ++count }
          set onmessage(take) { super.onmessage = e => {
            const pong = e.data == "/pong";
            if (!pong || this.number > 1) take(e);
            pongs += pong;
          } }
        }"""
    )
    page.goto(f"{room}?name=ann")
    page.wait_for_function("document.getElementById('state').textContent == '1 person'")
    page.clock.run_for(20_000)
    page.wait_for_function("pongs == 1")
    assert page.evaluate("opened()") == 1
    page.clock.run_for(20_000)
    page.wait_for_function("opened() == 2")
    page.wait_for_function("document.getElementById('state').textContent == '1 person'")
    for pongs in (2, 3):
        page.clock.run_for(20_000)
        page.wait_for_function("wanted => pongs == wanted", arg=pongs)
    page.clock.run_for(20_000)
    assert page.evaluate("opened()") == 2, "this one hears its pongs"
    context.close()


def test_below_a_prefix_that_a_proxy_strips(browser: Browser, cluster: Cluster) -> None:
    """From the home page into a room, and a line to somebody who came by the other way."""
    name = unique("browser ä").replace("/", "-")
    with PrefixProxy(cluster.port, "/app") as proxy:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{proxy.port}/app/")
        assert page.inner_text("code") == "/app/chat-room/<name>"
        page.fill("input[name=name]", name)
        page.click("button")
        page.wait_for_function("document.getElementById('state')?.textContent.includes('pe')")
        assert "/app/chat-room/" in page.url
        assert page.text_content("h1") == page.title() == name
        other = enter(browser, cluster.http(f"/chat-room/{quote(name)}"), "bob")
        say(page, "from below")
        other.wait_for_selector("li.theirs:has-text('from below')")
        page.close()
        other.close()
