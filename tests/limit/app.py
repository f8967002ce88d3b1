"""An object with as many sockets as one can have."""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter, defaultdict
from typing import Any

from roost.shard import DurableObject, Request, Response, TooManyWebSockets, WebSocket, WebSocketPair

_lives = itertools.count(1)
_closes: defaultdict[str, Counter[str]] = defaultdict(Counter)
"""What objects have heard of their sockets' ends. It outlives their instances, though not the process."""


class Hall(DurableObject):
    """Opened with ``?who=``, a connection's messages are answered with that number before them; ``say TEXT`` goes to
    all. A plain request tells what there is; with ``?close=`` it closes all sockets."""

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self.life = f"{os.getpid():x}.{next(_lives):x}"

    async def fetch(self, request: Request) -> Response:
        if request.headers.get("upgrade") is None:
            return self.told(request)
        client, server = WebSocketPair()
        try:
            self.ctx.accept_web_socket(server, tags=["everyone"])
        except TooManyWebSockets as error:
            return Response(str(error), status=503)
        server.serialize_attachment(int(request.query["who"]))
        return Response(status=101, web_socket=client)

    def told(self, request: Request) -> Response:
        """What there is, and how long it took to list the sockets."""
        began = time.perf_counter()
        sockets = self.ctx.get_web_sockets()
        listed = time.perf_counter()
        code = request.query.get("close")
        if code is not None:
            for ws in sockets:
                ws.close(int(code), "everybody out")
        return Response.json(
            {
                "sockets": len(sockets),
                "life": self.life,
                "closes": _closes[str(self.ctx.id)],
                "listing_s": listed - began,
            }
        )

    def say(self, text: str) -> None:
        for ws in self.ctx.get_web_sockets():
            ws.send(text)

    def web_socket_message(self, ws: WebSocket, message: str) -> None:
        verb, _, text = message.partition(" ")
        if verb == "say":
            self.say(text)
        else:
            ws.send(f"{ws.deserialize_attachment()} {message}")

    def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
        _closes[str(self.ctx.id)][f"{code} {'clean' if was_clean else 'unclean'}"] += 1
