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

    A subclass defines the handlers that it wants: ``fetch``, ``web_socket_message``, ``web_socket_close`` and
    ``web_socket_error``, sync or async, each in one of its two spellings. Their arguments are positional, so a subclass
    may name them as it likes. Events of one socket come in order; handlers of several events take turns where they wait
    for something.

    ``__init__`` runs each time the object wakes up. It may call ``ctx.block_concurrency_while`` to finish some work
    before the first event. ``super().__init__(ctx, env)`` may be left out.

    Every name of a class is reachable from outside, by whoever knows its URL, unless the class says ``public = False``.

    For type checkers ``DurableObject[MyEnv]`` says what ``self.env`` has: *MyEnv* is any class with annotations, such
    as ``CHAT_ROOM: DurableObjectNamespace`` and ``GREETING: str``. Without it ``self.env`` has any attribute.

    Attributes:
        ctx: What the object asks of the runtime.
        env: The configured variables, and a namespace for each class; an ``Env``.
    """

    public: ClassVar[bool] = True
    """Whether clients may reach objects of this class. If not, its URLs are answered with 404, as those of a class that
    does not exist. Subclasses inherit this."""

    trial_name: ClassVar[str | None] = None
    """Name of an object that may be constructed on trial, 1 to 512 characters. ``roost check`` and ``roost reload``
    construct it in a process of its own, without sockets, and refuse code whose constructor fails, before any shard has
    it. ``None``: no object of this class is constructed for that, as when its constructor has effects outside."""

    ctx: DurableObjectState
    env: E

    if TYPE_CHECKING:
        # Declared, not defined: an object without a handler is told nothing.

        def fetch(self, request: Request, /) -> Response | Awaitable[Response]:
            """Answer an HTTP request, or the handshake of a WebSocket.

            To open a WebSocket, accept the server end of a ``WebSocketPair`` and return its client end in a Response of
            status 101. Whoever gets such an answer without having asked for a WebSocket is told so with 426. A class
            without this handler answers 501. An exception becomes a 500 with an error id, under which the log has the
            rest. Sockets that were accepted and not returned are dropped when the handler has ended.

            Args:
                request: The request, with its whole body.

            Returns:
                The answer.
            """

        def web_socket_message(self, ws: WebSocket, message: str | bytes, /) -> Awaitable[None] | None:
            """Take a message of a socket that was accepted with ``ctx.accept_web_socket``.

            The message is acknowledged when the handler has ended. When the shard dies before that, the message comes
            again, with ``ws.redelivered`` set. An exception is logged; socket and object go on. Pings do not come here,
            nor do messages that the auto-response answers.

            Args:
                ws: The socket; the same handle at each event of one life.
                message: ``str`` if the client sent text, ``bytes`` if it sent binary.
            """

        def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool, /) -> Awaitable[None] | None:
            """The client of a socket that was accepted with ``ctx.accept_web_socket`` has closed, or is gone.

            This is the last event of the socket. ``ws.close()`` answers the client, within 10 s; when the handler has
            ended without that, or is not there, the client gets its own code back. Until the handler first waits for
            something ``ctx.get_web_sockets`` still lists the socket.

            Args:
                ws: The socket.
                code: What the client has sent; 1005 if its Close had no code, 1006 if the connection ended without a
                    Close.
                reason: What the client has sent; a sentence of the runtime's for 1006.
                was_clean: Whether a Close came: False for 1006.
            """

        def web_socket_error(self, ws: WebSocket, error: Exception, /) -> Awaitable[None] | None:
            """The client of a socket that was accepted with ``ctx.accept_web_socket`` broke the WebSocket protocol.

            The client has been closed for that. This is the last event of the socket: ``web_socket_close`` is not
            called.

            Args:
                ws: The socket.
                error: A ``WebSocketProtocolError``.
            """

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
