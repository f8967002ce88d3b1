"""``python -m roost.deploy``: the command ``roost``."""

from __future__ import annotations

from .cli import main

main()
