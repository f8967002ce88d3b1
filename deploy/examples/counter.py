"""Counters that people watch: HTTP beside sockets, tags, attachments and an automatic answer.

::

    curl -X POST 'http://127.0.0.1:8787/counter/shop?topic=apples'    # count one more
    curl 'http://127.0.0.1:8787/counter/shop'                         # {"apples": 1}
    ws://127.0.0.1:8787/counter/shop?topic=apples                     # be told each change of this topic
    ws://127.0.0.1:8787/counter/shop                                  # be told each change of any

A watcher may send ``ping``, which is answered ``pong`` without waking the object, or a number to add to its topic.
"""

from __future__ import annotations

import re

from roost.shard import (
    DurableObject,
    DurableObjectState,
    Env,
    Request,
    Response,
    WebSocket,
    WebSocketPair,
    WebSocketRequestResponsePair,
)

EVERYTHING = "*"
MAX_TOPICS = 32


class Counter(DurableObject):
    """One shop's counters.

    The counts are in memory, and memory goes when the object sleeps. So each watcher's attachment keeps what that
    watcher was told last, and the constructor collects them: a count lives as long as anybody watches it.
    """

    def __init__(self, ctx: DurableObjectState, env: Env) -> None:
        super().__init__(ctx, env)
        ctx.set_web_socket_auto_response(WebSocketRequestResponsePair("ping", "pong"))
        self.counts: dict[str, int] = {}
        for watcher in ctx.get_web_sockets():
            self.counts |= watcher.deserialize_attachment()

    async def fetch(self, request: Request) -> Response:
        topic = request.query.get("topic", EVERYTHING)
        if topic != EVERYTHING and not re.fullmatch(r"[a-z0-9-]{1,32}", topic):
            return Response("a topic has 1 to 32 of a-z, 0-9 and -\n", status=400)
        if topic != EVERYTHING and topic not in self.counts and len(self.counts) == MAX_TOPICS:
            return Response(f"there are {MAX_TOPICS} topics already\n", status=409)
        if request.headers.get("upgrade", "").lower() == "websocket":
            if topic != EVERYTHING:
                self.counts.setdefault(topic, 0)  # it counts for MAX_TOPICS from now on
            client, server = WebSocketPair()
            self.ctx.accept_web_socket(server, tags=[topic])
            self.tell(server, self.seen_by(topic))
            return Response(status=101, web_socket=client)
        if request.method == "POST":
            if topic == EVERYTHING:
                return Response("count what? use ?topic=\n", status=400)
            self.add(topic, 1)
        elif request.method not in ("GET", "HEAD"):
            return Response("use GET or POST\n", status=405, headers={"allow": "GET, HEAD, POST"})
        return Response.json(self.seen_by(topic))

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        (topic,) = self.ctx.get_tags(ws)
        if topic != EVERYTHING and isinstance(message, str) and re.fullmatch(r"[+-]?[0-9]{1,6}", message):
            self.add(topic, int(message))
        else:
            ws.send({"error": "watch one topic and send a number of up to 6 digits, or ping"})

    def add(self, topic: str, number: int) -> None:
        self.counts[topic] = self.counts.get(topic, 0) + number
        for tag in (topic, EVERYTHING):
            seen = self.seen_by(tag)
            for watcher in self.ctx.get_web_sockets(tag):
                if watcher.ready_state == WebSocket.OPEN:  # one that is closing is still listed for a while
                    self.tell(watcher, seen)

    def tell(self, watcher: WebSocket, seen: dict[str, int]) -> None:
        watcher.serialize_attachment(seen)
        watcher.send(seen)  # a dict goes out as JSON

    def seen_by(self, topic: str) -> dict[str, int]:
        return dict(self.counts) if topic == EVERYTHING else {topic: self.counts.get(topic, 0)}
