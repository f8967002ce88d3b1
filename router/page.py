"""The pages that a router answers itself: ``/`` for people, ``/healthz`` for machines."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from urllib.parse import quote

HTML = (b"content-type", b"text/html; charset=utf-8")
JSON = (b"content-type", b"application/json")

_HOME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>roost</title>
<style>
:root {{ color-scheme: light dark; --ink: #1f2430; --soft: #667085; --paper: #fbfaf7; --card: #fff; --line: #e6e2d8;
  --accent: #b4532a; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #ebe7df; --soft: #a39e93; --paper: #17181b; --card: #1f2125;
  --line: #34363c; --accent: #e08a5f; }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 2rem 1rem;
  background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }}
main {{ width: min(34rem, 100%); }}
h1 {{ margin: 0; font-size: 2.2rem; letter-spacing: -0.03em; }}
p {{ margin: 0.3rem 0 1.6rem; color: var(--soft); }}
section {{ background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 1.2rem 1.4rem;
  margin-bottom: 1rem; }}
h2 {{ margin: 0 0 0.8rem; font: 600 1rem/1 ui-monospace, monospace; color: var(--accent); }}
form {{ display: flex; gap: 0.6rem; }}
input {{ flex: 1; min-width: 0; padding: 0.6rem 0.8rem; font: inherit; color: inherit; background: var(--paper);
  border: 1px solid var(--line); border-radius: 9px; }}
button {{ padding: 0.6rem 1.1rem; font: inherit; font-weight: 600; color: #fff; background: var(--accent); border: 0;
  border-radius: 9px; cursor: pointer; }}
@media (prefers-color-scheme: dark) {{ button {{ color: #17181b; }} }}
input:focus-visible, button:focus-visible {{ outline: 2px solid var(--accent); outline-offset: 2px; }}
small {{ display: block; margin-top: 0.7rem; color: var(--soft); }}
code {{ font-family: ui-monospace, monospace; }}
</style>
</head>
<body>
<main>
<h1>roost</h1>
<p>Sockets roost here while objects sleep. Each name below a namespace is one object: open one.</p>
{sections}
</main>
<script>
for (const form of document.forms)
  form.addEventListener("submit", event => {{
    event.preventDefault();
    location.href = form.dataset.base + encodeURIComponent(form.elements.name.value);
  }});
</script>
</body>
</html>
"""

_SECTION = """<section>
<h2>{shown}</h2>
<form data-base="/{path}/">
<input name="name" value="lobby" maxlength="512" required aria-label="name of an object in {shown}" autocomplete="off">
<button>Open</button>
</form>
<small>HTTP and WebSocket at <code>/{path}/&lt;name&gt;</code></small>
</section>"""

_NONE = "<section>No namespace is hosted yet: the shards are still starting.</section>"


def home(namespaces: Sequence[str]) -> bytes:
    """The page at ``/``: the namespaces, each with a field to open an object by name."""
    sections = [_SECTION.format(shown=html.escape(name), path=quote(name)) for name in namespaces]
    return _HOME.format(sections="\n".join(sections) or _NONE).encode()


def health(*, slots_attached: int, slots: int, draining: bool) -> tuple[int, bytes]:
    """What ``/healthz`` says.

    Returns:
        Status and body: 200 when requests can be served, 503 while the router ends or no slot has an owner yet.
    """
    status = "draining" if draining else "ok" if slots_attached == slots else "starting"
    body = json.dumps({"status": status, "slots_attached": slots_attached, "slots": slots}) + "\n"
    return 200 if status == "ok" else 503, body.encode()
