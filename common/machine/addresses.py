"""Where a program listens: the addresses that a host names, and a TCP socket bound to each."""

from __future__ import annotations

import errno
import socket

from ..errors import ConfigError, PortTaken

ANY_IPV4, ANY_IPV6 = "0.0.0.0", "::"

_Address = tuple[str, int] | tuple[str, int, int, int]


def bound_sockets(host: str, port: int, *, shared: bool) -> list[socket.socket]:
    """A socket for each address of *host*, bound and not yet listening.

    Args:
        host: An address or a name of this machine. ``::`` is every address, of IPv4 as well; so is the empty string.
        port: The port; 0 for a free one, the same at each address.
        shared: Whether other processes of this user may listen there, too (``SO_REUSEPORT``); they must share as well.

    Returns:
        At least one. Of a name with several addresses, such as ``localhost``, those of a family that is switched off
        are left out.

    Raises:
        PortTaken: Another program has the port.
        ConfigError: *host* is no address of this machine, or the port is for the super-user only.
    """
    made: list[socket.socket] = []
    missing: OSError | None = None
    addresses = _addresses(host)
    both = all(family == socket.AF_INET6 for family, _ in addresses)  # IPv4 has no socket of its own
    try:
        for family, address in addresses:
            one = socket.socket(family, socket.SOCK_STREAM)
            made.append(one)
            # Without it, connections of an earlier process in TIME_WAIT would count; a listener counts even with it.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not (both and address[0] == ANY_IPV6))
            try:
                one.bind((address[0], port, *address[2:]))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise listening_failed(host, port, error) from error
                missing = error
                made.pop().close()
            else:
                port = one.getsockname()[1]
        if missing is not None and not made:
            raise listening_failed(host, port, missing) from missing
    except BaseException:
        for one in made:
            one.close()
        raise
    return made


def listening_failed(host: str, port: int, error: OSError) -> PortTaken | ConfigError:
    """What it means that a socket for *host* and *port* could not be bound, or could not listen."""
    if error.errno == errno.EADDRINUSE:
        return PortTaken(host, port, "another program listens there")
    return ConfigError(f"cannot listen on port {port} of {host!r}: {error.strerror or error}")


def _addresses(host: str) -> list[tuple[int, _Address]]:
    try:
        found = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{host!r} is no address to listen at: {why}") from error
    # A name may stand for an address twice.
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))  # type: ignore[misc]
