"""``roost up -d``: a supervisor in the background, waited for until it serves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import replace

from ...common.errors import StartupError
from ...common.machine.run_folder import SUPERVISOR, make_data_folder
from ...common.runtime.config import to_argv
from ...common.runtime.processes import python_words
from ...common.runtime.startup import holder_of
from ..plan.config import UpConfig
from ..processes.log_file import log_path, put_aside_path

OLD_LOG_BYTES = 16 << 20
"""A log of this size is put aside at the next start, over the one put aside before."""


class BackgroundStartFailed(StartupError):
    """The supervisor in the background could not start; carries its exit code."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


def start_in_background(config: UpConfig) -> int:
    """Start a supervisor that goes on after this process, and wait until its cluster serves.

    Returns:
        The supervisor's pid.

    Raises:
        BackgroundStartFailed: It could not start; the error says why.
    """
    log = log_path(config.data)
    make_data_folder(config.data)
    # Not under a cluster that runs: this start will be refused.
    if holder_of(config.run, SUPERVISOR) is None and log.exists() and log.stat().st_size > OLD_LOG_BYTES:
        log.replace(put_aside_path(log))
    reading, writing = os.pipe()
    try:
        with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as output:
            process = subprocess.Popen(
                [*python_words("roost.deploy.supervisor"), *to_argv(replace(config, ready_fd=writing))],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(writing,),
                start_new_session=True,
            )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    try:
        with open(reading, "rb") as pipe:
            line = pipe.readline()
    except BaseException:
        # Ctrl-C while waiting: the start is not wanted any more.
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise
    report = json.loads(line) if line.endswith(b"\n") else {}
    if not report.get("ready"):
        exit_code = process.wait()
        raise BackgroundStartFailed(
            report.get("error", f"the supervisor ended with exit code {exit_code}; see {log}"),
            report.get("exit_code", StartupError.exit_code),
        )
    return process.pid
