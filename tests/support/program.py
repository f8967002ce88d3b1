"""A program that a test has beside it: it obeys lines on stdin and answers each with one line of JSON on stdout."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

from tests.support.cluster import REPOSITORY
from tests.support.waiting import within

LINE_BYTES = 1 << 20
"""Longest answer."""


class Program:
    """One such process.

    Args:
        process: The process.
        name: What it is, for the messages of failures.
    """

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self._process = process
        self._name = name

    @classmethod
    async def start(cls, name: str, module: str, *words: str) -> Program:
        """Start ``python -m module words``."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            limit=LINE_BYTES,
        )
        return cls(process, name)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ask(self, line: str, what: str, seconds: float) -> dict[str, Any]:
        """Give it a line and wait for the answer.

        Args:
            line: Without its end.
            what: What is waited for, in words.
            seconds: How long at most.

        Raises:
            AssertionError: No answer came in time, or the program has ended.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        return await self.answer(what, seconds)

    async def answer(self, what: str, seconds: float) -> dict[str, Any]:
        """Wait for an answer; see ``ask``."""
        assert self._process.stdout is not None
        line = await within(what, self._process.stdout.readline(), seconds)
        if not line:
            raise AssertionError(f"{self._name} have failed (exit code {await self._process.wait()}): see their error")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def end(self, error: BaseException | None = None) -> None:
        """Close its stdin, which ends it; kill it if it does not end.

        Args:
            error: Why, if something has failed before: then that it had to be killed is no failure of its own.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await within(f"the end of {self._name}", self._process.wait())
        except AssertionError:
            self._process.kill()
            await self._process.wait()
            if error is None:
                raise
