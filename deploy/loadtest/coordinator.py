"""The coordinator: starts the processes, leads them through the phases, and takes in what they say.

Every wait has a deadline. The first Ctrl-C ends the phase under way, and cuts the others short; the second one kills.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from ...common.errors import RoostError
from ...common.runtime.processes import python_words
from . import machine
from .capacity import Fit
from .config import LoadConfig
from .connection import CLOSE_TIMEOUT_S
from .ledger import Findings
from .result import ENDING, SENDING, Books
from .worker import BACKLOG_S, HANDSHAKES_AT_ONCE, MAX_LINE_BYTES, Setup, config_to_dict

START_TIMEOUT_S = 30.0
"""Seconds for a process to start."""
SLACK_S = 30.0
"""Seconds beyond what a phase should take at most: a busy machine is no reason to throw away a result."""
CLOSE_SLACK_S = 60.0
HEAD_START_S = 0.25
"""Seconds between the command to begin and the beginning, so that all processes hear it before."""
INTERRUPTED_PATIENCE_S = 2.0
"""Seconds for what is missing after a Ctrl-C."""
DRAWING_INTERVAL_S = 0.25
END_TIMEOUT_S = 10.0


class LoadFailed(RoostError):
    """The run could not be carried out; there is no result."""


class _Process:
    """A process of ours, and what it has said."""

    def __init__(self, number: int, process: asyncio.subprocess.Process) -> None:
        self.number, self.process = number, process
        self.said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()  # a few lines: reports do not go through it
        self.reader: asyncio.Task[None] | None = None

    def tell(self, **command: Any) -> None:
        """Send a command."""
        assert self.process.stdin is not None
        if not self.process.stdin.is_closing():
            self.process.stdin.write(json.dumps(command).encode() + b"\n")

    async def read(self, on_second: Callable[[int, dict[str, Any]], None]) -> None:
        """Take in lines until it ends."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            report = json.loads(line)
            if report["say"] == "second":
                on_second(self.number, report)
            else:
                self.said.put_nowait(report)
        self.said.put_nowait({"say": "ended"})


class Coordinator:
    """One run.

    Args:
        config: The settings.
        fit: How many processes, from where.
        family, address: Where the server is.
        draw: Called some times a second with the books and a word for what is going on.
    """

    def __init__(
        self, config: LoadConfig, fit: Fit, family: int, address: str, draw: Callable[[Books, str], None]
    ) -> None:
        self._config, self._fit, self._family, self._address = config, fit, family, address
        self._draw = draw
        self.books = Books(config, fit.processes)
        self._processes: list[_Process] = []
        self._interrupted = asyncio.Event()
        self._word = "starting"
        self._epoch_ns = 0

    async def run(self) -> Books:
        """Carry it out.

        Returns:
            The books; ``interrupted`` tells whether Ctrl-C has ended it.

        Raises:
            LoadFailed: A process of ours has died, or does not get on.
            asyncio.CancelledError: The second Ctrl-C.
        """
        loop = asyncio.get_running_loop()
        me = asyncio.current_task()
        assert me is not None

        def on_signal() -> None:
            if self._interrupted.is_set():
                me.cancel()
                return
            self.books.interrupted = True
            self._stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
        beside = [loop.create_task(self._keep_drawing()), loop.create_task(self._keep_measuring_memory())]
        try:
            await self._phases()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            await self._clean_up()
        for task in beside:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        return self.books

    def _stop(self) -> None:
        self._interrupted.set()
        for process in self._processes:
            process.tell(do="stop")

    def _second(self, process: int, report: dict[str, Any]) -> None:
        self.books.second(process, report)
        if not self._interrupted.is_set() and self.books.will_not_echo(time.monotonic()):
            self.books.given_up = True
            self._stop()

    # --- the phases ---

    async def _phases(self) -> None:
        config, books = self._config, self.books
        await self._start()
        self._word = "opening"
        began = time.monotonic()
        each = config.connections / self._fit.processes
        ramp_s = config.connections / config.ramp if config.ramp else 0.0
        rounds = 1 + each / HANDSHAKES_AT_ONCE  # should each handshake run into its deadline
        await self._ask("opened", ramp_s + rounds * config.connect_timeout + SLACK_S, do="open")
        books.opened_s = time.monotonic() - began
        books.opened = books.total("open")
        logs: dict[str, list[int]] = {}
        if books.opened and not self._interrupted.is_set():
            logs = await self._send()
        books.phase = ENDING
        self._word = "settling"
        patience_s = INTERRUPTED_PATIENCE_S if self._interrupted.is_set() else config.patience
        answers = await self._ask("settled", patience_s + SLACK_S, do="settle", logs=logs, wait_s=patience_s)
        for answer in answers:
            books.findings.merge(Findings.from_dict(answer["findings"]))
        books.settled = True
        self._word = "closing"
        rounds = 1 + each / HANDSHAKES_AT_ONCE
        await self._ask("closed", rounds * CLOSE_TIMEOUT_S + CLOSE_SLACK_S, do="close")

    async def _send(self) -> dict[str, list[int]]:
        config, books = self._config, self.books
        books.phase = SENDING
        self._word = {"idle": "holding"}.get(config.mode, "sending")
        begin_ns = time.monotonic_ns() + int(HEAD_START_S * 1e9)
        books.begun_s = begin_ns / 1e9
        # An exchange may have to wait for its echoes, its Close and its handshake.
        exchange_s = config.patience + 2 * CLOSE_TIMEOUT_S + config.connect_timeout if config.churn else 0.0
        answers = await self._ask(
            "done",
            HEAD_START_S + config.duration + BACKLOG_S + exchange_s + SLACK_S,
            do="begin",
            at_us=(begin_ns - self._epoch_ns) // 1_000,
        )
        books.done_s = min(time.monotonic(), books.begun_s + config.duration)
        logs = {seat: log for answer in answers for seat, log in answer["logs"].items()}
        books.broadcasts_sent = sum(map(len, logs.values()))
        return logs

    # --- the processes ---

    async def _start(self) -> None:
        command = python_words("roost.deploy.loadtest.worker")
        run = int.from_bytes(os.urandom(2), "big")
        for number in range(self._fit.processes):
            made = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=MAX_LINE_BYTES,
                start_new_session=True,  # a Ctrl-C is for us: they are told what to do
            )
            process = _Process(number, made)
            self._processes.append(process)
            process.reader = asyncio.create_task(process.read(self._second))
        self._epoch_ns = time.monotonic_ns()
        for process in self._processes:
            setup = Setup(
                config=config_to_dict(self._config),
                process=process.number,
                processes=self._fit.processes,
                run=run,
                epoch_ns=self._epoch_ns,
                family=self._family,
                address=self._address,
                sources=list(self._fit.sources),
            )
            process.tell(setup=dataclasses.asdict(setup))
        await self._await_all("ready", START_TIMEOUT_S)

    async def _ask(self, word: str, deadline_s: float, **command: Any) -> list[dict[str, Any]]:
        """Give all processes a command and wait for their answers."""
        for process in self._processes:
            process.tell(**command)
        return await self._await_all(word, deadline_s)

    async def _await_all(self, word: str, deadline_s: float) -> list[dict[str, Any]]:
        answers = []
        give_up_at = time.monotonic() + deadline_s
        for process in self._processes:
            try:
                answer = await asyncio.wait_for(process.said.get(), max(0.0, give_up_at - time.monotonic()))
            except TimeoutError:
                raise LoadFailed(
                    f"process {process.number} of the load tester was not {word!r} within {deadline_s:,.0f} s"
                ) from None
            if answer["say"] != word:
                code = await asyncio.wait_for(process.process.wait(), END_TIMEOUT_S)
                raise LoadFailed(f"process {process.number} of the load tester ended with {code} ({self._word})")
            answers.append(answer)
        return answers

    async def _clean_up(self) -> None:
        """End the processes: those that are told to have ended already."""
        for process in self._processes:
            if process.process.stdin is not None:
                process.process.stdin.close()
        readers = [process.reader for process in self._processes if process.reader is not None]
        ends = [asyncio.ensure_future(process.process.wait()) for process in self._processes]
        if ends:
            # After a second Ctrl-C, or an error, nobody waits.
            patience_s = END_TIMEOUT_S if self.books.settled else 0.0
            _, late = await asyncio.wait(ends, timeout=patience_s)
            for process in self._processes:
                if process.process.returncode is None:
                    process.process.kill()
            if late:
                await asyncio.wait(late, timeout=END_TIMEOUT_S)
        for reader in readers:
            reader.cancel()
        if readers:
            await asyncio.wait(readers)

    # --- beside ---

    async def _keep_drawing(self) -> None:
        while True:
            self._draw(self.books, self._word)
            await asyncio.sleep(DRAWING_INTERVAL_S)

    async def _keep_measuring_memory(self) -> None:
        """At the end of each second, when the processes say how many connections are open. Not while those are closed:
        a process keeps for a while what it has had."""
        if not self._config.admin:
            return
        while self.books.phase != ENDING:
            elapsed_s = (time.monotonic_ns() - self._epoch_ns) / 1e9 if self._epoch_ns else 0.0
            second = int(elapsed_s)
            await asyncio.sleep(second + 1 - elapsed_s)
            if not self._epoch_ns or self.books.phase == ENDING:
                continue
            try:
                status = await asyncio.to_thread(machine.ask_admin, self._config.admin)
            except machine.NoAdmin:
                continue  # a moment in which it does not answer is a gap in a curve
            memory = await asyncio.to_thread(machine.server_memory, status)
            if memory:
                self.books.memory(second, memory)
