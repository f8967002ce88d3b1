"""When a constructor that fails is tried again. Pure."""

from __future__ import annotations

from ...common.limits import CONSTRUCTOR_PATIENCE_S, CONSTRUCTOR_RETRY_S


class Retry:
    """The tries of one object's constructor: after 0.1 s, then after twice as long each time up to 5 s, for 30 s.

    Args:
        now: Seconds at the first failure.
    """

    __slots__ = ("_delay_s", "_until")

    def __init__(self, now: float) -> None:
        self._until = now + CONSTRUCTOR_PATIENCE_S
        self._delay_s = CONSTRUCTOR_RETRY_S[0]

    def next_delay_s(self, now: float) -> float | None:
        """Seconds until the next try, after one that has failed; ``None``: there is none."""
        if now >= self._until:
            return None
        delay_s = self._delay_s
        self._delay_s = min(2 * delay_s, CONSTRUCTOR_RETRY_S[1])
        return min(delay_s, self._until - now)
