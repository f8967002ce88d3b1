"""``roost dev``: what is saved runs at once, mistakes are shown where one looks, a debugger stops in the terminal."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from roost.deploy.supervisor.source_watch import PAGES
from tests.integration.roost import DEADLINE_S, Roost, wait_for
from tests.support.waiting import within

APP = """
import logging
from pathlib import Path

import helper
from roost import DurableObject, Response, WebSocketPair

PAGE = Path(__file__).with_name("page.html").read_text()


class Room(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.version = helper.version()

    async def fetch(self, request):
        if request.headers.get("upgrade", "").lower() == "websocket":
            client, server = WebSocketPair()
            self.ctx.accept_web_socket(server)
            return Response(status=101, web_socket=client)
        print("printed", "here")
        logging.getLogger("room").info("logged here")
        helper.hook()
        return Response(f"{self.version} {PAGE}")

    async def web_socket_message(self, ws, message):
        ws.send(f"{self.version} {message}")
"""
HELPER = "def version():\n    return {}\n\ndef hook():\n    {}\n"


class Development:
    """``roost dev`` of an app of three files."""

    def __init__(self, roost: Roost, folder: Path) -> None:
        self.roost = roost
        self.folder = folder
        folder.mkdir()
        (folder / "page.html").write_text("page 1")
        (folder / "room.py").write_text(APP)
        self.save()

    def save(self, version: object = 1, hook: str = "pass") -> None:
        (self.folder / "helper.py").write_text(HELPER.format(version, hook))

    @property
    def words(self) -> list[str]:
        return self.roost.words("dev", self.folder / "room.py", "--port", self.roost.port)

    def start(self) -> None:
        with (self.folder / "output.log").open("wb") as output:
            self.roost.up = subprocess.Popen(
                self.words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True, cwd=self.folder
            )

    def output(self) -> str:
        return (self.folder / "output.log").read_text()

    def get(self, accept: str = "*/*", path: str = "/room/a") -> tuple[int, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.roost.port}{path}", headers={"accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    async def until(self, status: int, text: str) -> str:
        """Ask until this is the answer."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            found = await asyncio.to_thread(self.get)
            if found[0] == status and text in found[1]:
                return found[1]
            assert time.monotonic() < deadline, (found, self.output())
            await asyncio.sleep(0.02)

    def connect(self) -> connect:
        return connect(f"ws://127.0.0.1:{self.roost.port}/room/a")

    def end(self) -> None:
        assert self.roost.up is not None
        self.roost.up.send_signal(signal.SIGINT)
        assert self.roost.up.wait(DEADLINE_S) == 0
        assert self.roost.left_behind() == []


@pytest.fixture
def development(roost: Roost, tmp_path: Path) -> Development:
    return Development(roost, tmp_path / "app")


async def says(socket: ClientConnection, answer: str) -> None:
    await socket.send("x")
    assert await within("an answer", socket.recv(), DEADLINE_S) == answer


async def test_what_is_saved_runs_and_sockets_stay(development: Development) -> None:
    development.start()
    await development.until(200, "1 page 1")
    async with development.connect() as socket:
        await says(socket, "1 x")
        # Within a second of each other, and of one size: Python would not tell the compiled files apart.
        for version in range(2, 6):
            development.save(version)
            await development.until(200, f"{version} page 1")
            await says(socket, f"{version} x")
        (development.folder / "page.html").write_text("page 2")
        await development.until(200, "5 page 2")
        await says(socket, "5 x")
    output = development.output()
    assert f"open http://127.0.0.1:{development.roost.port}/room/lobby" in output
    for wanted in (
        r"Z PRINT shard-1 room/a printed here$",
        r"Z INFO shard-1 room/a room: logged here$",
        r"Z INFO router-1 GET /room/a 200, \d+ ms, 8 bytes$",
        r"Z INFO router-1 WebSocket /room/a opened, \d+ ms$",
        r"new code after \d+\.\d s$",
    ):
        assert re.search(wanted, output, re.MULTILINE), wanted
    wait_for("the line", lambda: "WebSocket /room/a closed, " in development.output())
    await asyncio.to_thread(development.end)


async def test_code_that_does_not_load_is_shown_while_the_code_before_goes_on(development: Development) -> None:
    development.start()
    await development.until(200, "1 page 1")
    async with development.connect() as socket:
        development.save("1 +")
        text = await development.until(500, "SyntaxError")
        assert re.search(r'File ".*helper\.py", line 2', text)
        assert "loader.py" not in text
        status, page = await asyncio.to_thread(development.get, "text/html")
        assert status == 500
        assert "<pre>Traceback" in page
        assert "<h1>" in await asyncio.to_thread(lambda: development.get("text/html", "/")[1])
        await says(socket, "1 x")
        development.save(2)
        await development.until(200, "2 page 1")
        await says(socket, "2 x")
    assert "ERROR shard-1.2     SyntaxError" in development.output()
    await asyncio.to_thread(development.end)


async def test_code_that_does_not_load_at_first_is_waited_for(development: Development) -> None:
    development.save("1 +")
    development.start()
    # Asked before anybody knows: that request does not wait for a shard as long as it may.
    await development.until(500, "SyntaxError")
    development.save("2 +")
    await development.until(500, "2 +")
    development.save(3)
    await development.until(200, "3 page 1")
    async with development.connect() as socket:
        await says(socket, "3 x")
    await asyncio.to_thread(development.end)


async def test_a_constructor_that_fails_is_shown_and_sockets_wait(development: Development) -> None:
    development.start()
    await development.until(200, "1 page 1")
    async with development.connect() as socket:
        await says(socket, "1 x")
        development.save("1 / 0")
        await development.until(500, "ZeroDivisionError")
        await socket.send("y")
        assert "ZeroDivisionError" in (await asyncio.to_thread(development.get))[1]
        development.save(2)
        assert await within("the answer", socket.recv(), DEADLINE_S) == "2 y"
        await development.until(200, "2 page 1")
    await asyncio.to_thread(development.end)


async def test_an_endless_loop_holds_up_no_new_code(development: Development) -> None:
    development.start()
    await development.until(200, "1 page 1")
    development.save(2, "while True: pass")
    await asyncio.to_thread(wait_for, "the swap", lambda: "new code after" in development.output())
    stuck = asyncio.create_task(asyncio.to_thread(development.get))
    await asyncio.sleep(0)
    wait_for("the loop", lambda: "has held the loop" in development.output())
    development.save(3)
    await development.until(200, "3 page 1")
    assert (await stuck)[0] == 502, "it may have been carried out"
    await asyncio.to_thread(development.end)


@pytest.mark.parametrize("at_first", [False, True])
async def test_code_that_waits_while_it_loads_holds_up_no_new_code(development: Development, at_first: bool) -> None:
    """A server that is asked in vain, or an ``input()``, at the top of a module."""
    loaded = development.folder / "begun"
    waits = f"import pathlib, time\npathlib.Path({str(loaded)!r}).touch()\ntime.sleep(1000)\n"
    if not at_first:
        development.start()
        await development.until(200, "1 page 1")
    (development.folder / "helper.py").write_text(waits)
    if at_first:
        development.start()
    await asyncio.to_thread(wait_for, "the code", loaded.exists)
    development.save(2)
    await development.until(200, "2 page 1")
    await asyncio.to_thread(development.end)


def test_a_debugger_stops_in_the_terminal(development: Development) -> None:
    development.save(7, "breakpoint()")
    ours, theirs = os.openpty()
    development.roost.up = subprocess.Popen(
        development.words, stdin=theirs, stdout=theirs, stderr=theirs, text=True, cwd=development.folder
    )
    os.close(theirs)
    seen = b""

    def until(what: bytes) -> None:
        nonlocal seen
        while what not in seen:
            seen += os.read(ours, 65_536)

    executor = ThreadPoolExecutor(1)
    try:
        until(b"roost serves at")
        asking = executor.submit(development.get)
        until(b"(Pdb) ")
        time.sleep(1.5)  # what counts as a hung loop otherwise
        os.write(ours, b"p 6 * 7\n")
        until(b"42\r\n(Pdb) ")
        os.write(ours, b"c\n")
        assert asking.result(DEADLINE_S) == (200, "7 page 1")
        assert b"has held the loop" not in seen
        development.roost.up.send_signal(signal.SIGINT)
        until(b"roost ended")
        assert development.roost.up.wait(DEADLINE_S) == 0
    finally:
        os.close(ours)
        executor.shutdown(wait=False)


def test_pages_are_no_data() -> None:
    assert not PAGES & {".json", ".db", ".sqlite", ".log", ".txt", ".py"}
