"""Long groups, handed out a step at a time: a shard that says much at once does not hold up its router, nor a router
its shards. Short groups, which nearly all are, go to ``read_events`` and ``read_output`` as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .model import EventSink, OutputSink
from .parts import Incoming
from .reading import read_events, read_output

STEP_BYTES = 2 << 10
"""Bytes of a step, and of what is still a short group: some 130 records of the smallest kind, 1 to 2 ms. No record is
divided."""


class EventSteps:
    """A router's group.

    Args:
        group: The group.
        sink: Where its records go.
        parts: What has come of payloads that go ahead.
        before: Called before each step.
    """

    __slots__ = ("_before", "_group", "_parts", "_position", "_sink")

    def __init__(self, group: bytes, sink: EventSink, parts: Incoming[Any], before: Callable[[], object]) -> None:
        self._group = group
        self._sink = sink
        self._parts = parts
        self._before = before
        self._position = 0

    def go_on(self) -> bool:
        """Hand out the next records; returns whether there are more.

        Raises:
            WireError: As ``read_events``.
        """
        self._before()
        end = len(self._group)
        self._position = read_events(
            self._group, self._sink, self._parts, self._position, min(self._position + STEP_BYTES, end)
        )
        return self._position < end


class OutputSteps:
    """A shard's group.

    Args:
        group: The group.
        sink: Where its records go.
        parts: What has come of payloads that go ahead.
    """

    __slots__ = ("_group", "_parts", "_payloads", "_position", "_sink")

    def __init__(self, group: bytes, sink: OutputSink, parts: Incoming[Any]) -> None:
        self._group = group
        self._sink = sink
        self._parts = parts
        self._position = 0
        self._payloads: list[tuple[bytes, bool]] = []

    def go_on(self) -> bool:
        """Hand out the next records; returns whether there are more.

        Raises:
            WireError: As ``read_output``.
        """
        end = len(self._group)
        self._position = read_output(
            self._group,
            self._sink,
            self._parts,
            self._position,
            min(self._position + STEP_BYTES, end),
            self._payloads,
        )
        return self._position < end
