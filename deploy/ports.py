"""Ports: making sure that a cluster has its public port for itself.

Routers share the port by ``SO_REUSEPORT``, with which the kernel would let a second cluster of the same user share it
as well, and give it half the clients in silence. Two things prevent that: an abstract Unix socket that is named after
host and port and held for the cluster's life, and a plain ``bind``, which fails when anybody at all listens there.
"""

from __future__ import annotations

import errno
import socket

from ..common.errors import ConfigError, PortTaken


class Reservation:
    """A public port, reserved until ``close()`` or the end of this process."""

    def __init__(self, host: str, port: int, *, shared: bool = False) -> None:
        """Reserve *port* on *host*.

        Args:
            host: An address of this machine.
            port: The port.
            shared: Routers of this cluster listen there already, so only other clusters are looked for.

        Raises:
            PortTaken: A cluster or another program has it.
            ConfigError: *host* is no address of this machine, or the port is for the super-user only.
        """
        self._held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._held.bind(f"\0roost:{host}:{port}".encode())
        except OSError as error:
            self._held.close()
            if error.errno != errno.EADDRINUSE:
                raise
            raise PortTaken(host, port, "another roost cluster serves it") from None
        try:
            for family, kind, protocol, _, address in () if shared else _addresses(host, port):
                with socket.socket(family, kind, protocol) as probe:
                    _bind(probe, host, port, address)
        except BaseException:
            self._held.close()
            raise

    def close(self) -> None:
        """Let the port go."""
        self._held.close()


def listen_alone(host: str, port: int) -> socket.socket:
    """A listening TCP socket that no other process can share; port 0 picks a free one.

    Raises:
        PortTaken, ConfigError: as ``Reservation``.
    """
    family, kind, protocol, _, address = _addresses(host, port)[0]
    made = socket.socket(family, kind, protocol)
    try:
        _bind(made, host, port, address)
        made.listen(128)
    except BaseException:
        made.close()
        raise
    return made


def _addresses(host: str, port: int) -> list[tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]]:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ConfigError(f"{host!r} is no address to listen at: {error.strerror}") from error
    return found  # type: ignore[return-value]  # bytes addresses are of other families


def _bind(made: socket.socket, host: str, port: int, address: tuple[object, ...]) -> None:
    # Without it, connections of an earlier cluster in TIME_WAIT would count; a listener counts even with it.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if made.family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        made.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(host, port, "another program listens there") from None
        raise ConfigError(f"cannot listen on port {port} of {host!r}: {error.strerror}") from error
