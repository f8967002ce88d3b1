"""``python -m roost.router.check``: takes a router's arguments, says whether a router could run with them, and ends.

It reports on the same pipe, ``--ready-fd``: ``{"ready": true}``, or the error with which that router would not start.
So new settings are tried before any router is touched.
"""

from __future__ import annotations

import sys

from ..common.ids import Incarnation
from ..common.runtime.startup import launch, report_ready
from .config import RouterConfig


def check(config: RouterConfig) -> None:
    """Say that the arguments are good: they have just been parsed."""
    report_ready(config.ready_fd, config.name, Incarnation(0))


def main() -> int:
    """The command's entry point."""
    return launch(RouterConfig, sys.argv[1:], prog="roost router", serve=check)


if __name__ == "__main__":
    sys.exit(main())
