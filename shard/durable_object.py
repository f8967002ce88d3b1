"""The class that users' classes extend."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from .context import DurableObjectState
from .namespaces import Env

if TYPE_CHECKING:
    from typing import Self  # every checker has it (PEP 696); nothing is installed for it

    from typing_extensions import TypeVar

    from .request import Request, Response
    from .web_socket import WebSocket

    E = TypeVar("E", default=Env)
else:
    from typing import TypeVar

    E = TypeVar("E")


class DurableObject(Generic[E]):
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

    Every name of a class is reachable from outside, by whoever knows its URL, unless the class says ``public = False``.

    For type checkers ``DurableObject[MyEnv]`` says what ``self.env`` has: *MyEnv* is any class with annotations, such
    as ``CHAT_ROOM: DurableObjectNamespace`` and ``GREETING: str``. Without it ``self.env`` has any attribute.

    Attributes:
        ctx: What the object asks of the runtime.
        env: The configured variables, and a namespace for each class.
    """

    public: ClassVar[bool] = True
    """Whether clients may reach objects of this class. If not, its URLs are answered as those of no class."""

    trial_name: ClassVar[str | None] = None
    """Name of an object that may be constructed on trial, 1 to 512 characters. ``roost check`` and ``roost reload``
    construct it in a process of its own, without sockets, and refuse code whose constructor fails, before any shard has
    it. ``None``: no object of this class is constructed for that, as when its constructor has effects outside."""

    ctx: DurableObjectState
    env: E

    if TYPE_CHECKING:
        # Declared, not defined: an object without a handler is told nothing.

        def fetch(self, request: Request, /) -> Response | Awaitable[Response]:
            """An HTTP request, or a WebSocket handshake."""

        def web_socket_message(self, ws: WebSocket, message: str | bytes, /) -> Awaitable[None] | None:
            """A message has come."""

        def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool, /) -> Awaitable[None] | None:
            """The client has closed, or is gone."""

        def web_socket_error(self, ws: WebSocket, error: Exception, /) -> Awaitable[None] | None:
            """The client broke the protocol."""

        def webSocketMessage(self, ws: WebSocket, message: str | bytes, /) -> Awaitable[None] | None:  # noqa: N802
            """As ``web_socket_message``."""

        def webSocketClose(  # noqa: N802
            self,
            ws: WebSocket,
            code: int,
            reason: str,
            wasClean: bool,  # noqa: N803
            /,
        ) -> Awaitable[None] | None:
            """As ``web_socket_close``."""

        def webSocketError(self, ws: WebSocket, error: Exception, /) -> Awaitable[None] | None:  # noqa: N802
            """As ``web_socket_error``."""

    def __new__(cls, ctx: DurableObjectState, env: E, *_: Any, **__: Any) -> Self:
        # Not in ``__init__``: a class that forgets `super().__init__(ctx, env)` has them all the same.
        self = super().__new__(cls)
        self.ctx = ctx
        self.env = env
        return self

    def __init__(self, ctx: DurableObjectState, env: E) -> None:
        """*ctx* and *env* have been set. A subclass may do here what is to be done each time the object wakes up."""
