"""Taking clients from the listening sockets, some in each turn of the loop.

Thousands may wait in the queue of a socket. The server that loops bring along decides for itself how many of them a
turn takes: all, or with the libuv of today one. One is too few. A turn may take milliseconds while others flood the
router, so that few newcomers would come in; and what a turn sends to shards goes out together, so that turns with one
handshake each cost most. So the sockets are ours: a turn takes ``CLIENTS_A_TURN``. The others stay where they are, and
lose nothing by that: the system keeps what they send.

When there is no descriptor for a client, all stay in the queue, and the next is tried a little later.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence

CLIENTS_A_TURN = 8
"""Clients that are taken in one turn of the loop. Each makes work of some 0.15 ms, until it has become a WebSocket."""
REST_S = 0.1
"""Seconds until the next client is tried after there was no descriptor, or no memory, for one."""
_NO_ROOM = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

Begin = Callable[[socket.socket], object]
"""Begins with a client, whose socket does not block; raises what went wrong."""


class Intake:
    """Takes the clients of some listening sockets, from when it is made until ``close``.

    Args:
        sockets: The sockets, which listen, and do not block.
        begin: Begins with each client.
    """

    __slots__ = ("_begin", "_left", "_loop", "_rests", "_sockets", "_turns")

    def __init__(self, sockets: Sequence[socket.socket], begin: Begin) -> None:
        self._loop = asyncio.get_running_loop()
        self._sockets = tuple(sockets)
        self._begin = begin
        self._left = CLIENTS_A_TURN
        self._turns = False  # the next turn of the loop begins with our call
        self._rests: asyncio.TimerHandle | None = None
        self._watch()

    def close(self) -> None:
        """Take nobody any more; does nothing the second time."""
        if self._rests is not None:
            self._rests.cancel()
        else:
            self._unwatch()
        self._sockets = ()
        self._left = 0

    def _watch(self) -> None:
        self._rests = None
        for one in self._sockets:
            self._loop.add_reader(one, self._take, one)

    def _unwatch(self) -> None:
        for one in self._sockets:
            self._loop.remove_reader(one)

    def _take(self, listening: socket.socket) -> None:
        """Somebody waits at *listening*: take as many as may be taken in this turn. The loop may call several times in
        one, when very many sockets have something."""
        while self._left:
            try:
                client, _ = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._rest(error)
                    return
                client = None  # it is gone already
            self._left -= 1
            if not self._turns:
                self._turns = True
                self._loop.call_soon(self._begin_turn)
            if client is not None:
                self._take_over(client)

    def _begin_turn(self) -> None:
        self._left, self._turns = CLIENTS_A_TURN, False

    def _rest(self, error: OSError) -> None:
        """There is no room for anybody."""
        self._unwatch()
        self._rests = self._loop.call_later(REST_S, self._watch)
        self._loop.call_exception_handler({"message": "a client waits to be accepted", "exception": error})

    def _take_over(self, client: socket.socket) -> None:
        client.setblocking(False)
        try:
            self._begin(client)
        except Exception as error:
            client.close()
            self._loop.call_exception_handler({"message": "a client could not be accepted", "exception": error})
