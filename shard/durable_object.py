"""The class that users' classes extend."""

from __future__ import annotations

from .context import DurableObjectState
from .namespaces import Env


class DurableObject:
    """An object: one living instance for each name, wherever in the cluster.

    A subclass defines the handlers that it wants, sync or async. The seed's spellings (``webSocketMessage`` …) work as
    well, one spelling for each handler:

    * ``fetch(self, request: Request) -> Response``: an HTTP request, or a WebSocket handshake.
    * ``web_socket_message(self, ws, message)``: *message* is str or bytes.
    * ``web_socket_close(self, ws, code, reason, was_clean)``: the client has closed, or is gone (1006). What the
      handler passes to ``ws.close()`` answers it; if it has not, the client's own code is echoed.
    * ``web_socket_error(self, ws, error)``: the client broke the protocol and was closed for it.

    ``__init__`` runs each time the object wakes up. It may call ``self.ctx.block_concurrency_while`` to finish some
    work before the first event. Handlers of several events interleave where they wait for something.
    """

    def __init__(self, ctx: DurableObjectState, env: Env) -> None:
        self.ctx = ctx
        self.env = env
