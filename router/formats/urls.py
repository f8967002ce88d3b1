"""The URL scheme: ``/{namespace}/{name}[/rest]`` reaches the object of that name; ``/`` and ``/healthz`` are ours."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from ...common.errors import BadRequest, UnknownNamespace
from ...common.limits import MAX_NAME_CHARS

_ABSOLUTE = re.compile(r"(?:http|ws)s?://(?P<authority>[^/?#]*)(?P<rest>.*)", re.IGNORECASE)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOST = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)(?::(?P<port>[0-9]{0,5}))?",
    re.ASCII,
)
_MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Address:
    """Which object a request is for.

    Attributes:
        namespace: The namespace, one of those hosted.
        name: The object's name, percent-decoded.
    """

    namespace: str
    name: str


def split_target(target: str) -> tuple[str | None, str]:
    """Split a request target into the authority that it names (absolute form only) and path with query.

    The absolute form is what clients send to a proxy; a server must accept it from anybody (RFC 9112 3.2.2). Clients of
    WebSockets write ``ws://`` there.

    Raises:
        BadRequest: It is of another form (RFC 9112 3.2): ``*``, or the authority of a CONNECT.
    """
    if target.startswith("/"):
        return None, target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise BadRequest(f"the request target must be a path such as /chat-room/lobby, got {target[:80]!r}")
    rest = absolute["rest"]
    return absolute["authority"], rest if rest.startswith("/") else "/" + rest


def check_host(host: str, where: str = "the Host header") -> None:
    """Refuse a host that no URL can have: it becomes a part of the URL that the object sees and parses.

    A host is a registered name, an IPv4 address or an IPv6 address in brackets, with or without a port (RFC 3986 3.2.2,
    3.2.3). User information has no place in it (RFC 9110 4.2.4), and of an IPv6 address the zone has none.

    Args:
        host: What the client has said.
        where: Where it has, for the sentence.

    Raises:
        BadRequest: with the host.
    """
    parts = _HOST.fullmatch(host)
    if parts is None or (parts["ipv6"] is not None and not _is_ipv6(parts["ipv6"])):
        raise BadRequest(f"{where} must be a host name with an optional port, got {host[:80]!r}")
    if parts["port"] and int(parts["port"]) > _MAX_PORT:
        raise BadRequest(f"the port of {where} can be at most {_MAX_PORT}, got {host[:80]!r}")


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def authority(host: str, port: int) -> str:
    """Host and port as a URL has them: an IPv6 address in brackets and without its zone.

    Args:
        host: A name or an address, such as a socket has it; an IPv4 address that is mapped into IPv6 is given as such.
        port: The port.
    """
    if ":" not in host:
        return f"{host}:{port}"
    address = ipaddress.IPv6Address(host.partition("%")[0])
    return f"{address.ipv4_mapped}:{port}" if address.ipv4_mapped is not None else f"[{address}]:{port}"


def path_of(target: str) -> str:
    """The path of an origin-form target, without query and fragment."""
    return re.split("[?#]", target, maxsplit=1)[0]


def address(path: str, namespaces: Collection[str]) -> Address:
    """Find the object that *path* names.

    Args:
        path: Starts with ``/``, still percent-encoded.
        namespaces: Those that the cluster hosts.

    Raises:
        UnknownNamespace: naming those that there are.
        BadRequest: The path names no object, or its name is malformed, empty or too long.
    """
    namespace, has_name, rest = path[1:].partition("/")
    if namespace not in namespaces:
        # Decoded only for the sentence: namespaces are plain ASCII.
        raise UnknownNamespace(_readable(namespace), namespaces)
    raw = rest.partition("/")[0]
    if not has_name or not raw:
        raise BadRequest(f"the path {path[:80]!r} names no object: it must be /{namespace}/<name>")
    return Address(namespace, _name(raw))


def _readable(raw: str) -> str:
    return unquote_to_bytes(raw).decode(errors="replace")[:80]


def _name(raw: str) -> str:
    if "%" not in raw:
        name = raw
    else:
        bad = _BAD_ESCAPE.search(raw)
        if bad is not None:
            raise BadRequest(f"the object's name has a malformed percent-encoding: {raw[bad.start() :][:3]!r}")
        decoded = unquote_to_bytes(raw)
        if b"/" in decoded:
            raise BadRequest("the object's name may not contain an encoded '/'")
        try:
            name = decoded.decode()
        except UnicodeDecodeError as error:
            raise BadRequest(f"the object's name is not valid UTF-8 once percent-decoded: {error.reason}") from error
    if len(name) > MAX_NAME_CHARS:
        raise BadRequest(f"an object's name can have at most {MAX_NAME_CHARS} characters, got {len(name)}")
    return name
