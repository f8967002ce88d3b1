"""The phases of a client that speaks HTTP, and the deadline of each.

A connection is always in one phase, and each phase has one deadline::

    FRESH     nothing received yet         handshake_timeout_s, then it is closed
    HEAD      in the middle of a head      handshake_timeout_s, then 408
    BODY      in the middle of a body      handshake_timeout_s without a byte, or stall_timeout_s without
                                           progress (at the least rate), then 408
    WAITING   no shard has entered yet     parked_timeout_s, then 503
    BUSY      the object has a request     none: handlers take what they take
    UPGRADE   it has an upgrade            handshake_timeout_s, then 503
    IDLE      between two requests         keep_alive_s, then it is closed
    CLOGGED   the client does not take     stall_timeout_s without progress (``send_buffers``), then it is
              its response                 cut off
    LINGERING the last response is         stall_timeout_s without progress, then it is cut off; LINGER_S from
              written, what still comes    when it has taken everything, then it is closed
              is dropped
"""

from __future__ import annotations

from enum import Enum, auto

from ...common.settings.router import RouterConfig
from ..clients.timers import ticks

LINGER_S = 2.0
"""Seconds for which a client that was refused may go on sending: closing at once would reset the connection, and it
might never see the answer."""


class Phase(Enum):
    """Where an HTTP connection is; see the module."""

    __hash__ = object.__hash__  # that of Enum is a call of Python code, and each request makes dozens

    FRESH = auto()
    HEAD = auto()
    BODY = auto()
    WAITING = auto()
    BUSY = auto()
    UPGRADE = auto()
    IDLE = auto()
    CLOGGED = auto()
    LINGERING = auto()
    OVER = auto()
    """Ended, or another protocol's: it counts and waits for nothing."""


COMING = frozenset((Phase.HEAD, Phase.BODY))
HANDSHAKES = frozenset((Phase.HEAD, Phase.UPGRADE))
GO_FIRST = (Phase.FRESH, Phase.LINGERING, Phase.IDLE, Phase.CLOGGED, Phase.HEAD, Phase.BODY)
"""Phases in which a connection may be ended for another that comes, in this order."""
AT_WORK = (Phase.WAITING, Phase.BUSY, Phase.UPGRADE)
"""Phases in which it may be ended for another of an address that has less than half as many of them."""


def deadlines(config: RouterConfig, stall_timeout: int) -> dict[Phase, int]:
    """The deadline of each phase in ticks, 0 for none.

    Args:
        config: The router's settings.
        stall_timeout: Ticks for which a client may take nothing of what waits for it.
    """
    handshake = ticks(config.handshake_timeout_s)
    return {
        Phase.FRESH: handshake,
        Phase.HEAD: handshake,
        Phase.BODY: handshake,
        Phase.WAITING: ticks(config.parked_timeout_s),
        Phase.BUSY: 0,
        Phase.UPGRADE: handshake,
        Phase.IDLE: ticks(config.keep_alive_s),
        Phase.CLOGGED: 0,
        Phase.LINGERING: min(ticks(LINGER_S), stall_timeout),
        Phase.OVER: 0,
    }
