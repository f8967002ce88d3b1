"""What the README shows, run as it stands there: its object, its clients, and the first click of a newcomer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING

import pytest

from tests.support.cluster import REPOSITORY, Cluster
from tests.support.waiting import DEADLINE_S

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

ADDRESS = "ws://127.0.0.1:8787/room/kitchen"


def block(name: str) -> str:
    """The README's code block that begins with a comment of this file name."""
    text = (REPOSITORY / "README.md").read_text()
    (found,) = re.findall(rf"```\w+\n((?:#|//) {re.escape(name)}\n.*?)```", text, re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    app = tmp_path_factory.mktemp("readme") / "room.py"
    app.write_text(block("room.py"))
    with Cluster(app) as cluster:
        yield cluster


def here(code: str, cluster: Cluster) -> str:
    """A client that goes to the test's port."""
    assert code.count(ADDRESS) == 1
    return code.replace(ADDRESS, cluster.ws("/room/kitchen"))


@pytest.fixture
def heard(room: Cluster, tmp_path: Path) -> Iterator[Queue[str]]:
    """What the README's Python client prints."""
    program = tmp_path / "client.py"
    program.write_text(here(block("client.py"), room))
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    process = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    lines: Queue[str] = Queue()
    reader = threading.Thread(target=lambda: [lines.put(line.strip()) for line in process.stdout or ()])
    reader.start()
    yield lines
    process.kill()
    process.wait()
    reader.join()
    process.stdout.close()


def test_both_clients_talk_to_the_room(browser: Browser, room: Cluster, heard: Queue[str]) -> None:
    assert heard.get(timeout=DEADLINE_S) == "ann: hello from Python"
    page = browser.new_page()
    printed: Queue[str] = Queue()
    page.on("console", lambda message: printed.put(message.text))
    page.goto(room.http("/"))
    page.evaluate(f"() => {{ {here(block('client.js'), room)} window.socket = socket }}")
    assert heard.get(timeout=DEADLINE_S) == "bob: hello from JavaScript"
    page.wait_for_function("() => socket.readyState == 1")
    page.evaluate("() => socket.send('again')")
    assert heard.get(timeout=DEADLINE_S) == "bob: again"
    with page.expect_console_message(lambda message: message.text.startswith("closed:")):
        page.evaluate("() => socket.close(4000, 'enough')")
    lines = [printed.get_nowait() for _ in range(printed.qsize())]
    assert lines == ["bob: hello from JavaScript", "bob: again", "closed: 4000 enough"]
    page.close()


def test_the_first_click_of_a_newcomer_is_told_what_to_do(browser: Browser, room: Cluster) -> None:
    page = browser.new_page()
    page.goto(room.http("/"))
    page.fill("input", "kitchen")
    with page.expect_navigation() as navigation:
        page.click("button")
    assert navigation.value.status == 426
    assert navigation.value.headers["upgrade"] == "websocket"
    text = page.inner_text("main")
    assert "This address is a WebSocket" in text
    assert f'new WebSocket("{room.ws("/room/kitchen")}")' in text
    # What the page says to do works in its own console.
    said = re.search(r'new WebSocket\(".*?"\)', text)
    assert said is not None
    page.evaluate(
        "() => new Promise((opened, failed) => {"
        f"const socket = {said[0]}; socket.onopen = () => {{ socket.close(); opened() }}; socket.onerror = failed"
        "})"
    )
    page.close()
