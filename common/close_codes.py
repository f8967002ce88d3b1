"""Close codes of WebSockets (RFC 6455 7.4.1) that roost itself sends, or reads a meaning into."""

from __future__ import annotations

NORMAL = 1000
GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
NO_STATUS = 1005
"""Stands for "a Close without a code"; never sent."""
ABNORMAL = 1006
"""Stands for "no Close at all"; never sent."""
INVALID_DATA = 1007
MESSAGE_TOO_BIG = 1009
INTERNAL_ERROR = 1011
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013

LOWEST, HIGHEST = 1000, 4999
"""What a code can be."""
UNSENDABLE = frozenset((1004, NO_STATUS, ABNORMAL, 1015))
"""Codes that no Close may carry: they are reserved, or stand for something that has not come over the wire."""

VANISHED = "WebSocket disconnected without sending Close frame."
"""The reason that an object is told with ``ABNORMAL`` (the reference runtime's words)."""
