"""HTTP/1.1 at the public port: what is right is served, what is wrong is refused with a sentence."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.client import RawClient, request
from tests.support.cluster import Cluster
from tests.support.frames import TEXT, frame, upgrade_head
from tests.support.waiting import within

APP = Path(__file__).with_name("app.py")


@pytest.fixture
def path(name: str) -> str:
    return f"/web/{name}"


# --- requests in order --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_any_method_with_any_body_reaches_the_object(web: Cluster, path: str, method: str) -> None:
    reply = await request(web.port, method, path + "/rest/of?a=1", "X-Two: ä", body="bödy".encode())
    assert reply.status == 200, reply
    seen = json.loads(reply.body)
    assert seen["method"] == method
    assert seen["path"] == path + "/rest/of"
    assert seen["url"] == f"http://test{path}/rest/of?a=1"
    assert seen["body"] == "bödy"


async def test_head_has_the_heads_of_get_and_no_body(web: Cluster, path: str) -> None:
    async with await RawClient.open(web.port) as client:
        reply = await client.request("HEAD", path + "?do=sized&n=1000")
        assert reply.status == 200
        assert reply.header("content-length") == "1000"
        # Nothing of a body may stand before the next answer.
        assert (await client.request("GET", path + "?do=sized&n=3")).body == b"xxx"


async def test_a_body_of_any_bytes_goes_both_ways(web: Cluster, path: str) -> None:
    body = bytes(range(256)) * 100
    reply = await request(web.port, "POST", path + "?do=body", body=body)
    assert reply.body == body
    assert reply.header("content-type") == "application/octet-stream"


async def test_a_chunked_body_is_joined(web: Cluster, path: str) -> None:
    async with await RawClient.open(web.port) as client:
        await client.send(f"POST {path}?do=body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in (b"5\r\nhello\r\n", b"6;ext=1\r\n world\r\n", b"0\r\nX-Trailer: t\r\n\r\n"):
            await client.send(part)
        assert (await client.response()).body == b"hello world"


async def test_pipelined_requests_are_answered_in_order(web: Cluster, path: str) -> None:
    """The first waits for the third in another object, so answers cannot simply go out as they come."""
    async with await RawClient.open(web.port) as client:
        get = "GET {} HTTP/1.1\r\nHost: x\r\n\r\n"
        await client.send("".join(get.format(f"{path}?do=sized&n={n}") for n in (1, 2, 3, 4, 5)))
        assert [len((await client.response()).body) for _ in range(5)] == [1, 2, 3, 4, 5]


async def test_connection_close_is_kept(web: Cluster, path: str) -> None:
    async with await RawClient.open(web.port) as client:
        reply = await client.request("GET", path, "Connection: close")
        assert reply.header("connection") == "close"
        assert await client.expect_eof() == b""


async def test_http_1_0_is_answered_and_closed(web: Cluster, path: str) -> None:
    async with await RawClient.open(web.port) as client:
        await client.send(f"GET {path}?do=sized&n=2 HTTP/1.0\r\n\r\n")
        assert (await client.response()).body == b"xx"
        assert await client.expect_eof() == b""


async def test_an_empty_response(web: Cluster, path: str) -> None:
    async with await RawClient.open(web.port) as client:
        reply = await client.request("GET", path + "?do=nothing")
        assert (reply.status, reply.body) == (200, b"")
        for status in (204, 304):
            reply = await client.request("GET", f"{path}?do=status&n={status}")
            assert reply.status == status
        assert (await client.request("GET", path + "?do=sized&n=2")).body == b"xx", "framing is intact"


async def test_expect_100_continue(web: Cluster, path: str) -> None:
    async with await RawClient.open(web.port) as client:
        await client.send(
            f"POST {path}?do=body HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        )
        assert (await client.response()).status == 100
        await client.send("body")
        assert (await client.response()).body == b"body"


async def test_expect_100_continue_of_a_body_that_is_too_large(web: Cluster, path: str) -> None:
    async with await RawClient.open(web.port) as client:
        await client.send(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {(1 << 20) + 1}\r\nExpect: 100-continue\r\n\r\n"
        )
        assert (await client.response()).status == 413


async def test_another_expectation_is_417(web: Cluster, path: str) -> None:
    assert (await request(web.port, "POST", path, "Expect: miracles", body=b"x")).status == 417


async def test_two_requests_of_one_object_run_at_once(web: Cluster, path: str) -> None:
    waiting = asyncio.ensure_future(request(web.port, "GET", path + "?do=wait"))
    await request(web.port, "GET", path + "?do=open")
    assert (await waiting).text.startswith("waited")


async def test_a_client_that_leaves_does_not_disturb_its_object(web: Cluster, path: str) -> None:
    async with await RawClient.open(web.port) as client:
        await client.send(f"GET {path}?do=wait HTTP/1.1\r\nHost: x\r\n\r\n")
        while json.loads((await request(web.port, "GET", path)).body)["count"] < 2:
            pass
        client.reset()
    assert (await request(web.port, "GET", path + "?do=open")).text == "open"
    assert (await request(web.port, "GET", path + "?do=wait")).text.startswith("waited")


async def test_a_target_with_an_authority(web: Cluster, path: str) -> None:
    async with await RawClient.open(web.port) as client:
        for scheme in ("http", "WS", "https"):
            await client.send(f"GET {scheme}://example.org{path}?a=1 HTTP/1.1\r\nHost: x\r\n\r\n")
            seen = json.loads((await client.response()).body)
            assert seen["url"] == f"http://example.org{path}?a=1"
            assert seen["headers"]["host"] == "example.org"


async def test_a_handshake_with_an_absolute_target_and_lists_in_several_lines(web: Cluster, name: str) -> None:
    """As clients write that think that they speak to a proxy, and as proxies forward."""
    lines = ("Connection: keep-alive,", "Connection:", "Connection: , Upgrade", "Upgrade: h2c,", "Upgrade: WebSocket")
    head = upgrade_head(f"ws://example.org/echo/{name}", *lines)
    async with await RawClient.open(web.port) as client:
        await client.send(head)
        assert (await client.response()).status == 101
        await client.send(frame(TEXT, "hello"))
        await client.expect(TEXT, "hello")


async def test_all_lines_of_a_header_reach_the_object(web: Cluster, path: str) -> None:
    """A proxy adds its line behind the one that a client has forged, as HAProxy's ``option forwardfor`` does."""
    lines = ("X-Forwarded-For: 6.6.6.6", "Cookie: old=1", "X-Forwarded-For: 10.0.0.7", "Cookie: session=abc ")
    headers = json.loads((await request(web.port, "GET", path, *lines)).body)["headers"]
    assert headers["x-forwarded-for"] == "6.6.6.6, 10.0.0.7"
    assert headers["cookie"] == "old=1; session=abc"


async def test_a_large_response(web: Cluster, path: str) -> None:
    assert len((await request(web.port, "GET", path + "?do=sized&n=20000000")).body) == 20_000_000


@pytest.mark.parametrize("line", ["HTTP/1.1\r\nHost: x\r\nConnection: close", "HTTP/1.0"])
async def test_a_slow_reader_of_a_last_response_gets_all_of_it(web: Cluster, path: str, line: str) -> None:
    """As nginx reads for a slow client: it asks with HTTP/1.0 unless told otherwise."""
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # or the system takes most of it for the client
    small.setblocking(False)
    await asyncio.get_running_loop().sock_connect(small, ("127.0.0.1", web.port))
    async with RawClient(*await asyncio.open_connection(sock=small)) as client:
        await client.send(f"GET {path}?do=sized&n=20000000 {line}\r\n\r\n")
        size, began = 0, time.monotonic()
        while data := await within("more of the response", client.reader.read(1 << 16)):
            size += len(data)
            if size < 6_000_000:
                await asyncio.sleep(0.05)
        assert size > 20_000_000
        assert time.monotonic() - began > 3, "longer than a connection lingers"


async def test_a_client_that_does_not_take_its_response_holds_nobody_up(web: Cluster, path: str) -> None:
    async with await RawClient.open(web.port) as slow:
        slow.writer.transport.pause_reading()
        await slow.send(f"GET {path}?do=sized&n=20000000 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await request(web.port, "GET", path + "?do=sized&n=2")).body == b"xx"


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "ä €𝄞", "with%percent", "x" * 512, "ä" * 512, "..", "a?b#c", "a b+c"])
async def test_names_are_percent_decoded(web: Cluster, name: str) -> None:
    reply = await request(web.port, "GET", f"/web/{quote(name, safe='')}")
    assert reply.status == 200, reply
    assert json.loads(reply.body)["name"] == name


@pytest.mark.parametrize(
    ("target", "status", "fact"),
    [
        ("/nowhere/x", 404, "web"),
        ("/Web/x", 404, "web"),
        ("/web", 400, "web"),
        ("/web/", 400, "web"),
        ("//x", 404, "web"),
        ("/web/" + "x" * 513, 400, "512"),
        ("/web/" + "%C3%A4" * 513, 400, "512"),
        ("/web/a%2Fb", 400, "/"),
        ("/web/a%2fb", 400, "/"),
        ("/web/%FF", 400, "UTF-8"),
        ("/web/%ED%A0%80", 400, "UTF-8"),
        ("/web/%zz", 400, "percent"),
        ("/web/%", 400, "percent"),
        ("*", 400, "path"),
    ],
)
@pytest.mark.parametrize("upgrade", [False, True])
async def test_a_bad_url_is_a_4xx_with_a_sentence(
    web: Cluster, target: str, status: int, fact: str, upgrade: bool
) -> None:
    async with await RawClient.open(web.port) as client:
        await client.send(upgrade_head(target) if upgrade else f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")
        reply = await client.response()
    assert reply.status == status
    assert fact in reply.text
    assert len(reply.text) < 400


# --- the router's own pages ---------------------------------------------------------------------------------------


async def test_healthz(web: Cluster) -> None:
    assert (await request(web.port, "GET", "/healthz")).status == 200


@pytest.mark.parametrize(
    "head", ["OPTIONS / HTTP/1.0\r\n\r\n", "OPTIONS /healthz HTTP/1.0\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"]
)
async def test_the_check_that_proxies_make_is_answered(web: Cluster, head: str) -> None:
    """The first is HAProxy's ``option httpchk``, which takes whatever is not 2xx or 3xx for a dead server."""
    async with await RawClient.open(web.port) as client:
        await client.send(head)
        reply = await client.response()
        assert (reply.status, reply.header("allow"), reply.body) == (204, "GET, HEAD, OPTIONS", b"")


async def test_the_front_page_lists_the_namespaces(web: Cluster) -> None:
    reply = await request(web.port, "GET", "/")
    assert reply.status == 200
    assert (reply.header("content-type") or "").startswith("text/html")
    assert "web" in reply.text
    assert "echo" in reply.text


# --- what is wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        "POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: -3\r\n\r\n",
        "POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc",
        "POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        "POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        "POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n",
        "POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n",
        "GET {} HTTP/1.1\r\nHost: x\r\nX-Folded: one\r\n two\r\n\r\n",
        "GET {} HTTP/1.1\r\nHost: x\r\n X-Leading: space\r\n\r\n",
        "GET {} HTTP/1.1\r\nHost: x\r\nX Space: in name\r\n\r\n",
        "GET {} HTTP/1.1\r\nHost: x\r\nNo colon\r\n\r\n",
        "GET {} HTTP/1.1\r\nHost: x\r\nX-Nul: a\0b\r\n\r\n",
        "GET {} HTTP/1.1\r\n\r\n",
        "GET {} HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "GET {} HTTP/1.1\r\nHost: a/b?c\r\n\r\n",
        "GET {}\r\nHost: x\r\n\r\n",
        "GET relative HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=[
        "CL and TE",
        "TE and CL",
        "two lengths",
        "negative length",
        "signed length",
        "chunk size no hex",
        "chunk size negative",
        "chunk size too large",
        "chunk longer than its size",
        "folded header",
        "leading space",
        "space in a name",
        "no colon",
        "NUL in a value",
        "no Host",
        "two Hosts",
        "Host is no host",
        "no version",
        "relative target",
    ],
)
async def test_a_malformed_request_is_400_and_the_connection_ends(web: Cluster, path: str, head: str) -> None:
    async with await RawClient.open(web.port) as client:
        await client.send(head.format(path))
        reply = await client.response()
        assert reply.status == 400, reply
        assert reply.text.strip()
        assert await client.expect_eof() == b""
    assert json.loads((await request(web.port, "GET", path)).body)["count"] == 1, "the object saw nothing of it"


async def test_a_transfer_coding_that_we_do_not_know_is_refused(web: Cluster, path: str) -> None:
    async with await RawClient.open(web.port) as client:
        await client.send(f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
        assert (await client.response()).status in (400, 501)


async def test_a_version_that_we_do_not_speak_is_505_or_400(web: Cluster, path: str) -> None:
    for first in (f"GET {path} HTTP/3.7\r\nHost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
        async with await RawClient.open(web.port) as client:
            await client.send(first)
            assert (await client.response()).status in (400, 505)


async def test_a_head_that_is_too_large_is_431(web: Cluster, path: str) -> None:
    async with await RawClient.open(web.port) as client:
        await client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n")
        try:
            for number in range(100):
                await client.send(f"X-{number}: {'x' * 1000}\r\n")
        except ConnectionError:
            pass  # refused before we were through with it
        assert (await client.response()).status == 431


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large_is_413(web: Cluster, path: str, chunked: bool) -> None:
    size = (1 << 20) + 1
    async with await RawClient.open(web.port) as client:
        if chunked:
            await client.send(f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n")
            try:
                await client.send(bytes(size))
            except ConnectionError:
                pass
        else:
            await client.send(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n")
        assert (await client.response()).status == 413
    assert json.loads((await request(web.port, "GET", path)).body)["count"] == 1


async def test_a_body_of_the_largest_size_passes(web: Cluster, path: str) -> None:
    body = bytes(1 << 20)
    assert (await request(web.port, "POST", path + "?do=body", body=body)).body == body


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-a", "one\r\nset-cookie: injected=1"),
        ("x-a", "one\nset-cookie: injected=1"),
        ("x-a", "one\rtwo"),
        ("x-a", "one\0two"),
        ("x-a\r\nset-cookie: injected=1\r\nx-b", "two"),
        ("x a", "space in the name"),
        ("x:a", "colon in the name"),
        ("", "no name"),
        ("ä", "no token"),
    ],
)
async def test_a_response_header_that_would_split_the_response_is_a_500(
    web: Cluster, path: str, header: str, value: str
) -> None:
    reply = await request(web.port, "GET", f"{path}?do=header&name={quote(header)}&value={quote(value)}")
    assert reply.status == 500
    assert reply.header("set-cookie") is None
    assert "injected" not in reply.text


async def test_a_response_header_of_other_letters_arrives_or_is_a_500(web: Cluster, path: str) -> None:
    reply = await request(web.port, "GET", f"{path}?do=header&name=x-a&value={quote('ä €')}")
    assert reply.status in (200, 500)


@pytest.mark.parametrize("header", ["content-length", "transfer-encoding", "connection"])
async def test_framing_is_ours_whatever_the_object_says(web: Cluster, path: str, header: str) -> None:
    value = {"content-length": "1", "transfer-encoding": "chunked", "connection": "upgrade"}[header]
    async with await RawClient.open(web.port) as client:
        reply = await client.request("GET", f"{path}?do=header&name={header}&value={value}")
        if reply.status == 200:
            assert reply.body == b"body"
            assert (await client.request("GET", f"{path}?do=sized&n=2")).body == b"xx"
        else:
            assert reply.status == 500


async def test_an_upgrade_to_something_else_is_served_as_http(web: Cluster, path: str) -> None:
    reply = await request(web.port, "GET", path, "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings, close")
    assert reply.status == 200


async def test_connect_is_refused(web: Cluster) -> None:
    async with await RawClient.open(web.port) as client:
        await client.send("CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n")
        assert 400 <= (await client.response()).status < 500


@pytest.mark.parametrize("more", ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])
async def test_a_handshake_with_a_body_is_refused(web: Cluster, name: str, more: str) -> None:
    async with await RawClient.open(web.port) as client:
        await client.send(upgrade_head(f"/echo/{name}")[:-2] + more)
        assert (await client.response()).status == 400


async def test_a_handshake_over_http_1_0_is_refused(web: Cluster, name: str) -> None:
    async with await RawClient.open(web.port) as client:
        await client.send(upgrade_head(f"/echo/{name}").replace("HTTP/1.1", "HTTP/1.0"))
        assert (await client.response()).status in (400, 426, 505)


async def test_a_name_cannot_forge_lines_of_the_log(web: Cluster, name: str) -> None:
    positions = web.log_positions()
    forged = quote(f"{name}\n2026-01-01 shard-1 ERROR forged\x1b[31m")
    assert (await request(web.port, "GET", f"/web/{forged}?do=missing")).status == 500
    logged = web.logs_since(positions)
    assert "forged" in logged
    assert "\n2026-01-01" not in logged
    assert "\x1b" not in logged


# --- garbage, slow and half clients -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 100,
        b"\xff" * 100 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"\r\n" * 1000 + b"x\r\n\r\n",
        b"GET /\r\n\r\n" * 10,
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
    ids=["zeros", "ones", "TLS", "empty lines", "HTTP/0.9", "SSH"],
)
async def test_garbage_costs_its_own_connection_only(web: Cluster, path: str, garbage: bytes) -> None:
    async with await RawClient.open(web.port) as client:
        await client.send(garbage)
        if client.writer.can_write_eof():
            client.writer.write_eof()
        said = await client.expect_eof()
        assert said == b"" or said.startswith(b"HTTP/1.1 4"), said[:100]
    assert (await request(web.port, "GET", path)).status == 200


@pytest.mark.parametrize("sent", ["", "GET /web/x HT", "GET /web/x HTTP/1.1\r\nHost: x\r\nX-", "POST"])
async def test_half_a_request_is_ended_in_time(impatient: Cluster, sent: str) -> None:
    async with await RawClient.open(impatient.port) as client:
        await client.send(sent)
        said = await client.expect_eof(5)
        assert said == b"" or said.startswith(b"HTTP/1.1 408"), said[:100]


async def test_a_head_byte_by_byte_is_ended_in_time(impatient: Cluster) -> None:
    async with await RawClient.open(impatient.port) as client:
        ended = asyncio.ensure_future(client.expect_eof(5))
        head = b"GET /web/x HTTP/1.1\r\nHost: x\r\n" + b"X-Slow: yes\r\n" * 100
        for byte in head:
            client.writer.write(bytes((byte,)))
            await asyncio.wait({ended}, timeout=0.02)
            if ended.done():
                break
        assert (await ended)[:12] in (b"", b"HTTP/1.1 408")


async def test_a_body_that_never_comes_is_ended_in_time(impatient: Cluster) -> None:
    async with await RawClient.open(impatient.port) as client:
        await client.send("POST /web/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        said = await client.expect_eof(15)
        assert said == b"" or said.startswith(b"HTTP/1.1 408"), said[:100]


async def test_an_idle_connection_is_closed(impatient: Cluster) -> None:
    async with await RawClient.open(impatient.port) as client:
        assert (await client.request("GET", "/web/x")).status == 200
        assert await client.expect_eof(5) == b""


@pytest.mark.parametrize(("host", "own"), [("::1", "[::1]"), ("::", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")])
async def test_a_client_that_names_no_host_sees_the_address_that_it_called(host: str, own: str) -> None:
    with Cluster(APP, host=host) as cluster:
        async with await RawClient.open(cluster.port, "::1" if host == "::1" else "127.0.0.1") as client:
            await client.send("GET /web/x HTTP/1.0\r\n\r\n")
            reply = await client.response()
            assert json.loads(reply.body)["url"] == f"http://{own}:{cluster.port}/web/x"
        if host == "::":
            async with await RawClient.open(cluster.port, "::1") as client:
                assert (await client.request("GET", "/healthz")).status == 200


async def test_an_upgrade_that_the_object_does_not_answer_in_time_is_refused(impatient: Cluster, name: str) -> None:
    async with await RawClient.open(impatient.port) as client:
        await client.send(upgrade_head(f"/web/{name}?do=wait"))
        reply = await client.response()
        assert reply.status in (503, 504)


async def test_a_request_behind_a_refused_upgrade_is_answered_or_the_connection_ends(web: Cluster, path: str) -> None:
    async with await RawClient.open(web.port) as client:
        await client.send(upgrade_head(f"{path}?do=sized&n=3") + f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.response()).body == b"xxx"
        rest = await client.expect_eof() if client.reader.at_eof() else b""
        assert rest == b"" or rest.startswith(b"HTTP/1.1 ")


async def test_many_half_handshakes_that_vanish(web: Cluster, path: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(await RawClient.open(web.port)) for _ in range(100)]
        for number, client in enumerate(clients):
            await client.send(upgrade_head(path)[: number * 2])
            client.reset()
    assert (await request(web.port, "GET", path)).status == 200
