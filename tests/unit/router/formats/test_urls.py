"""The URL scheme: what names an object, and how everything else is refused."""

from __future__ import annotations

import pytest

from roost.common.errors import BadRequest, UnknownNamespace
from roost.router.formats.urls import Address, address, authority, check_host, path_of, split_target

NAMESPACES = ("chat-room", "counter")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/chat-room/lobby", "lobby"),
        ("/chat-room/lobby/", "lobby"),
        ("/chat-room/lobby/a/b", "lobby"),
        ("/chat-room/caf%C3%A9", "café"),
        ("/chat-room/%e2%82%ac%20x", "€ x"),
        ("/chat-room/a+b", "a+b"),
        ("/chat-room/" + "n" * 512, "n" * 512),
        ("/chat-room/" + "%C3%A9" * 512, "é" * 512),
        ("/chat-room/a%2fb".replace("%2f", "%25"), "a%b"),
    ],
)
def test_a_path_names_an_object(path: str, name: str) -> None:
    assert address(path, NAMESPACES) == Address("chat-room", name)


@pytest.mark.parametrize("path", ["/chat-room", "/chat-room/", "/chat-room//x"])
def test_a_path_without_a_name_is_refused(path: str) -> None:
    with pytest.raises(BadRequest, match="names no object"):
        address(path, NAMESPACES)


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ("a%2Fb", "encoded '/'"),
        ("a%2fb", "encoded '/'"),
        ("a%", "percent-encoding"),
        ("a%4", "percent-encoding"),
        ("a%zz", "percent-encoding"),
        ("%ff", "not valid UTF-8"),
        ("%ed%a0%80", "not valid UTF-8"),
        ("n" * 513, "at most 512 characters, got 513"),
    ],
)
def test_a_malformed_name_is_refused_with_a_sentence(raw: str, sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence) as caught:
        address(f"/chat-room/{raw}", NAMESPACES)
    assert caught.value.status == 400


@pytest.mark.parametrize("path", ["/nope/x", "/favicon.ico", "/Chat-Room/x", "/%63hat-room/x", "//x"])
def test_an_unknown_namespace_is_refused_naming_those_that_exist(path: str) -> None:
    with pytest.raises(UnknownNamespace, match="there are: chat-room, counter") as caught:
        address(path, NAMESPACES)
    assert caught.value.status == 404


def test_targets_come_as_paths_or_absolute_urls() -> None:
    assert split_target("/a?b=c") == (None, "/a?b=c")
    assert split_target("http://host:1/a?b") == ("host:1", "/a?b")
    assert split_target("HTTPS://host") == ("host", "/")
    assert split_target("http://host?q") == ("host", "/?q")
    assert split_target("ws://host/a?b") == ("host", "/a?b")
    assert split_target("WSS://[::1]:8787") == ("[::1]:8787", "/")
    assert split_target("ws://me:secret@host/") == ("me:secret@host", "/"), "check_host refuses it"


@pytest.mark.parametrize("target", ["*", "host:80", "", "ftp://x/y", "a/b"])
def test_targets_of_other_forms_are_refused(target: str) -> None:
    with pytest.raises(BadRequest, match="request target"):
        split_target(target)


def test_the_path_ends_at_query_and_fragment() -> None:
    assert path_of("/a/b?c/d#e") == "/a/b"
    assert path_of("/a#b?c") == "/a"


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "a.example:8787",
        "127.0.0.1",
        "[::1]:80",
        "[::1]",
        "x_y~z",
        "h:",
        "h:0",
        "h:65535",
        "[::ffff:1.2.3.4]:1",
        "a%2Db",
        "a,b;c=d!",
    ],
)
def test_hosts(host: str) -> None:
    check_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "a b",
        "a/b",
        "a@b",
        "host:port",
        "::1",
        'a"',
        "a#b",
        "h:65536",
        "h:99999999",
        "h:\u0663",
        "h:+1",
        "h: 1",
        "[]",
        "[:::]",
        "[1.2.3.4]",
        "[::1",
        "::1]",
        "[::1]x",
        "[::1%25eth0]",
        "[v1.x]",
        "[::12345]",
        "a%2",
        "a%zz",
        "b\xfccher",
        "a\\b",
        "a^b",
        "a\t",
        ":80",
        "a:1:2",
        "[::1]:65536",
        "u:p@h",
        "a\n",
    ],
)
def test_a_host_that_no_url_can_have_is_refused(host: str) -> None:
    with pytest.raises(BadRequest, match="Host header"):
        check_host(host)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1:8787"),
        ("localhost", "localhost:8787"),
        ("::1", "[::1]:8787"),
        ("::", "[::]:8787"),
        ("::ffff:10.0.0.7", "10.0.0.7:8787"),
        ("fe80::1%eth0", "[fe80::1]:8787"),
    ],
)
def test_an_own_address_as_a_host(host: str, expected: str) -> None:
    assert authority(host, 8787) == expected
    check_host(expected)
