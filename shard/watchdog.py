"""The watchdog: tells whose code holds the shard's loop.

A thread of its own looks on. The loop bumps a number ten times a second; when that stands still for longer than it may,
the thread logs, once for each time, which handler of which object is running and where. The number's last beat is noted
in the shard's last words as well, so that others can tell a death by hanging.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable

from ..common.limits import BLOCKED_LOOP_REPORT_S
from .development import debugging
from .host import Host

BEAT_S = 0.1
"""Seconds between two beats of the loop."""

log = logging.getLogger("roost.shard")


class Watchdog:
    """Watches the loop that it was started on.

    Args:
        host: Knows what is running.
        limit_s: Seconds that the loop may stand still.
        look: Called by the thread, ten times a second, with monotonic seconds.
    """

    def __init__(
        self, host: Host, limit_s: float = BLOCKED_LOOP_REPORT_S, look: Callable[[float], None] | None = None
    ) -> None:
        self._host = host
        self._look = look
        self._limit_s = limit_s
        self._beats = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._beat()
        self._thread.start()

    def _beat(self) -> None:
        assert self._loop is not None
        self._beats += 1
        if self._host.last_words is not None:
            self._host.last_words.turned(self._loop.time())
        self._timer = self._loop.call_later(BEAT_S, self._beat)

    def _watch(self) -> None:
        try:
            self._keep_watching()
        except Exception as error:
            # One of ours, on a thread: the loop's handler has the answer for all of them.
            context = {"message": "nobody watches the loop any more", "exception": error}
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._loop.call_exception_handler, context)

    def _keep_watching(self) -> None:
        seen, stood_s, reported = self._beats, 0.0, False
        # Event.wait measures itself: if this thread was held up as well, a late look counts as one step only.
        while not self._ended.wait(BEAT_S):
            if self._look is not None:
                self._look(time.monotonic())
            if self._beats != seen or debugging:
                seen, stood_s, reported = self._beats, 0.0, False
                continue
            stood_s += BEAT_S
            if stood_s >= self._limit_s and not reported:
                reported = True
                self._report()

    def _report(self) -> None:
        host = self._host
        what = host.runner.label or "something besides users' handlers"
        frame = sys._current_frames().get(self._loop_thread)
        stack = "".join(traceback.format_stack(frame)[-8:]) if frame is not None else ""
        host.counters.blocked_loops += 1
        log.warning(
            "%s has held the loop for more than %g s; all objects of this shard wait\n%s", what, self._limit_s, stack
        )

    def close(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2 * BEAT_S + 1)
