"""What ``roost load`` talks to: what begins with ``E`` goes back, what begins with ``B`` goes to everybody.

::

    roost up deploy/examples/load_target.py
    roost load ws://127.0.0.1:8787/load-target/{object} --objects 10 --connections 1000 --mode mixed
"""

from __future__ import annotations

from roost.shard import DurableObject, Request, Response, WebSocket, WebSocketPair


class LoadTarget(DurableObject):
    """One object under load. Everything else that is said is answered as well, so that one can try it by hand."""

    async def fetch(self, request: Request) -> Response:
        if request.headers.get("upgrade", "").lower() != "websocket":
            return Response("this object speaks WebSocket\n", status=426)
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server)
        return Response(status=101, web_socket=client)

    def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        if message[:1] in ("B", b"B"):
            self.ctx.broadcast(message)
        else:
            ws.send(message)
