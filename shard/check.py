"""``python -m roost.shard.check``: loads an app as a shard would, says what it hosts, and ends.

It takes a shard's arguments and reports on the same pipe, ``--ready-fd``: ``{"ready": true, "namespaces": [...],
"constructed": [...]}`` or the error with which that shard would not start. So new code is tried before any shard is
touched; of a class that has a ``trial_name``, by constructing an object (see ``trial``).
"""

from __future__ import annotations

import json
import os
import sys

from ..common.runtime.startup import launch
from ..common.settings.shard import ShardConfig
from .api.current import current_label
from .api.namespaces import Env
from .objects.loader import load
from .trial import construct_on_trial


def check(config: ShardConfig) -> None:
    """Load the app, construct objects of the classes that may be, and report the namespaces of both.

    Raises:
        AppError: It cannot be hosted, or an object cannot be constructed.
        ConfigError: A variable has the name of a namespace.
    """
    classes = load(config.app)
    Env(config.variables, [hosted.cls.__name__ for hosted in classes.values()])
    constructed = construct_on_trial(config, classes)
    report = json.dumps({"ready": True, "namespaces": sorted(classes), "constructed": sorted(constructed)})
    if config.ready_fd < 0:
        print(report)
        return
    with open(config.ready_fd, "w") as pipe:
        pipe.write(report + "\n")


def main() -> int:
    """The command's entry point."""
    code = launch(ShardConfig, sys.argv[1:], prog="roost.shard.check", serve=check, label=current_label)
    # The app may have started threads that would keep this process alive.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
