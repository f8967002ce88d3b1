"""``python -m roost.router``: one router process."""

from __future__ import annotations

import sys

import uvloop

from ..common.runtime.startup import launch
from ..common.settings.router import RouterConfig
from .app import run
from .machine import RouterMachine


def serve(config: RouterConfig) -> None:
    """Run a router on uvloop until SIGTERM or SIGINT."""
    uvloop.run(run(config, RouterMachine(config)))


def main() -> int:
    """The command's entry point."""
    return launch(RouterConfig, sys.argv[1:], prog="roost router", serve=serve)


if __name__ == "__main__":
    sys.exit(main())
