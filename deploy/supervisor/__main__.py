"""``python -m roost.deploy.supervisor``: what ``roost up -d`` starts in the background."""

from __future__ import annotations

import sys

from .supervisor import main

if __name__ == "__main__":
    sys.exit(main())
