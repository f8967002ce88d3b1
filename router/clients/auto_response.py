"""Automatic responses: what the router answers in an object's place, and when the object's shard hears of it.

A text message equal to the object's request is answered at once, without waking anybody. The time of the last one
belongs to the connection; it reaches the shard with the next tick, one record for all connections of a link, and
ahead of any later event of the connection: whoever handles an event sees the times of all before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ...common.wire.records import EventWriter


class ReportLink(Protocol):
    """The part of a link that reports need."""

    @property
    def writer(self) -> EventWriter: ...
    def flush_soon(self) -> None: ...


class Reports:
    """Times of automatic responses that shards have not been told yet."""

    __slots__ = ("pending",)

    def __init__(self) -> None:
        self.pending: dict[ReportLink, dict[int, float]] = {}

    def note(self, link: ReportLink, connection: int, unix_time: float) -> None:
        """*connection* has got its response now; only its last time counts."""
        times = self.pending.get(link)
        if times is None:
            self.pending[link] = {connection: unix_time}
        else:
            times[connection] = unix_time

    def before_event(self, link: ReportLink, connection: int) -> None:
        """An event of *connection* is about to be written: tell its time first, if one is pending."""
        times = self.pending.get(link)
        if times is not None and connection in times:
            self._write(link, self.pending.pop(link))

    def flush(self) -> None:
        """Tell all links; the shell calls this at each tick, well within ``AUTO_RESPONSE_REPORT_S``."""
        if self.pending:
            pending, self.pending = self.pending, {}
            for link, times in pending.items():
                self._write(link, times)

    def drop(self, link: ReportLink) -> None:
        """The link is dead: the next owner gets the times with the passports."""
        self.pending.pop(link, None)

    def forget(self, link: ReportLink, connections: Iterable[int]) -> None:
        """*connections* are not attached to the link any more: the next owner gets their times with the passports."""
        times = self.pending.get(link)
        if times is not None:
            for connection in connections:
                times.pop(connection, None)
            if not times:
                del self.pending[link]

    @staticmethod
    def _write(link: ReportLink, times: dict[int, float]) -> None:
        link.writer.auto_response_times(list(times), list(times.values()))
        link.flush_soon()
