"""What waits at a router for clients that do not take it as fast as it comes, and its two bounds.

A client is *slow* from the moment its transport asks for a pause until it has caught up. While it is, each frame
written to it is noted here; for all others nothing is done, so that the usual case costs nothing. What may wait for a
client that is not slow, ``HIGH_WATER`` bytes, is outside the account.

**One client** may have a bound's worth waiting, behind a frame of any size: then it is over its bound, and its
connection closes it.

**All together**: a frame that many clients wait for is there once and counts once. What each has to keep of it for
itself counts for each (``HOLD_COST``): a client that is sent a million tiny messages costs memory, too. What counts is
what the account itself refers to, so a frame leaves it only when somebody looks: at each write to that client, and,
when the bound is reached, at all clients. If less than a sixteenth of the bound is free even then, the clients with
the largest shares are cut until it is. A client's share is what it keeps and its part of each frame, a frame that n
clients wait for being divided by n: so a frame is not freed by cutting clients of ten rooms where one room would do.
The sixteenth is what pays for the search, which looks at every frame.

A client that was cut is told nothing: its Close would stand behind all that it does not take, and only the end of TCP
gives the memory back.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

HIGH_WATER = 16 << 10
"""Bytes that may wait for a client before it is slow. Set on the transport of each connection."""
HOLD_COST = 1 << 10
"""Bytes that each pending frame takes beside its own: the transport's request (measured: 50 to 800, the more the
fewer frames are written in one turn of the loop) and the account's notes."""
RELIEF = 16
"""The part of the bound, one of so many, that is free after a cut."""


class Buffer(Protocol):
    """What the account needs of a transport."""

    def get_write_buffer_size(self) -> int:
        """Bytes written and not taken by the system."""
        ...


class Owner(Protocol):
    """Who writes to a client."""

    def cut(self) -> None:
        """Too much waits for all clients together: end TCP at once. The account has forgotten the client."""
        ...


class SlowClient:
    """A client that is slow, and the frames that wait for it. Made by ``SendBuffers.add``."""

    __slots__ = ("buffer", "frames", "limit", "owner", "size")

    def __init__(self, owner: Owner, buffer: Buffer, limit: int) -> None:
        self.owner = owner
        self.buffer = buffer
        self.limit = limit
        self.frames: deque[bytes] = deque()
        self.size = 0


class SendBuffers:
    """The account of one router.

    Args:
        each: Bytes that may wait for one client.
        limit: Bytes that all together may take.

    Attributes:
        total: Bytes that count; never above *limit* when a call returns.
    """

    __slots__ = ("_clients", "_each", "_holders", "_limit", "total")

    def __init__(self, each: int, limit: int) -> None:
        self._each = each
        self._limit = limit
        self._clients: dict[SlowClient, None] = {}
        self._holders: dict[int, int] = {}
        """Identity of a frame → how often it is noted. The notes refer to it, so its identity is its own."""
        self.total = 0

    def __len__(self) -> int:
        """How many clients are slow."""
        return len(self._clients)

    def add(self, owner: Owner, buffer: Buffer) -> SlowClient:
        """A client has become slow. Also what is being written at this moment has to be noted."""
        client = SlowClient(owner, buffer, self._each)
        self._clients[client] = None
        return client

    def remove(self, client: SlowClient) -> None:
        """A client has caught up or is gone; fine if it was removed before."""
        if client in self._clients:
            del self._clients[client]
            self._forget(client, 0)

    def is_over(self, client: SlowClient) -> bool:
        """Whether more waits for a client than may. Ask before each write to it."""
        waiting = client.buffer.get_write_buffer_size()
        self._forget(client, waiting)
        return waiting > client.limit

    def note(self, client: SlowClient, frame: bytes) -> None:
        """A frame has been written to a slow client. Clients are cut if this was too much, maybe this one too."""
        if client not in self._clients:
            return  # it was cut and its TCP is about to end
        size = len(frame)
        if size > self._each:
            # What waits behind a large message is measured beside it: the client had taken all before it.
            client.limit = size + self._each
        holders = self._holders.get(id(frame), 0)
        self._holders[id(frame)] = holders + 1
        self.total += HOLD_COST if holders else HOLD_COST + size
        client.frames.append(frame)
        client.size += size
        if self.total > self._limit:
            self._relieve()

    def _forget(self, client: SlowClient, waiting: int) -> None:
        """Forget the frames of a client of which none of the last *waiting* bytes is a part."""
        frames, holders_of = client.frames, self._holders
        while frames and client.size - len(frames[0]) >= waiting:
            frame = frames.popleft()
            client.size -= len(frame)
            self.total -= HOLD_COST
            holders = holders_of[id(frame)] - 1
            if holders:
                holders_of[id(frame)] = holders
            else:
                del holders_of[id(frame)]
                self.total -= len(frame)

    def _relieve(self) -> None:
        for client in self._clients:
            self._forget(client, client.buffer.get_write_buffer_size())
        goal = self._limit - self._limit // RELIEF
        if self.total <= goal:
            return
        cut = []
        for client in sorted(self._clients, key=self._share, reverse=True):
            self.remove(client)
            cut.append(client)
            if self.total <= goal:
                break
        for client in cut:  # last, since their owners may do anything
            client.owner.cut()

    def _share(self, client: SlowClient) -> float:
        holders = self._holders
        return HOLD_COST * len(client.frames) + sum(len(frame) / holders[id(frame)] for frame in client.frames)
