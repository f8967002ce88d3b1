"""A proxy that serves a cluster below a path prefix and strips it, as ``location /app/`` of nginx does."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType


class PrefixProxy:
    """Listens on a port of its own; what is asked below *prefix* goes to *port* without it, all else is refused.

    Each request has a connection of its own: the head is changed once, the rest is passed on as it comes.
    """

    def __init__(self, port: int, prefix: str) -> None:
        self._to = port
        self._prefix = prefix.encode()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> PrefixProxy:
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._to)) as server:
            self._open.update((client, server))
            head = b""
            while b"\r\n\r\n" not in head:
                data = client.recv(65_536)
                if not data:
                    return
                head += data
            method, target, rest = head.split(b" ", 2)
            if not target.startswith(self._prefix + b"/"):
                client.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            lines, end, body = rest.partition(b"\r\n\r\n")
            if b"upgrade: websocket" not in lines.lower():
                lines = b"\r\n".join(
                    [line for line in lines.split(b"\r\n") if not line.lower().startswith(b"connection:")]
                    + [b"Connection: close"]
                )
            server.sendall(b" ".join((method, target[len(self._prefix) :], lines)) + end + body)
            back = threading.Thread(target=_pass_on, args=(server, client))
            back.start()
            _pass_on(client, server)
            back.join()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
