"""What keeps an object that wants too much memory from hurting more than its shard."""

from __future__ import annotations

import logging
import resource

from ...common.errors import ConfigError

KILL_ME_FIRST = 500
"""``oom_score_adj`` of a shard, of 1,000: when memory runs out the system ends a shard, which can be replaced without
anybody's noticing, and not a router, which holds its clients' connections."""

START_BYTES = 64 << 20
"""What a shard takes beyond the app that it has loaded until it serves: mostly stacks of its threads, 8 MiB each."""

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
    """Let allocations beyond *limit_bytes* raise ``MemoryError`` in the code that asks for them; 0 for no limit.

    Raises:
        ConfigError: A shard of this app cannot start with so little.
    """
    if not limit_bytes:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = limit_bytes if hard == resource.RLIM_INFINITY else min(limit_bytes, hard)
    least = _data_bytes() + START_BYTES
    if allowed < least:
        less = "" if allowed == limit_bytes else f", of which the system allows {allowed:,} (ulimit -d)"
        raise ConfigError(
            f"memory_limit_bytes must be at least {least:,} bytes for a shard of this app, and more for objects, got "
            f"{limit_bytes:,}{less}"
        )
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, hard))


def _data_bytes() -> int:
    """What of this process counts for the limit."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[5]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return 0
