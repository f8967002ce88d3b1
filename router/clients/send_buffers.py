"""What waits at a router for clients that do not take it as fast as it comes: who has enough, who takes nothing, and
the bound of all together.

A client is *slow* from the moment its transport asks for a pause until it has caught up. While it is, each frame
written to it is noted here; for all others nothing is done, so that the usual case costs nothing. What may wait for a
client that is not slow, ``HIGH_WATER`` bytes, is outside the account.

**One client** has its share when ``each`` bytes wait for it. That closes nobody: its shard is told, and holds back what
would come next (see ``outlet``). A slow client is given up only when it **stalls**, that is when it has taken nothing,
or less than ``least``, for ``patience``; ``look`` finds out, a part of all slow clients at each tick.

**All together**: a frame that many clients wait for is there once and counts once. What each has to keep of it for
itself counts for each (``HOLD_COST``): a client that is sent a million tiny messages costs memory, too. What counts is
what the account itself refers to, so a frame leaves it only when somebody looks: at each write to that client, and,
when the bound is reached, at all clients. If less than a sixteenth of the bound is free even then, the clients with
the largest shares are cut until it is. A client's share is what it keeps and its part of each frame, a frame that n
clients wait for being divided by n: so a frame is not freed by cutting clients of ten rooms where one room would do.
The sixteenth is what pays for the search, which looks at every frame: a million, perhaps, so it is done in steps
(``work``). Until it has come to its end, frames are taken as before; but if as much again as it is to free comes
meanwhile, the rest of the search is done at once.

A client that was cut is told nothing: its Close would stand behind all that it does not take, and only the end of TCP
gives the memory back.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from heapq import heapify, heappop
from typing import Any, Protocol

from ...common.budget import Budget
from .progress import Progress

HIGH_WATER = 16 << 10
"""Bytes that may wait for a client before it is slow. Set on the transport of each connection."""
HOLD_COST = 1 << 10
"""Bytes that each pending frame takes beside its own: the transport's request (measured: 50 to 800, the more the
fewer frames are written in one turn of the loop) and the account's notes."""
LOOK_TICKS = 20
"""Ticks, a second, in which each slow client is looked at once."""
FRAMES_OF_A_STEP = 256
"""Frames that a step of the search looks at, and one client's: some 20 µs."""
RELIEF = 16
"""The part of the bound, one of so many, that is free after a cut."""


class Buffer(Protocol):
    """What the account needs of a transport."""

    def get_write_buffer_size(self) -> int:
        """Bytes written and not taken by the system."""
        ...

    def get_extra_info(self, name: str) -> Any: ...


class Owner(Protocol):
    """Who writes to a client."""

    def cut(self) -> None:
        """Too much waits for all clients together: end TCP at once. The account has forgotten the client."""
        ...

    def stalled(self) -> None:
        """The client takes nothing of what waits for it: close."""
        ...


class SlowClient:
    """A client that is slow, and the frames that wait for it. Made by ``SendBuffers.add``."""

    __slots__ = ("buffer", "frames", "has_stalled", "owner", "progress", "size")

    def __init__(self, owner: Owner, buffer: Buffer, progress: Progress) -> None:
        self.owner = owner
        self.buffer = buffer
        self.progress = progress
        self.has_stalled = False
        self.frames: deque[bytes | memoryview] = deque()
        self.size = 0


class SendBuffers:
    """The account of one router.

    Args:
        each: A client's share: bytes that wait for it before its object's output waits at the shard.
        budget: Bytes that all together may take; above its limit by a sixteenth at most when a call returns, and only
            while clients are searched.
        patience: Ticks for which a client may take nothing.
        least: Bytes that it must take in that time.
        output_of: Tells how far a client has come, as ``tcp.output_of`` does.
        in_steps: Has what it is given done step by step, in later turns of the loop; without it all is done at once.

    Attributes:
        each, budget: See above.
    """

    __slots__ = (
        "_clients",
        "_holders",
        "_in_steps",
        "_least",
        "_output_of",
        "_patience",
        "_relief",
        "_round",
        "budget",
        "each",
    )

    def __init__(
        self,
        each: int,
        budget: Budget,
        *,
        patience: int,
        least: int = 1,
        output_of: Callable[[Buffer], tuple[int, int]],
        in_steps: Callable[[Iterator[None]], None] | None = None,
    ) -> None:
        self.each = each
        self.budget = budget
        self._patience = patience
        self._least = least
        # Each client is looked at once in so many ticks: a second, or an eighth of a patience that is shorter.
        self._round = max(1, min(LOOK_TICKS, patience // 8))
        self._output_of = output_of
        self._clients: OrderedDict[SlowClient, None] = OrderedDict()
        self._holders: dict[int, int] = {}
        """Identity of a frame → how often it is noted. The notes refer to it, so its identity is its own."""
        self._in_steps = in_steps
        self._relief: Iterator[None] | None = None

    def __len__(self) -> int:
        """How many clients are slow."""
        return len(self._clients)

    def add(self, owner: Owner, buffer: Buffer, tick: int) -> SlowClient:
        """A client has become slow at *tick*. Also what is being written at this moment has to be noted."""
        client = SlowClient(owner, buffer, Progress(self._output_of(buffer)[0], tick))
        self._clients[client] = None
        return client

    def remove(self, client: SlowClient) -> None:
        """A client has caught up or is gone; fine if it was removed before."""
        if client in self._clients:
            del self._clients[client]
            self._forget(client, 0)

    def note(self, client: SlowClient, frame: bytes | memoryview) -> bool:
        """A frame, or a piece of a large one, has been written to a slow client. Clients are cut if this was too much,
        maybe this one too.

        Returns:
            Whether more waits for the client than its share.
        """
        if client not in self._clients:
            return False  # it was cut and its TCP is about to end
        waiting = client.buffer.get_write_buffer_size()
        self._forget(client, waiting - len(frame))
        size = len(frame)
        holders = self._holders.get(id(frame), 0)
        self._holders[id(frame)] = holders + 1
        budget = self.budget
        budget.taken += HOLD_COST if holders else HOLD_COST + size
        client.frames.append(frame)
        client.size += size
        if budget.taken > budget.limit:
            self._over()
        return waiting > self.each

    def look(self, tick: int) -> None:
        """See what slow clients have taken, and give up those that have stalled. To be called at each tick."""
        clients, stalled = self._clients, []
        for _ in range(-(-len(clients) // self._round)):
            client = next(iter(clients))
            clients.move_to_end(client)
            client.progress.look(self._output_of(client.buffer)[0], tick, self._least)
            if tick - client.progress.since >= self._patience and not client.has_stalled:
                client.has_stalled = True
                stalled.append(client)
        for client in stalled:  # last, since their owners may do anything
            client.owner.stalled()

    def _forget(self, client: SlowClient, waiting: int) -> None:
        """Forget the frames of a client of which none of the last *waiting* bytes is a part."""
        frames, holders_of, budget = client.frames, self._holders, self.budget
        while frames and client.size - len(frames[0]) >= waiting:
            frame = frames.popleft()
            client.size -= len(frame)
            budget.taken -= HOLD_COST
            holders = holders_of[id(frame)] - 1
            if holders:
                holders_of[id(frame)] = holders
            else:
                del holders_of[id(frame)]
                budget.taken -= len(frame)

    def _over(self) -> None:
        """More counts than may: find out who has most, or be quick about it."""
        relief = self._relief
        if relief is None:
            self._relief = relief = self._relieve()
            if self._in_steps is not None:
                self._in_steps(relief)
        if self._in_steps is None or self.budget.left < -(self.budget.limit // RELIEF):
            for _ in relief:
                pass

    def _relieve(self) -> Iterator[None]:
        """Cut clients until there is room, a step at a time. Clients come, go and write in between."""
        budget, frames = self.budget, 0
        goal = budget.limit - budget.limit // RELIEF
        shares: list[tuple[float, int, SlowClient]] = []
        try:
            for client in list(self._clients):
                self._forget(client, client.buffer.get_write_buffer_size())
                if (frames := frames + len(client.frames) + 1) > FRAMES_OF_A_STEP:
                    frames = 0
                    yield
            for number, client in enumerate(list(self._clients) if budget.taken > goal else ()):
                shares.append((-self._share(client), number, client))
                if (frames := frames + len(client.frames) + 1) > FRAMES_OF_A_STEP:
                    frames = 0
                    yield
            heapify(shares)
            cut = []
            while shares and budget.taken > goal:
                client = heappop(shares)[2]
                if client in self._clients:
                    self.remove(client)
                    cut.append(client)
        finally:
            self._relief = None
        for client in cut:  # last, since their owners may do anything
            client.owner.cut()
            yield

    def _share(self, client: SlowClient) -> float:
        holders = self._holders
        return HOLD_COST * len(client.frames) + sum(len(frame) / holders[id(frame)] for frame in client.frames)
