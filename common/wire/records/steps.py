"""Long groups, handed out a step at a time: a shard that says much at once does not hold up its router, nor a router
its shards. Short groups, which nearly all are, go to their reader as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .parts import Incoming
from .reading import Reader

STEP_BYTES = 2 << 10
"""Bytes of a step, and of what is still a short group: some 130 records of the smallest kind, 1 to 2 ms. No record is
divided."""


class Steps:
    """A long group.

    Args:
        read: Its reader.
        group: The group.
        sink: Where its records go.
        parts: What has come of payloads that go ahead.
        before: Called before each step.
    """

    __slots__ = ("_before", "_group", "_parts", "_payloads", "_position", "_read", "_sink")

    def __init__(
        self,
        read: Reader,
        group: bytes,
        sink: Any,
        parts: Incoming[Any],
        before: Callable[[], object] | None = None,
    ) -> None:
        self._read = read
        self._group = group
        self._sink = sink
        self._parts = parts
        self._before = before
        self._position = 0
        self._payloads: list[tuple[bytes, bool]] = []

    def go_on(self) -> bool:
        """Hand out the next records; returns whether there are more.

        Raises:
            WireError: As the reader.
        """
        if self._before is not None:
            self._before()
        start, end = self._position, len(self._group)
        stop = min(start + STEP_BYTES, end)
        self._position = self._read(self._group, self._sink, self._parts, start, stop, self._payloads)
        return self._position < end
