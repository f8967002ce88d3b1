"""How a refusal is told, to people and to programs."""

from __future__ import annotations

import time

import pytest

from roost.common.runtime.pages import HTML, TEXT, document, refusal

BROWSER = b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    "accept",
    [
        (),
        (b"*/*",),
        (b"",),
        (b"application/json",),
        (b"text/*",),
        (b"text/html;q=0",),
        (b"text/html; q=0.000, */*",),
        (b",;,;q",),
        (b"text/htmlx",),
    ],
)
def test_programs_get_one_line_of_text(accept: tuple[bytes, ...]) -> None:
    assert refusal(404, "there is <nothing>", accept) == (TEXT, b"there is <nothing>\n")


@pytest.mark.parametrize(
    "accept", [(BROWSER,), (b"application/json", b"TEXT/HTML"), (b"text/html;level=1;q=0.5",), (b"text/html;q",)]
)
def test_browsers_get_a_page(accept: tuple[bytes, ...]) -> None:
    content_type, body = refusal(404, "there is <nothing>", accept)
    page = body.decode()
    assert content_type == HTML
    assert "<title>404 Not Found</title>" in page
    assert "There is &lt;nothing&gt;." in page
    assert 'lang="en"' in page
    assert 'name="viewport"' in page
    assert "prefers-color-scheme: dark" in page


def test_a_status_without_a_name_and_a_sentence_with_anything_in_it() -> None:
    _, body = refusal(599, "bad \udcff", [BROWSER])
    assert b"<title>599 Refused</title>" in body
    assert b"\\udcff" in body
    assert refusal(400, "bad \udcff")[1] == b"bad \\udcff\n"


def test_what_stands_behind_an_empty_line_is_shown_as_it_is() -> None:
    sentence = "it failed (error id 1)\n\nTraceback:\n  File <x>\nValueError: y"
    assert refusal(500, sentence)[1] == sentence.encode() + b"\n"
    page = refusal(500, sentence, [BROWSER])[1].decode()
    assert "<p>It failed (error id 1).</p>\n<pre>Traceback:\n  File &lt;x&gt;\nValueError: y</pre>" in page
    assert "<pre>" not in refusal(500, "it failed", [BROWSER])[1].decode()


def test_pages_fetch_nothing_and_name_no_host() -> None:
    page = document("a <b>", "<h1>x</h1>")
    assert "<title>a &lt;b&gt;</title>" in page
    assert "http" not in page
    assert 'src="' not in page
    assert page.count("href=") == page.count('href="data:,"') == 1


def test_what_an_accept_header_costs_has_a_bound() -> None:
    """30,000 elements took 25 ms of a router's turn, for each request that it refused."""
    accept = (b"a;b;c," * 10_000,) * 3
    began = time.thread_time()
    assert refusal(404, "nothing", accept) == (TEXT, b"nothing\n")
    assert time.thread_time() - began < 0.01
