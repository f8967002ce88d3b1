"""``roost load`` against a real cluster, and against servers that do to messages what none should.

The tester is a program, and is run as one: its verdict is the exit code, its account the JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve

from roost.common.machine.counters import read_counters
from roost.common.runtime.processes import python_words
from tests.integration.roost import lives
from tests.support.cluster import REPOSITORY, Cluster
from tests.support.streams import serving
from tests.support.waiting import until, within

EXIT_FAULTS, EXIT_INTERRUPTED = 3, 130
DEADLINE_S = 40.0


@pytest.fixture(scope="module")
def target() -> Iterator[Cluster]:
    """The example that is made for it, over two routers and two shards."""
    with Cluster(REPOSITORY / "deploy/examples/load_target.py", routers=2, shards=2) as cluster:
        yield cluster


class Run:
    """One run of the command."""

    def __init__(self, url: str, folder: Path, *words: str) -> None:
        self.file = folder / "result.json"
        self._log = folder / "output"
        with self._log.open("wb") as output:
            self.popen = subprocess.Popen(
                [*python_words("roost"), "load", url, f"--json={self.file}", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    def workers(self) -> list[int]:
        """The processes that hold the connections."""
        children = Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children").read_text().split()
        return [int(pid) for pid in children]

    async def ended(self) -> int:
        try:
            code = await within("the load tester to end", asyncio.to_thread(self.popen.wait, DEADLINE_S), DEADLINE_S)
        finally:
            if self.popen.poll() is None:
                self.popen.kill()  # its processes end when their stdin does
                self.popen.wait()
        return code

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.file.read_text())
        return found


async def run(url: str, folder: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    """Run it to its end: exit code, result, output."""
    one = Run(url, folder, *words)
    code = await one.ended()
    assert one.file.exists(), one.output
    return code, one.result, one.output


def without_faults(result: dict[str, Any]) -> bool:
    names = ("lost", "duplicated", "reordered", "corrupted", "misdelivered", "foreign")
    return result["verdict"]["ok"] and not any(result["messages"][name] for name in names)


# --- a cluster ------------------------------------------------------------------------------------------------------


async def test_echo_and_broadcasts_with_churn(target: Cluster, tmp_path: Path) -> None:
    """The whole of it at once: several objects, processes, exchanged connections, and a report."""
    report = tmp_path / "report.html"
    code, result, output = await run(
        target.ws("/load-target/{object}"),
        tmp_path,
        *("--connections=60", "--objects=3", "--processes=2", "--mode=mixed", "--rate=300", "--broadcast-rate=20"),
        *("--churn=1500", "--duration=2", "--size=100", f"--report={report}"),
    )
    assert (code, without_faults(result)) == (0, True), output
    connections, messages = result["connections"], result["messages"]
    assert connections["opened"] == 60
    assert connections["exchanged"] >= 10  # 30 by the schedule
    assert connections["closed_by_us"] == {"1000": 60 + connections["exchanged"]}
    assert messages["sent"] + messages["passed_over"] == messages["offered"] == 640
    assert result["broadcasts"]["sent"] == result["broadcasts"]["complete"] == 40
    assert result["broadcasts"]["own_copies_came"] == result["broadcasts"]["own_copies_due"] == 40
    assert result["latency_us"]["fan_out_last"]["count"] == 40
    assert result["latency_us"]["echo"]["p50"] >= result["latency_us"]["echo_service"]["p50"]
    assert "the server sends broadcasts to their sender, too" in output
    page = report.read_text()
    assert page.count("<svg") == 3
    assert "\x1b" not in output  # nothing moves where there is no terminal


async def test_idle_connections_over_several_addresses_and_the_memory_of_the_cluster(
    target: Cluster, tmp_path: Path
) -> None:
    sources = ("--source=127.0.0.2", "--source=127.0.0.3")
    async with admin_api(target) as admin:
        words = ("--connections=40", "--mode=idle", "--duration=1.5", f"--admin={admin}", *sources)
        code, result, output = await run(target.ws("/load-target/x"), tmp_path, *words)
    assert (code, without_faults(result)) == (0, True), output
    assert result["settings"]["sources_used"] == ["127.0.0.2", "127.0.0.3"]
    assert "ok: all connections were opened and stayed open" in output
    assert set(result["server_memory"]["before"]) == {"router", "shard"}
    assert min(result["server_memory"]["before"].values()) > 10_000_000
    seen = [second for second in result["timeline"] if "server_memory" in second]
    assert seen
    assert seen[-1]["open"] == 40
    assert "kB a connection" in output


@contextlib.asynccontextmanager
async def admin_api(cluster: Cluster) -> AsyncIterator[str]:
    """What a supervisor says of its members, as far as the tester asks for it."""
    members = [{"kind": one.kind, "pid": one.pid} for one in cluster.processes.values()]
    body = json.dumps({"members": members, "totals": {"connections": 0}}).encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        assert request.startswith(b"GET /status ")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    async with serving(answer) as port:
        yield f"http://127.0.0.1:{port}/"


async def test_ctrl_c_ends_with_the_result_so_far(target: Cluster, tmp_path: Path) -> None:
    one = Run(target.ws("/load-target/x"), tmp_path, "--connections=20", "--rate=200", "--duration=600")
    await until("its processes to start", lambda: bool(one.workers()))
    workers = one.workers()
    await until_received(target, 20)
    os.killpg(one.popen.pid, signal.SIGINT)  # as a terminal does it: to the whole group
    assert await one.ended() == EXIT_INTERRUPTED, one.output
    result = one.result
    assert without_faults(result), one.output
    assert result["verdict"]["interrupted"]
    assert result["messages"]["received"] == result["messages"]["sent"] > 0
    assert not any(map(lives, workers))


async def until_received(cluster: Cluster, messages: int) -> None:
    """Wait until the routers have taken in some messages since now."""
    paths = list(cluster.run.glob("router-*.counters"))

    def taken() -> int:
        return sum(read_counters(path).values["messages_in"] for path in paths)

    before = taken()
    await until(f"{messages} messages to reach the cluster", lambda: taken() >= before + messages, DEADLINE_S)


async def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    """A server that never answers would be waited for."""
    talk = Talk()
    async with server(silent, talk) as url:
        one = Run(url, tmp_path, "--connections=5", "--rate=100", "--duration=600", "--patience=600")
        await until("its processes to start", lambda: bool(one.workers()))
        workers = one.workers()
        await until("messages", lambda: talk.count > 5)
        one.popen.send_signal(signal.SIGINT)
        await asyncio.sleep(0.2)  # two signals in one moment would be one
        one.popen.send_signal(signal.SIGINT)
        assert await one.ended() == EXIT_INTERRUPTED
    assert "without a result" in one.output
    assert not one.file.exists()
    assert not any(map(lives, workers))


async def test_a_process_of_the_tester_that_dies_leaves_no_result_and_no_others(tmp_path: Path) -> None:
    talk = Talk()
    async with server(silent, talk) as url:
        one = Run(url, tmp_path, "--connections=6", "--processes=2", "--rate=100", "--duration=600")
        await until("its processes to send", lambda: talk.count > 5)
        workers = one.workers()
        os.kill(workers[0], signal.SIGKILL)
        assert await one.ended() == 1
    assert "of the load tester ended with -9 (sending)" in one.output
    assert not one.file.exists()
    assert not any(map(lives, workers))


async def test_refused_handshakes_are_counted_by_status(target: Cluster, tmp_path: Path) -> None:
    code, result, output = await run(target.ws("/no-such-class/x"), tmp_path, "--connections=7")
    assert code == EXIT_FAULTS
    assert result["connections"]["failed"] == {"HTTP 404": 7}
    assert "FAILED: 7 not opened (HTTP 404)" in output


async def test_the_chat_is_told_to_be_no_echo_server_and_which_is_one(chat: Cluster, tmp_path: Path) -> None:
    words = ("--connections=4", "--rate=40", "--duration=30")
    code, result, output = await run(chat.ws("/chat-room/load"), tmp_path, *words)
    assert code == EXIT_FAULTS
    assert "FAILED: this is no echo server: it must send each message back to its sender as it was" in output
    assert "deploy/examples/load_target.py is one" in output
    assert "ended after 2 s of sending" in output
    assert result["messages"]["sent"] < 400, "it does not go on for the whole duration"
    assert result["verdict"]["sentence"].startswith("this is no echo server")


async def test_a_router_that_is_drained_is_no_silent_loss(tmp_path: Path) -> None:
    with Cluster(REPOSITORY / "deploy/examples/load_target.py", routers=2) as cluster:
        one = Run(
            cluster.ws("/load-target/x"), tmp_path, "--connections=30", "--rate=100", "--duration=2.5", "--ramp=0"
        )
        await until_received(cluster, 20)
        cluster.processes["router-2"].stop()
        assert await one.ended() == EXIT_FAULTS, one.output
    closed = one.result["connections"]["closed_by_server"]
    assert set(closed) == {"1001"}
    assert one.result["messages"]["passed_over"] > 0


# --- servers that do harm -------------------------------------------------------------------------------------------

Answers = list[tuple[ServerConnection, str | bytes]]


class Talk:
    """What a server knows.

    Attributes:
        count: Messages that have come.
        peers: Its connections, oldest first.
        held: Messages that it has put off.
    """

    def __init__(self) -> None:
        self.count = 0
        self.peers: list[ServerConnection] = []
        self.held: Answers = []

    @property
    def is_time(self) -> bool:
        """Whether this is one of the messages, one in ten, to which something is done."""
        return self.count % 10 == 5


Answer = Callable[[Talk, ServerConnection, str | bytes], Answers]


@contextlib.asynccontextmanager
async def server(answer: Answer, talk: Talk | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that sends what *answer* says for each message."""
    talk = talk or Talk()

    async def handler(pipe: ServerConnection) -> None:
        talk.peers.append(pipe)
        try:
            async for message in pipe:
                talk.count += 1
                for to, text in answer(talk, pipe, message):
                    await to.send(text)
        finally:
            talk.peers.remove(pipe)

    made: Server
    async with serve(handler, "127.0.0.1", 0, ssl=tls) as made:
        port = next(iter(made.sockets)).getsockname()[1]
        yield f"{'wss' if tls else 'ws'}://127.0.0.1:{port}/"


def silent(talk: Talk, pipe: ServerConnection, message: str | bytes) -> Answers:
    return []


def back(talk: Talk, pipe: ServerConnection, message: str | bytes) -> Answers:
    return [(pipe, message)]


def everybody(talk: Talk, pipe: ServerConnection, message: str | bytes) -> Answers:
    return [(peer, message) for peer in talk.peers]


def loses(talk: Talk, pipe: ServerConnection, message: str | bytes) -> Answers:
    return [] if talk.is_time else [(pipe, message)]


def doubles(talk: Talk, pipe: ServerConnection, message: str | bytes) -> Answers:
    return [(pipe, message)] * (2 if talk.is_time else 1)


def reorders(talk: Talk, pipe: ServerConnection, message: str | bytes) -> Answers:
    """A message waits for the one after it on its connection."""
    if talk.is_time:
        talk.held.append((pipe, message))
        return []
    own = [item for item in talk.held if item[0] is pipe]
    talk.held = [item for item in talk.held if item[0] is not pipe]
    return [(pipe, message), *own]


def corrupts(talk: Talk, pipe: ServerConnection, message: str | bytes) -> Answers:
    assert isinstance(message, str)
    changed = message[:36] + ("0" if message[36] != "0" else "1") + message[37:]
    return [(pipe, changed if talk.is_time else message)]


def cuts(talk: Talk, pipe: ServerConnection, message: str | bytes) -> Answers:
    return [(pipe, message[:-1] if talk.is_time else message)]


def changes_the_kind(talk: Talk, pipe: ServerConnection, message: str | bytes) -> Answers:
    return [(pipe, str(message).encode() if talk.is_time else message)]


def mixes_up(talk: Talk, pipe: ServerConnection, message: str | bytes) -> Answers:
    return [(next(peer for peer in talk.peers if peer is not pipe) if talk.is_time else pipe, message)]


FOUND_IN_ECHOES: dict[Answer, set[str]] = {
    loses: {"lost"},
    doubles: {"duplicated"},
    reorders: {"reordered"},
    corrupts: {"corrupted", "lost"},
    cuts: {"corrupted", "lost"},
    changes_the_kind: {"corrupted", "lost"},
    mixes_up: {"misdelivered", "lost"},
    everybody: {"misdelivered"},
}


async def test_an_echo_server_that_harms_messages_is_found(tmp_path: Path) -> None:
    """All kinds of harm side by side: most of a run's time is that of starting."""

    async def one(answer: Answer) -> tuple[int, dict[str, Any], str]:
        folder = tmp_path / answer.__name__
        folder.mkdir()
        words = ("--connections=5", "--ramp=0", "--rate=150", "--duration=0.4", "--patience=0.3")
        async with server(answer) as url:
            return await run(url, folder, *words)

    names = ("lost", "duplicated", "reordered", "corrupted", "misdelivered")
    answers = await asyncio.gather(*map(one, FOUND_IN_ECHOES))
    for (answer, wanted), (code, result, output) in zip(FOUND_IN_ECHOES.items(), answers, strict=True):
        assert code == EXIT_FAULTS, output
        found = {name for name in names if result["messages"][name]}
        if answer is reorders:
            found.discard("lost")  # what was held back to the end
        assert found == wanted, output
        assert "FAILED" in output
        assert result["messages"]["examples"]


async def test_a_broadcast_that_one_receiver_misses_is_found(tmp_path: Path) -> None:
    """The last of all, which leaves no gap, as well."""

    def answer(talk: Talk, pipe: ServerConnection, message: str | bytes) -> Answers:
        everyone = everybody(talk, pipe, message)
        return everyone[1:] if talk.count >= 8 else everyone

    async with server(answer) as url:
        code, result, output = await run(
            url,
            tmp_path,
            *("--connections=6", "--ramp=0", "--mode=broadcast", "--rate=20", "--duration=0.5", "--patience=0.3"),
            "--own-copies=yes",
        )
    assert code == EXIT_FAULTS, output
    assert result["broadcasts"]["sent"] == 10
    assert result["broadcasts"]["complete"] == 7
    assert result["messages"]["lost"] == 3


async def test_a_server_may_leave_the_sender_out_and_say_things_of_its_own(tmp_path: Path) -> None:
    def answer(talk: Talk, pipe: ServerConnection, message: str | bytes) -> Answers:
        return [*((peer, message) for peer in talk.peers if peer is not pipe), (pipe, "noted")]

    async with server(answer) as url:
        words = ("--connections=6", "--ramp=0", "--mode=broadcast", "--rate=20", "--duration=0.5", "--patience=0.3")
        code, result, output = await run(url, tmp_path, *words)
    assert code == 0, output
    assert result["messages"]["foreign"] == 10
    assert "the server does not send broadcasts to their sender" in output


async def test_a_server_that_closes_is_found(tmp_path: Path) -> None:
    def answer(talk: Talk, pipe: ServerConnection, message: str | bytes) -> Answers:
        if talk.count == 5:
            closing.append(asyncio.create_task(pipe.close(4000, "enough")))
            return []
        return back(talk, pipe, message)

    closing: list[asyncio.Task[None]] = []
    async with server(answer) as url:
        words = ("--connections=3", "--ramp=0", "--rate=50", "--duration=0.5", "--patience=0.3", "--binary")
        code, result, output = await run(url, tmp_path, *words)
    assert code == EXIT_FAULTS, output
    assert result["connections"]["closed_by_server"] == {"4000": 1}
    assert result["messages"]["lost"] >= 1


@pytest.fixture
def certificate(tmp_path: Path) -> ssl.SSLContext:
    """A server's TLS, with a certificate that nobody has signed."""
    made, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "1", "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(made)]
    subprocess.run(command, capture_output=True, check=True, timeout=20)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    return context


async def test_tls(certificate: ssl.SSLContext, tmp_path: Path) -> None:
    words = ("--connections=4", "--ramp=0", "--rate=50", "--duration=0.3")
    folders = [tmp_path / "trusting", tmp_path / "careful"]
    for folder in folders:
        folder.mkdir()
    async with server(back, tls=certificate) as url:
        (code, result, output), careful = await asyncio.gather(
            run(url, folders[0], *words, "--insecure"), run(url, folders[1], *words)
        )
    assert (code, without_faults(result)) == (0, True), output
    code, result, output = careful
    assert code == EXIT_FAULTS
    assert result["connections"]["failed"] == {"TLS: CERTIFICATE_VERIFY_FAILED": 4}
