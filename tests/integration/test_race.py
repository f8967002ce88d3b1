"""The race's client finds what is wrong, and the race runs: small numbers, servers that need no installing.

What a client does not notice would make a server look faster than it is, so each thing that it has to notice is done
to it here: by servers that are wrong in one way each.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from tests.bench.race.building import Unavailable, compiled
from tests.bench.race.crowd import CLIENT, Crowd, CrowdFailed
from tests.bench.race.peers import PEERS
from tests.bench.race.rows import ROWS, Setting
from tests.support.cluster import REPOSITORY
from tests.support.ports import free_port
from tests.support.streams import serving

PATIENCE_S = 1.0
SIZE = 64


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("race")


@pytest.fixture(scope="module")
def client(cache: Path) -> Path:
    try:
        return compiled(cache, *CLIENT)
    except Unavailable as reason:
        pytest.skip(str(reason))


# --- servers that are wrong in one way each ----------------------------------------------------------------------


class Faulty:
    """Echoes, or sends to all, as its path says; what the path names is done wrong at the 20th message."""

    def __init__(self) -> None:
        self.connections: list[ServerConnection] = []
        self.count = 0

    async def handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        _, kind, fault = connection.request.path.split("/")
        self.connections.append(connection)
        if fault == "greeting":
            await connection.send("hello")
        async for message in connection:
            assert isinstance(message, str)
            self.count += 1
            texts = [message]
            if self.count == 20:
                texts = {
                    "none": [message],
                    "wrong": [message[:30] + "!" + message[31:]],
                    "short": [message[:-1]],
                    "long": [message + " "],
                    "missing": [],
                    "twice": [message, message],
                    "other": [message.replace("0000000", "0000009", 1)],
                }.get(fault, [message])
                if fault == "close":
                    await connection.close(1012)
                if fault == "ping":
                    await asyncio.wait_for(await connection.ping(), PATIENCE_S)
            if kind == "echo":
                for text in texts:
                    await connection.send(text)
                continue
            for other in self.connections[:-1]:
                await other.send(message)
            for text in texts:
                await self.connections[-1].send(text)


def accept_nobody(connection: ServerConnection, request: Request, response: Response) -> Response:
    del response.headers["Sec-WebSocket-Accept"]
    response.headers["Sec-WebSocket-Accept"] = "c29tZWJvZHkgZWxzZSdzIGtleQ=="
    return response


@pytest.fixture
async def faulty() -> AsyncIterator[int]:
    server: Server
    async with serve(Faulty().handle, "127.0.0.1", 0, compression=None) as server:
        yield server.sockets[0].getsockname()[1]


async def with_client(
    client: Path, port: int, path: str, connections: int, do: Callable[[Crowd], Any], processes: int = 1
) -> Any:
    def run() -> Any:
        with Crowd(client, port, path, processes=processes, patience_s=PATIENCE_S) as crowd:
            crowd.connect(connections)
            return do(crowd)

    return await asyncio.to_thread(run)


async def test_an_honest_echo_is_measured(client: Path, faulty: int) -> None:
    found = await with_client(client, faulty, "/echo/none", 5, lambda crowd: crowd.echo(0.2, 0.1, SIZE), processes=2)
    assert 0 < found["round_trips"] < found["all"]
    assert found["per_s"] == pytest.approx(found["round_trips"] / 0.2, rel=1e-3)
    assert 0 < found["p50_us"] <= found["p99_us"] <= found["max_us"] < 1e6
    assert len(found["cpu"]) == 2
    assert all(0 < share < 1.1 for share in found["cpu"])


@pytest.mark.parametrize("size", [24, 125, 126, 4096])
async def test_sizes(client: Path, faulty: int, size: int) -> None:
    found = await with_client(client, faulty, "/echo/none", 3, lambda crowd: crowd.echo(0.05, 0, size))
    assert found["all"] > 0


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("wrong", "expected the echo"),
        ("short", "expected the echo"),
        ("long", "expected the echo"),
        ("twice", "expected"),
        ("missing", "1 echoes never came"),
        ("close", "was closed with 1012"),
    ],
)
async def test_a_wrong_echo_is_found(client: Path, faulty: int, fault: str, complaint: str) -> None:
    with pytest.raises(CrowdFailed, match=complaint):
        await with_client(client, faulty, f"/echo/{fault}", 5, lambda crowd: crowd.echo(0.3, 0, SIZE))


@pytest.mark.parametrize("processes", [1, 3])
async def test_an_honest_broadcast_is_measured(client: Path, faulty: int, processes: int) -> None:
    # More broadcasts than a connection has bits for them.
    found = await with_client(
        client, faulty, "/cast/none", 7, lambda crowd: crowd.broadcast(0.4, 2, 3, SIZE), processes=processes
    )
    assert found["all"] == found["broadcasts"] + 2 > 130
    assert found["frames_per_s"] == pytest.approx(found["broadcasts"] * 7 / found["seconds"], rel=1e-3)
    assert 0 < found["complete_p50_ms"] <= found["complete_max_ms"]
    assert found["reordered"] == 0


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("wrong", "expected a broadcast"),
        ("short", "expected a broadcast"),
        ("other", "expected a broadcast"),
        ("twice", "came twice"),
        ("missing", "broadcast 19 reached 6 of 7 connections in time"),
    ],
)
async def test_a_wrong_broadcast_is_found(client: Path, faulty: int, fault: str, complaint: str) -> None:
    with pytest.raises(CrowdFailed, match=complaint):
        await with_client(client, faulty, f"/cast/{fault}", 7, lambda crowd: crowd.broadcast(0.4, 2, 2, SIZE))


async def test_what_comes_unasked_is_found(client: Path, faulty: int) -> None:
    with pytest.raises(CrowdFailed, match="expected nothing, got hello"):
        await with_client(client, faulty, "/echo/greeting", 3, lambda crowd: crowd.echo(0.1, 0, SIZE))


async def test_pings_are_answered(client: Path, faulty: int) -> None:
    # The server's handler waits for the pong before it echoes.
    found = await with_client(client, faulty, "/echo/ping", 1, lambda crowd: crowd.echo(0.2, 0, SIZE))
    assert found["all"] > 20


async def test_a_question_is_answered_and_timed(client: Path, faulty: int) -> None:
    answer, seconds = await with_client(client, faulty, "/echo/none", 2, lambda crowd: crowd.ask('"who"'))
    assert answer == '"who"'
    assert 0 < seconds < PATIENCE_S


async def test_a_handshake_for_another_key_is_found(client: Path) -> None:
    async with serve(Faulty().handle, "127.0.0.1", 0, process_response=accept_nobody) as server:
        with pytest.raises(CrowdFailed, match="Sec-WebSocket-Accept is wrong"):
            await with_client(client, server.sockets[0].getsockname()[1], "/echo/none", 1, lambda crowd: None)


async def test_nobody_listens(client: Path) -> None:
    with pytest.raises(CrowdFailed, match="Connection refused"):
        await with_client(client, free_port(), "/", 1, lambda crowd: None)


async def test_frames_may_come_in_pieces(client: Path) -> None:
    """A byte at a time, the end of the 101's head among them."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"dGhlIHNhbXBsZSBub25jZQ==" in head
        answer = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        await piecemeal(writer, answer)
        question = await reader.readexactly(2 + 4 + 5)
        text = bytes(byte ^ question[2 + index % 4] for index, byte in enumerate(question[6:]))
        await piecemeal(writer, b"\x81\x05" + text)
        await reader.read()

    async def piecemeal(writer: asyncio.StreamWriter, data: bytes) -> None:
        for index in range(len(data)):
            writer.write(data[index : index + 1])
            await writer.drain()
            await asyncio.sleep(0.001)

    async with serving(handle) as port:
        answer, _ = await with_client(client, port, "/", 1, lambda crowd: crowd.ask('"who"'))
        assert answer == '"who"'


# --- the race ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["roost2", "bare2", "bare-c2", "websockets"])
def test_each_row_can_be_measured(cache: Path, client: Path, name: str) -> None:
    peer = PEERS[name](cache)
    assert peer.prepare()
    with peer.start() as server:
        for row in ("echo-1", "broadcast-2000", "connect"):

            def enter(kind: str) -> Crowd:
                return Crowd(client, server.port, server.path(kind), processes=2)

            count = min(ROWS[row].connections, 20)
            found = ROWS[row].measure(Setting(server, enter, seconds=0.1, connections=count))
            assert found["value"] > 0, row
            assert found["server_cpu_us"] >= 0, row


def test_an_object_is_woken(cache: Path, client: Path) -> None:
    with PEERS["roost"](cache).start() as server:

        def enter(kind: str) -> Crowd:
            return Crowd(client, server.port, server.path(kind))

        setting = Setting(server, enter, seconds=0.1, connections=20)
        found = ROWS["wake-10000"].measure(setting)
        assert 0 < found["value"] < 1_000
        awake = dataclasses.replace(server, await_asleep=lambda: None)
        with pytest.raises(CrowdFailed, match="not asleep"):
            ROWS["wake-10000"].measure(dataclasses.replace(setting, server=awake))


@pytest.mark.usefixtures("client")
def test_one_command_measures_and_writes_the_table(cache: Path, tmp_path: Path) -> None:
    page, raw = tmp_path / "page.md", tmp_path / "raw.json"
    page.write_text("# Performance\n")
    words = ["--rounds=2", "--seconds=0.1", "--only=echo-64", "--peers=roost,bare"]
    finished = subprocess.run(
        [sys.executable, "-m", "tests.bench.race", *words, f"--cache={cache}", f"--json={raw}", f"--markdown={page}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    report = json.loads(raw.read_text())
    assert report["failures"] == []
    for peer in ("roost", "bare"):
        assert len([sample for sample in report["samples"]["echo-64"][peer] if sample["value"] > 0]) == 2
    text = page.read_text()
    assert text.startswith("# Performance\n\n<!-- race")
    assert "| echo, 64 connections, round trips/s; 1 router |" in text


@pytest.mark.parametrize("words", [["--only=echo-7"], ["--peers=nobody"]])
def test_what_there_is_not_is_refused(words: list[str]) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "tests.bench.race", *words],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert finished.returncode == 2
    assert "there are" in finished.stderr
