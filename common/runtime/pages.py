"""The pages that roost itself shows: how they look, and how a refusal is told to people and to programs.

Each page is whole in itself (no other file is fetched), works from 320 px, follows the system's light or dark colours,
and holds no address with a host or a leading slash, so that a proxy may serve it below any path.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from http import HTTPStatus
from itertools import islice

HTML = (b"content-type", b"text/html; charset=utf-8")
TEXT = (b"content-type", b"text/plain; charset=utf-8")

COLOURS = """:root { color-scheme: light dark; --ink: #1f2430; --soft: #5c6675; --paper: #fbfaf7; --card: #fff;
  --line: #e6e2d8; --accent: #a84a24; --on-accent: #fff; --good: #176f2c; --bad: #b3261e; --note: #805300; }
@media (prefers-color-scheme: dark) { :root { --ink: #ebe7df; --soft: #a8a398; --paper: #17181b; --card: #1f2125;
  --line: #3a3c42; --accent: #e08a5f; --on-accent: #17181b; --good: #7ccf8f; --bad: #ff8f85; --note: #e5b65c; } }
"""
"""Custom properties for both colour schemes; each text colour has a contrast of at least 4.5 to paper and card."""

_STYLE = """* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif;
  overflow-wrap: anywhere; }
main { max-width: 38rem; margin: 0 auto; padding: min(8vh, 4rem) 1rem 3rem; }
h1 { margin: 0; font-size: 2.2rem; line-height: 1.2; letter-spacing: -0.03em; }
p { margin: 0.3rem 0 1.6rem; color: var(--soft); }
a { color: var(--accent); }
code, pre { font-family: ui-monospace, monospace; }
pre { overflow-x: auto; padding: 1rem; font-size: 0.85rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 9px; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
"""


def document(title: str, body: str, *, style: str = "") -> str:
    """A whole page.

    Args:
        title: Plain text.
        body: HTML for ``<main>``; what comes from outside must be escaped in it.
        style: CSS beside that of all pages.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Without this a browser asks for /favicon.ico, and reports that there is no such namespace.
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n'
        f"<style>\n{COLOURS}{_STYLE}{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def refusal(status: int, sentence: str, accept: Iterable[bytes] = ()) -> tuple[tuple[bytes, bytes], bytes]:
    """What says that a request was refused, or has failed, and why.

    Args:
        status: The HTTP status.
        sentence: What is wrong and what to do, without the full stop; behind an empty line there may be more, such as
            a traceback, which is shown as it is.
        accept: The values of the request's Accept headers.

    Returns:
        The Content-Type field, and the body: a page for who lists ``text/html``, as browsers do; else one line of text.
    """
    if not _wants_html(accept):
        return TEXT, f"{sentence}\n".encode(errors="backslashreplace")
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Refused"
    first, _, more = sentence.partition("\n\n")
    shown = escape(first[:1].upper() + first[1:])
    details = f"\n<pre>{escape(more)}</pre>" if more else ""
    body = f"<h1>{phrase}</h1>\n<p>{shown}.</p>{details}\n<p><small>HTTP {status}</small></p>"
    return HTML, document(f"{status} {phrase}", body).encode(errors="backslashreplace")


_LOOKED_AT = 64
"""Elements of an Accept header. Browsers send fewer than ten; 30,000 would fit into a head, and cost 25 ms."""


def _wants_html(accept: Iterable[bytes]) -> bool:
    elements = (element for value in accept for element in value.lower().split(b",", _LOOKED_AT))
    for element in islice(elements, _LOOKED_AT):
        if b"text/html" in element:
            kind, *parameters = (part.strip() for part in element.split(b";", _LOOKED_AT))
            # ``*/*`` is what curl and most programs send: they get the text.
            if kind == b"text/html" and not any(_is_zero(parameter) for parameter in parameters):
                return True
    return False


def _is_zero(parameter: bytes) -> bool:
    """Whether it is ``q=0``, ``q=0.0`` …: "not acceptable" (RFC 9110 12.4.2)."""
    name, _, value = parameter.partition(b"=")
    return name.strip() == b"q" and value.strip().strip(b"0.") == b"" and value.strip() != b""
