"""The two folders of a cluster: where they are, who may use them, and how sockets in them are addressed.

The **data folder** holds what must outlive the processes, the **run folder** what goes with them: locks, sockets,
counters. The run folder lies where nobody tidies: in the data folder, or, when root runs the cluster, in ``/run``,
which is memory. Not in ``/tmp``, whose files are removed by age, and not in ``XDG_RUNTIME_DIR``, which goes when its
user logs out and is not known to a service. Each process and each command computes the same folder from the data
folder alone.

Somebody may remove it all the same. Each process then puts back what is its own (``upkeep``), and nobody takes a
missing file for a dead process (``startup.is_holder``).
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from ..errors import ConfigError, FolderTrouble
from ..ids import Incarnation

DATA_FOLDER = Path(".roost")
"""The data folder of a cluster that is told of no other, in its current folder."""
MAX_IPC_PATH_BYTES = 107
"""Bytes of a Unix socket's path (``sun_path`` holds 108 with the closing NUL)."""
SUPERVISOR = "supervisor"
"""The name that a supervisor holds in the run folder."""
_LOCK = ".lock"
_SYSTEM_RUN = Path("/run")
_OTHERS_MAY_WRITE = 0o022

_folders: dict[str, int] = {}
"""Descriptors of folders whose sockets have paths that are too long, by path."""


def run_folder(data: Path) -> Path:
    """The run folder that belongs to the data folder *data*, however that is written."""
    real = data.resolve()
    # Not where it is read-only, as in some containers.
    if os.getuid() == 0 and _SYSTEM_RUN.is_dir() and os.access(_SYSTEM_RUN, os.W_OK):
        return _SYSTEM_RUN / f"roost-{hashlib.sha256(os.fsencode(real)).hexdigest()[:16]}"
    return real / "run"


def make_data_folder(data: Path) -> None:
    """Make the data folder, for its owner only; one that is there must be writable for its owner alone.

    Raises:
        ConfigError: It cannot be made, belongs to another user, or others may write there: they could give this
            cluster another directory, or take its sockets' names.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = data.stat()
    except OSError as error:
        raise ConfigError(f"the data folder {data} cannot be made: {error.strerror}") from error
    if info.st_uid != os.getuid():
        raise ConfigError(
            f"the data folder {data} belongs to user {info.st_uid}, and this process runs as user {os.getuid()}: "
            "run roost as its owner, or name a folder of your own with --data"
        )
    if info.st_mode & _OTHERS_MAY_WRITE:
        raise ConfigError(
            f"other users may write in the data folder {data} (mode {stat.S_IMODE(info.st_mode):04o}): "
            f"`chmod go-w {data}`, or name another folder with --data"
        )


def make_run_folder(run: Path) -> None:
    """Make the run folder, for its owner only; fine if it is there already.

    Raises:
        ConfigError: Something else is at that path: a folder of another user, one that others may enter, a link.
        FolderTrouble: It cannot be made now.
    """
    try:
        while True:
            try:
                os.mkdir(run, 0o700)
                return
            except FileExistsError:
                try:
                    info = os.lstat(run)
                    break
                except FileNotFoundError:
                    continue  # its last member removed it just now
    except OSError as error:
        sentence = f"the run folder {run} cannot be made: {error.strerror}"
        raise FolderTrouble.or_else(error.errno, sentence, ConfigError) from error
    # Somebody else may have made it before us, and whoever may write into it can take our sockets' names.
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o077:
        raise ConfigError(f"the run folder {run} is not a folder that only its owner (user {os.getuid()}) may use")


# --- names in the run folder ----------------------------------------------------------------------------------------


def lock_path(run: Path, name: str) -> Path:
    """The lock that whoever is called *name* holds as long as it lives."""
    return run / f"{name}{_LOCK}"


def locked_names(run: Path) -> list[str]:
    """Who has a lock, in order; whether it lives is another question."""
    return sorted(path.name.removesuffix(_LOCK) for path in run.glob(f"*{_LOCK}"))


def counters_path(run: Path, name: str) -> Path:
    """Where the member *name* publishes its counters, from when it has joined the directory."""
    return run / f"{name}.counters"


# --- sockets --------------------------------------------------------------------------------------------------------


def socket_path(run: Path, name: str, incarnation: Incarnation) -> Path:
    """Where the member *name* of that incarnation listens: a path that no other incarnation has."""
    return run / f"{name}-{incarnation}.sock"


def hidden_path(path: Path) -> Path:
    """Where a socket lies while nobody is to find it."""
    return path.with_name(f"{path.name}.hidden")


def ipc_endpoint(run: Path, name: str, incarnation: Incarnation) -> str:
    """The ZeroMQ endpoint of the member *name*, as the cluster map has it."""
    return f"ipc://{socket_path(run.resolve(), name, incarnation)}"


def reachable(endpoint: str) -> str:
    """The endpoint as this process can use it.

    A Unix socket's path has 107 bytes at most. A longer one is addressed through a descriptor of its folder, which this
    process keeps: ``/proc/self/fd/7/shard-1-12.sock``. The socket itself lies where the endpoint says, so access is
    decided by the folder, as for any other. After the folder was made anew, ``follow_folders`` gives the descriptor's
    number to the new one, and ZeroMQ, which connects again by the path, finds it.

    Raises:
        OSError: The folder cannot be opened.
        ConfigError: The name alone is too long.
    """
    path = endpoint.removeprefix("ipc://")
    if path == endpoint or len(os.fsencode(path)) <= MAX_IPC_PATH_BYTES:
        return endpoint
    folder, _, name = path.rpartition("/")
    if folder not in _folders:
        _folders[folder] = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    short = f"/proc/self/fd/{_folders[folder]}/{name}"
    size = len(os.fsencode(short))
    if size > MAX_IPC_PATH_BYTES:
        raise ConfigError(f"the socket path {short} has {size} bytes and may have {MAX_IPC_PATH_BYTES}")
    return f"ipc://{short}"


def follow_folders() -> None:
    """Let the descriptors of folders mean the folders that are at their paths now."""
    for folder, descriptor in _folders.items():
        try:
            fresh = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue  # not made anew yet
        try:
            if not os.path.sameopenfile(fresh, descriptor):
                os.dup2(fresh, descriptor, inheritable=False)
        finally:
            os.close(fresh)


# --- what others have left ------------------------------------------------------------------------------------------


def remove_sockets(run: Path, name: str, keep: Incarnation | None = None) -> None:
    """Remove the sockets of the incarnations of *name* but *keep*: those that were killed have left theirs.

    Only for whoever holds the name, or knows that nobody does.
    """
    for path in (*run.glob(f"{name}-*.sock"), *run.glob(f"{name}-*.sock.hidden")):
        incarnation = path.name.partition(".sock")[0].removeprefix(f"{name}-")
        if incarnation.isdigit() and incarnation != str(keep):  # not that of one whose name only begins alike
            path.unlink(missing_ok=True)
