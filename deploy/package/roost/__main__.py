"""The command ``roost``, also as ``python -m roost``."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """The console script."""
    raises = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if raises:  # Ctrl-C while modules are loaded, which takes a second on a busy machine, ends it without a traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _forget_empty_entries()
    from .common.machine.first_process import step_aside
    from .common.machine.standard_streams import open_descriptors

    open_descriptors()
    step_aside()  # before anything is imported that process 1 of a container would only carry around
    from .deploy.commands.cli import main

    if raises:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    main()


def _forget_empty_entries() -> None:
    """An empty entry in ``PYTHONPATH`` means the current folder, and comes of ``PYTHONPATH=$PYTHONPATH:/x`` when there
    was none before: nobody means it. It goes, also for the processes that are started from here."""
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if len(entries) == 1 or "" not in entries:
        return
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, entries))
    here = os.getcwd()
    if here in sys.path and here not in entries:
        sys.path.remove(here)


if __name__ == "__main__":
    if not sys.flags.safe_path:
        # Python has put the current folder first: a ``random.py`` that lies there is none of ours.
        del sys.path[0]
    main()
