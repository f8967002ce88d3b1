"""The pages that a router answers itself: ``/`` for people, ``/healthz`` for machines.

All addresses in a page are relative to its own: a proxy may serve the cluster below a prefix, which it strips.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from ...common.limits import MAX_NAME_CHARS
from ...common.runtime.pages import HTML, document

__all__ = ["HTML", "JSON", "health", "home"]

JSON = (b"content-type", b"application/json")

_STYLE = """.namespaces { display: grid; gap: 1rem; grid-template-columns: minmax(0, 1fr); }
@media (min-width: 48rem) { .many { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
main:has(.many) { max-width: 64rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 1.2rem 1.4rem; }
h2 { margin: 0 0 0.8rem; font: 600 1rem/1.3 ui-monospace, monospace; color: var(--accent); }
form { display: flex; flex-wrap: wrap; gap: 0.6rem; }
input { flex: 1 1 9rem; min-width: 0; padding: 0.6rem 0.8rem; font: inherit; color: inherit; background: var(--paper);
  border: 1px solid var(--soft); border-radius: 9px; }
button { padding: 0.6rem 1.1rem; font: inherit; font-weight: 600; color: var(--on-accent); background: var(--accent);
  border: 0; border-radius: 9px; cursor: pointer; }
small { display: block; margin-top: 0.7rem; color: var(--soft); }
"""

_SCRIPT = """<script>
for (const form of document.forms) {
  const shown = form.nextElementSibling.querySelector("code");
  shown.textContent = new URL(form.dataset.base, location.href).pathname + "<name>";  // with a proxy's prefix
  form.addEventListener("submit", event => {
    event.preventDefault();
    location.href = form.dataset.base + encodeURIComponent(form.elements.name.value);
  });
}
</script>"""
_AGAIN = "<script>setTimeout(() => location.reload(), 1000)</script>"

_MANY = 4
"""Namespaces from which on they stand in two columns where there is room."""


def home(namespaces: Sequence[str], *, starting: bool = False) -> bytes:
    """The page at ``/``: the namespaces, each with a field to open an object by name.

    Args:
        namespaces: Those that are public.
        starting: No shard has entered the cluster yet, so that nobody knows the namespaces.
    """
    if namespaces:
        many = " many" if len(namespaces) >= _MANY else ""
        sections = "\n".join(map(_section, namespaces))
        hosted = f'<div class="namespaces{many}">\n{sections}\n</div>\n{_SCRIPT}'
    elif starting:
        hosted = f"<section>The shards are still starting. This page looks again each second.</section>\n{_AGAIN}"
    else:
        hosted = "<section>No namespace is public here: each class says <code>public = False</code>.</section>"
    return document(
        "roost",
        "<h1>roost</h1>\n<p>Sockets roost here while objects sleep. Each name below a namespace is one object: open "
        f"one.</p>\n{hosted}",
        style=_STYLE,
    ).encode()


def _section(namespace: str) -> str:
    # The address is relative to this page, which a proxy may serve below a path of its own.
    shown, path = escape(namespace), escape(quote(namespace))
    return (
        f'<section>\n<h2>{shown}</h2>\n<form data-base="{path}/">\n'
        f'<input name="name" value="lobby" maxlength="{MAX_NAME_CHARS}" required autocomplete="off" '
        f'aria-label="name of an object in {shown}">\n<button aria-label="Open an object in {shown}">Open</button>\n'
        f"</form>\n<small>HTTP and WebSocket at <code>/{path}/&lt;name&gt;</code></small>\n</section>"
    )


def health(*, slots_attached: int, slots: int, draining: bool) -> tuple[int, bytes]:
    """What ``/healthz`` says.

    Returns:
        Status and body: 200 when requests can be served, 503 while the router ends or no slot has an owner yet.
    """
    status = "draining" if draining else "ok" if slots_attached == slots else "starting"
    body = json.dumps({"status": status, "slots_attached": slots_attached, "slots": slots}) + "\n"
    return 200 if status == "ok" else 503, body.encode()
