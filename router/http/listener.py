"""The public port of a router: where it listens, and how it stops without losing anybody.

Routers share the port by ``SO_REUSEPORT``: each has a socket of its own, and the kernel deals new connections out among
them. Closing such a socket resets the connections that wait in it to be accepted, and those whose handshake with the
kernel is under way. So a listener is closed in four steps (ADR 19):

1. It turns new clients away: a filter drops their SYN, without a word. The client's kernel sends it again after a
   second; the socket is gone by then, and another router gets it.
2. It waits for the handshakes that had begun before (``HALF_OPEN_S`` at most), which the filter lets pass.
3. It accepts what waits. The queue being empty now, nothing more can come into it.
4. It closes the socket.

Where the system hands all of this on to the other routers by itself (``net.ipv4.tcp_migrate_req``), closing is enough.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import socket
import struct
from pathlib import Path

from ...common.machine.addresses import ANY_IPV4, ANY_IPV6, bound_sockets, listening_failed
from ..clients.descriptors import MOST_BACKLOG
from .half_open import half_open
from .intake import Begin, Intake

log = logging.getLogger("roost.router")

HALF_OPEN_S = 1.0
"""Seconds that the rest of a handshake may take which has begun: more than a round trip around the world."""
DRAIN_S = 3.0
"""Seconds after which a listener is closed whatever waits in it. A loop that turns takes thousands in that time."""
_LOOK_S = 0.005
_MIGRATES = Path("/proc/sys/net/ipv4/tcp_migrate_req")
_SO_ATTACH_FILTER = 26
_TCP_INFO_BYTES = 32
_TCP_INFO_UNACKED = 24
"""Where ``struct tcp_info`` has, for a socket that listens, how many connections wait to be accepted."""
_NO_SYN = (
    # Classic BPF over the TCP head: code, jump if true, jump if false, operand.
    (0x30, 0, 0, 13),  # load the byte of the flags
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # yes: drop the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # no: let it pass
)


class Listener:
    """The listening sockets of one router, one for each address of its host.

    Args:
        host: An address or a name of this machine. ``::`` is every address, of IPv4 as well.
        port: The port; 0 for a free one, the same at each address.
        backlog: Connections that the system keeps for us until we accept them.

    Raises:
        PortTaken, ConfigError: as ``bound_sockets``.

    Attributes:
        port: The port that it has got.
    """

    def __init__(self, host: str, port: int, backlog: int = MOST_BACKLOG) -> None:
        self._host = host
        self._backlog = backlog
        self._sockets = bound_sockets(host, port, shared=True)
        for bound in self._sockets:
            bound.setblocking(False)
        self._intake: Intake | None = None
        self.port: int = self._sockets[0].getsockname()[1]

    @property
    def is_wildcard(self) -> bool:
        """Whether it listens at addresses that its host does not name."""
        return any(bound.getsockname()[0] in (ANY_IPV4, ANY_IPV6) for bound in self._sockets)

    def start(self, begin: Begin) -> None:
        """Accept connections from now on.

        Args:
            begin: Begins with each client.

        Raises:
            PortTaken: A program that does not share the port listens there already.
        """
        for bound in self._sockets:
            try:
                bound.listen(self._backlog)
            except OSError as error:
                raise listening_failed(self._host, self.port, error) from error
        self._intake = Intake(self._sockets, begin)

    async def drain(self, *, handed_on: bool) -> None:
        """Stop listening, and accept first whoever waits. Connections go on being accepted meanwhile.

        Args:
            handed_on: Other routers listen at this port, too.
        """
        if not (handed_on and migrates()):
            if self._turn_away():
                await self._wait_for_half_open()
            await self._wait_for_accepts()
        self.close()

    def _turn_away(self) -> bool:
        try:
            for bound in self._sockets:
                _drop_syns(bound)
        except OSError as error:
            log.warning("clients that connect in this moment may be reset: no filter for the port: %s", error.strerror)
            return False
        return True

    async def _wait_for_half_open(self) -> None:
        """Wait until the handshakes that have begun by now have ended, those at other routers among them."""
        await asyncio.sleep(_LOOK_S)  # a SYN that the filter has just not seen is counted by then
        begun = half_open(self.port)
        if begun is None:
            await asyncio.sleep(HALF_OPEN_S)  # nobody tells which there are
            return
        for _ in range(round(HALF_OPEN_S / _LOOK_S)):
            if not begun:
                break
            await asyncio.sleep(_LOOK_S)
            begun &= half_open(self.port) or frozenset()

    async def _wait_for_accepts(self) -> None:
        """Wait until the loop has accepted whoever waits, and their protocols know."""
        for _ in range(round(DRAIN_S / _LOOK_S)):
            if not any(_waiting(bound) for bound in self._sockets):
                break
            await asyncio.sleep(_LOOK_S)
        await asyncio.sleep(_LOOK_S)

    def close(self) -> None:
        """Stop listening at once; does nothing the second time."""
        if self._intake is not None:
            self._intake.close()
        for bound in self._sockets:
            bound.close()
        self._sockets.clear()


def migrates() -> bool:
    """Whether the system hands what waits in a closed listener on to others at the port (Linux 5.14, when told so)."""
    try:
        return _MIGRATES.read_text().strip() == "1"
    except OSError:
        return False


def _drop_syns(bound: socket.socket) -> None:
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in _NO_SYN))
    bound.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(_NO_SYN), ctypes.addressof(program)))


def _waiting(bound: socket.socket) -> int:
    """How many connections wait in *bound* to be accepted."""
    info = bound.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    waiting: int = struct.unpack_from("@I", info, _TCP_INFO_UNACKED)[0]
    return waiting
