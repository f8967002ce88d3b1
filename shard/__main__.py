"""``python -m roost.shard``: one shard process."""

from __future__ import annotations

import sys

from ..common.runtime.startup import launch
from ..common.settings.shard import ShardConfig
from .api.current import current_label
from .app import run
from .development import is_called, prepare
from .machine import ShardMachine
from .serving import end_at_last, leave_soon, run_through


def serve(config: ShardConfig) -> None:
    """Run a shard on uvloop until SIGTERM or SIGINT."""
    if config.standby_fd >= 0 and not is_called(config.standby_fd):
        return
    if config.development:
        prepare(config.name, current_label)
    run_through(run(config, ShardMachine(config)), on_end=end_at_last)


def main() -> int:
    """The command's entry point."""
    code = launch(ShardConfig, sys.argv[1:], prog="roost shard", serve=serve, label=current_label)
    leave_soon(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
