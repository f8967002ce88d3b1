"""When all that was given to a transport has been written, so that the next may go straight to the socket."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Callable

import pytest
import uvloop

from roost.router.clients.turns import AGO, Turns


def test_a_mark_lies_behind_once_a_whole_turn_has_ended() -> None:
    ready: list[Callable[[], None]] = []
    turns = Turns(ready.append)
    mark = turns.mark()
    assert turns.mark() == mark, "in the same turn"
    assert len(ready) == 1
    ready.pop()()
    assert turns.number < mark + AGO, "it may have been called in the turn of the mark"
    ready.pop()()
    assert turns.number == mark + AGO
    assert not ready, "nobody waits: the loop may rest"


def test_it_counts_for_the_last_mark() -> None:
    ready: list[Callable[[], None]] = []
    turns = Turns(ready.append)
    first = turns.mark()
    ready.pop()()
    second = turns.mark()
    assert (first, second) == (0, 1)
    while ready:
        ready.pop()()
    assert turns.number == second + AGO


@pytest.mark.parametrize("seed", range(4))
def test_nothing_overtakes_what_was_given_to_the_loops_transport(seed: int) -> None:
    """uvloop's, which routers run on; its present version writes at once what it can, and need not."""
    rng, count = random.Random(seed), 2_000
    expected = b"".join(b"%08d" % number for number in range(count))

    async def talk() -> tuple[bytes, int]:
        loop = asyncio.get_running_loop()
        turns = Turns(loop.call_soon)
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        reader, writer = await asyncio.open_connection(sock=theirs)
        marked, direct, said = turns.mark(), 0, iter(range(count))

        def say() -> None:
            nonlocal marked, direct
            number = next(said, None)
            if number is None:
                return
            rest = b"%08d" % number
            if turns.number >= marked + AGO and not transport.get_write_buffer_size() and rng.random() < 0.8:
                try:
                    rest = rest[os.write(transport.get_extra_info("socket").fileno(), rest) :]
                except BlockingIOError:
                    pass
                direct += not rest
            if rest:
                marked = turns.mark()
                transport.write(rest)

        async def speaker() -> None:
            for _ in range(count):
                for _ in range(rng.randrange(3)):
                    loop.call_soon(say)
                say()
                for _ in range(rng.randrange(4)):
                    await asyncio.sleep(0)

        speaking = asyncio.create_task(speaker())
        got = await reader.readexactly(len(expected))
        await speaking
        transport.close()
        writer.close()
        await writer.wait_closed()
        return got, direct

    got, direct = uvloop.run(talk())
    assert got == expected
    assert direct > count // 20, "most of what could go directly must have"
