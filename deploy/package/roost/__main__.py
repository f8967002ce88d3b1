"""The command ``roost``, also as ``python -m roost``."""

from __future__ import annotations

import sys


def main() -> None:
    """The console script."""
    from .common.first_process import step_aside

    step_aside()  # before anything is imported that process 1 of a container would only carry around
    from .deploy.cli import main

    main()


if __name__ == "__main__":
    if not sys.flags.safe_path:
        # Python has put the current folder first: a ``random.py`` that lies there is none of ours.
        del sys.path[0]
    main()
