"""Where the connections go: the URL, and the opening handshake (RFC 6455 4.1)."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from ...common.errors import ConfigError, RoostError

PLACEHOLDER = "{object}"
MAX_HEAD_BYTES = 16 << 10
"""Bytes of a server's answer to the handshake."""

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})( [^\r\n]*)?")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)")
_OURS = frozenset({"upgrade", "connection", "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions"})


class HandshakeRefused(RoostError):
    """The server has not opened the WebSocket.

    Attributes:
        reason: What it is counted under: ``HTTP 503``, or what is wrong with a 101.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Target:
    """A server and what to ask it for.

    Attributes:
        secure: Whether TLS is spoken.
        path: Path and query, with the placeholder.
        headers: Header lines of the user, ``Host`` always among them.
        protocols: Subprotocols that are asked for.
    """

    host: str
    port: int
    secure: bool
    path: str
    headers: tuple[str, ...]
    protocols: frozenset[str] = frozenset()

    @classmethod
    def of(cls, url: str, headers: tuple[str, ...] = ()) -> Target:
        """Read a URL and header lines.

        Raises:
            ConfigError: One of them cannot be used.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"the URL {url!r} cannot be read: {error}") from None
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ConfigError(f"the URL must begin with ws://HOST or wss://HOST, got {url!r}")
        if parts.username is not None or parts.fragment:
            raise ConfigError(
                "the URL has a user or a fragment, which no WebSocket URL takes; a user goes into --header"
            )
        if PLACEHOLDER in parts.netloc:
            raise ConfigError(f"{PLACEHOLDER} may stand in the path or query of the URL, not in its host")
        secure = parts.scheme == "wss"
        path = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe="/?#[]@!$&'()*+,;=:%{}~-._")
        lines, protocols = [], set()
        names = set()
        for line in headers:
            match = _HEADER.fullmatch(line)
            if match is None or not line.isascii():
                raise ConfigError(f"a header is given as 'Name: value' in ASCII, got {line!r}")
            name = match[1].lower()
            if name in _OURS:
                raise ConfigError(f"the header {match[1]} belongs to the handshake and cannot be set")
            if name == "sec-websocket-protocol":
                protocols |= {word.strip() for word in match[2].split(",")}
            names.add(name)
            lines.append(f"{match[1]}: {match[2]}")
        if "host" not in names:
            lines.insert(0, f"Host: {parts.netloc}")
        default = 443 if secure else 80
        return cls(parts.hostname, port or default, secure, path, tuple(lines), frozenset(protocols))

    @property
    def has_placeholder(self) -> bool:
        """Whether the URL says where an object's number goes."""
        return PLACEHOLDER in self.path

    def request(self, object_: int, nonce: bytes) -> tuple[bytes, bytes]:
        """The handshake for an object.

        Args:
            object_: Its number.
            nonce: 16 random bytes.

        Returns:
            The request, and the ``Sec-WebSocket-Accept`` that belongs to it.
        """
        key = base64.b64encode(nonce)
        lines = (
            f"GET {self.path.replace(PLACEHOLDER, str(object_))} HTTP/1.1",
            *self.headers,
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key.decode()}",
            "Sec-WebSocket-Version: 13",
            "\r\n",
        )
        accept = base64.b64encode(hashlib.sha1(key + _MAGIC, usedforsecurity=False).digest())
        return "\r\n".join(lines).encode(), accept

    def check(self, head: bytes, accept: bytes) -> None:
        """Check a server's answer, without the empty line at its end.

        Raises:
            HandshakeRefused: It is no 101, or not one for this handshake.
        """
        first, _, rest = head.partition(b"\r\n")
        status = _STATUS_LINE.fullmatch(first)
        if status is None:
            raise HandshakeRefused("no HTTP answer")
        if status[1] != b"101":
            raise HandshakeRefused(f"HTTP {status[1].decode()}")
        found: dict[str, str] = {}
        for line in rest.decode("latin-1").split("\r\n"):
            name, colon, value = line.partition(":")
            if colon:
                found[name.strip().lower()] = value.strip()
        if found.get("upgrade", "").lower() != "websocket" or "upgrade" not in _words(found.get("connection", "")):
            raise HandshakeRefused("101 without the upgrade")
        if found.get("sec-websocket-accept", "").encode("latin-1") != accept:
            raise HandshakeRefused("101 with a wrong Sec-WebSocket-Accept")
        if found.get("sec-websocket-extensions"):
            raise HandshakeRefused("101 with an extension that was not asked for")
        protocol = found.get("sec-websocket-protocol")
        if protocol is not None and protocol not in self.protocols:
            raise HandshakeRefused("101 with a subprotocol that was not asked for")


def _words(value: str) -> set[str]:
    return {word.strip().lower() for word in value.split(",")}
