"""What keeps an object that wants too much memory from hurting more than its shard."""

from __future__ import annotations

import logging
import resource

KILL_ME_FIRST = 500
"""``oom_score_adj`` of a shard, of 1,000: when memory runs out the system ends a shard, which can be replaced without
anybody's noticing, and not a router, which holds its clients' connections."""

log = logging.getLogger("roost.shard")


def offer_to_be_killed() -> None:
    """Have the system prefer this process when memory runs out."""
    try:
        with open("/proc/self/oom_score_adj", "r+") as file:
            if int(file.read()) < KILL_ME_FIRST:
                file.seek(0)
                file.write(str(KILL_ME_FIRST))
    except (OSError, ValueError) as error:
        log.debug("this system does not say whom it ends when memory runs out: %s", error)


def limit_memory(limit_bytes: int) -> None:
    """Let allocations beyond *limit_bytes* raise ``MemoryError`` in the code that asks for them; 0 for no limit."""
    if limit_bytes:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        allowed = limit_bytes if hard == resource.RLIM_INFINITY else min(limit_bytes, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, hard))
