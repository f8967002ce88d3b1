"""One attacker, a process of its own: ``python -m tests.attacks.attacker ATTACK PORT NUMBER``. It says ``ready``, and
begins when its stdin says until when (monotonic seconds). What it has opened ends with it."""

from __future__ import annotations

import resource
import sys
import traceback
from contextlib import suppress

from tests.attacks.registry import Target, load


def main(name: str, port: int, number: int) -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    attack = load()[name]
    print("ready", flush=True)
    said = sys.stdin.readline()
    if not said:
        return 0  # the driver has ended
    target = Target(port, number, float(said))
    while target.goes_on:
        try:
            with suppress(OSError):
                attack.run(target)
        except Exception:
            traceback.print_exc()
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
