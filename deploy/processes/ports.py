"""Ports: making sure that a cluster has its public port for itself.

Routers share the port by ``SO_REUSEPORT``, with which the kernel would let a second cluster of the same user share it
as well, and give it half the clients in silence. Two things prevent that: an abstract Unix socket that is named after
host and port and held for the cluster's life, and a plain ``bind``, which fails when anybody at all listens there.
"""

from __future__ import annotations

import errno
import socket

from ...common.errors import PortTaken
from ...common.machine.addresses import bound_sockets


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
            self._held.bind(f"\0roost:{host}:{port}".encode(errors="surrogateescape"))
        except OSError as error:
            self._held.close()
            if error.errno != errno.EADDRINUSE:
                raise
            raise PortTaken(host, port, "another roost cluster serves it") from None
        try:
            for probe in () if shared else bound_sockets(host, port, shared=False):
                probe.close()
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
    made, *others = bound_sockets(host, port, shared=False)
    for other in others:
        other.close()
    try:
        made.listen(128)
    except BaseException:
        made.close()
        raise
    return made
