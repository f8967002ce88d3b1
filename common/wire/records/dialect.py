"""Dialects: what is said on a link, as one of its ends has it. A link knows its dialect, and no role of its ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from .reading import Reader, read_events, read_output
from .writing import EventWriter, OutputWriter, RecordWriter

W = TypeVar("W", bound=RecordWriter)


@dataclass(frozen=True, eq=False)
class Dialect(Generic[W]):
    """One end's.

    Attributes:
        new_writer: Makes what writes the records that this end sends.
        read: Reads those that come.
        waits_for_maps: Whether a batch that names a newer map waits until this process has that.
    """

    new_writer: Callable[[], W]
    read: Reader
    waits_for_maps: bool


TO_SHARD = Dialect(EventWriter, read_output, waits_for_maps=False)
"""A router's end. It does not wait for maps: what a shard says counts by what is attached to its link. It would even do
harm, as a batch that waits is confirmed: if the shard ended before the map came, output would be lost that the shard
thinks delivered."""
TO_ROUTER = Dialect(OutputWriter, read_events, waits_for_maps=True)
"""A shard's end. Passports and RESTORED mean nothing without the map that they name."""
