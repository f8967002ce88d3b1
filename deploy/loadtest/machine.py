"""What this machine and the server's processes on it say of themselves."""

from __future__ import annotations

import ipaddress
import json
import os
import platform
import resource
import socket
import urllib.request
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...common.errors import RoostError, StartupError
from .capacity import Facts, ServerFacts
from .target import Target

PROBE_TIMEOUT_S = 5.0
ADMIN_TIMEOUT_S = 2.0
_PORTS_BY_DEFAULT = 28_232
_LIBRARIES = ("uvloop",)


class NobodyThere(StartupError):
    """Nothing listens where the URL points."""


class NoAdmin(RoostError):
    """The admin API does not answer as that of a cluster."""


def raise_descriptor_limit() -> int:
    """Allow this process all the descriptors that it may have; returns how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return 1 << 30 if hard == resource.RLIM_INFINITY else hard


def find_address(target: Target) -> tuple[int, str]:
    """The address of the server at which somebody listens, IPv4 first: there are many of 127.0.0.0/8 to connect from.

    Returns:
        The family and the address.

    Raises:
        NobodyThere: There is none.
    """
    where = f"{target.host}:{target.port}"
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NobodyThere(f"the name {target.host} has no address: {error.strerror or error}") from error
    reason = "no address"
    for family, _, _, _, address in sorted(found, key=lambda item: item[0] != socket.AF_INET):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(PROBE_TIMEOUT_S)
            try:
                probe.connect(address)
            except OSError as error:
                reason = error.strerror or str(error) or type(error).__name__
                continue
        return family, str(address[0])
    raise NobodyThere(f"nobody can be reached at {where}: {reason}")


def facts(address: str) -> Facts:
    """What this machine allows, for connections to *address*."""
    memory = _fields(Path("/proc/meminfo")).get("MemAvailable", 0) * 1024
    used, _, most = _numbers(Path("/proc/sys/fs/file-nr"), (0, 0, 1 << 40))
    low, high = _numbers(Path("/proc/sys/net/ipv4/ip_local_port_range"), (0, _PORTS_BY_DEFAULT - 1))
    family = ipaddress.ip_address(address.partition("%")[0])
    return Facts(
        cores=len(os.sched_getaffinity(0)),
        descriptors=raise_descriptor_limit(),
        descriptors_free=most - used,
        ports=high - low + 1,
        memory_bytes=memory or 1 << 40,
        loopback=family.version == 4 and family.is_loopback,
    )


def description() -> dict[str, Any]:
    """The machine, for the result."""
    model = [line for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "model": model[0].partition(":")[2].strip() if model else platform.machine(),
        "memory_bytes": _fields(Path("/proc/meminfo")).get("MemTotal", 0) * 1024,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "roost": version("roost"),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "load_before": os.getloadavg(),
    }


# --- a cluster on this machine ------------------------------------------------------------------------------------


def ask_admin(url: str) -> dict[str, Any]:
    """The picture of ``GET /status``.

    Raises:
        NoAdmin: There is none.
    """
    try:
        with urllib.request.urlopen(url.rstrip("/") + "/status", timeout=ADMIN_TIMEOUT_S) as response:
            found = json.load(response)
    except (OSError, ValueError) as error:
        raise NoAdmin(f"the admin API at {url} does not answer: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("members"), list):
        raise NoAdmin(f"what answers at {url} is not the admin API of a cluster")
    return found


def server_facts(status: dict[str, Any]) -> ServerFacts:
    """What the routers of a cluster may hold."""
    routers = [member for member in status["members"] if member["kind"] == "router" and member["pid"]]
    allowed = [_descriptors_of(member["pid"]) for member in routers]
    return ServerFacts(
        len(routers), sum(allowed) if all(allowed) else 0, int(status.get("totals", {}).get("connections", 0))
    )


def server_memory(status: dict[str, Any]) -> dict[str, int]:
    """Bytes of the members' memory by kind, shared pages in part; empty when they are not to be seen from here."""
    found: dict[str, int] = {}
    for member in status["members"]:
        if member["pid"]:
            size = _fields(Path(f"/proc/{member['pid']}/smaps_rollup")).get("Pss")
            if size is None:
                return {}
            found[member["kind"]] = found.get(member["kind"], 0) + size * 1024
    return found


def _descriptors_of(pid: int) -> int:
    for line in _lines(Path(f"/proc/{pid}/limits")):
        if line.startswith("Max open files"):
            words = line.split()
            return int(words[3]) if words[3].isdigit() else 1 << 30
    return 0


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _fields(path: Path) -> dict[str, int]:
    """Lines such as ``Pss:  12 kB``."""
    found = {}
    for line in _lines(path):
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            found[name] = int(words[0])
    return found


def _numbers(path: Path, otherwise: tuple[int, ...]) -> tuple[int, ...]:
    found = tuple(int(word) for line in _lines(path) for word in line.split())
    return found if len(found) == len(otherwise) else otherwise
