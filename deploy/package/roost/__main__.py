"""The command ``roost``, also as ``python -m roost``."""

from __future__ import annotations

import sys


def main() -> None:
    """The console script."""
    from .deploy.cli import main

    main()


if __name__ == "__main__":
    if not sys.flags.safe_path:
        # Python has put the current folder first: a ``random.py`` that lies there is none of ours.
        del sys.path[0]
    main()
