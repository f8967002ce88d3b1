"""Room on the stack for what must not stop half-way.

Objects' code may call the runtime with hardly any stack left: a recursion over what a client has sent, say. A
``RecursionError`` in the middle of a change would leave something half done: an object that is blocked for ever, a
socket that only one index knows. So whatever changes more than one thing asks here first, and raises before it has
begun. What is called for each message orders its steps instead: the last one is what makes the change.
"""

from __future__ import annotations

LEVELS = 40
"""Calls that a change may be deep, asyncio's own included."""


def enough_stack(levels: int = LEVELS) -> None:
    """Raises:
    RecursionError: Less than so many calls are left.
    """
    if levels:
        enough_stack(levels - 1)
