"""A chat room for each name: ``/chat-room/lobby`` in two browser tabs.

The object serves its own page and holds no state besides its sockets, so it may leave memory between two messages:
who is who stands in the sockets' attachments. A client sends lines of text, and gets JSON::

    {"what": "joined", "name": "ann", "text": "", "people": 2}     also "said" and "left"
    {"what": "refused", "name": "ann", "text": "why", "people": 2} to who sent a line that nobody else gets

What a client has caused itself comes to it with ``"you": true``; its own "joined" has in ``"here"`` who is there,
the latest first.
"""

from __future__ import annotations

import html
import json
from typing import Any

from roost.shard import DurableObject, Request, Response, WebSocket, WebSocketPair, WebSocketRequestResponsePair

MAX_NAME = 40
MAX_LINE = 2_000
MAX_SHOWN = 50
"""Names that somebody who joins is told; how many people there are is told in any case."""


class ChatRoom(DurableObject):
    """One room. Whatever somebody says reaches everybody in it, in the same order."""

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        # So that a page knows whether its connection still works. The router answers: the room sleeps on.
        ctx.set_web_socket_auto_response(WebSocketRequestResponsePair("/ping", "/pong"))

    async def fetch(self, request: Request) -> Response:
        if request.headers.get("upgrade", "").lower() != "websocket":
            page = PAGE.replace("{room}", html.escape(self.ctx.id.name or "chat"))
            return Response(page, headers={"content-type": "text/html; charset=utf-8"})
        asked = request.query.get("name", "")
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server)
        server.serialize_attachment({"name": presentable(asked)})
        note = f"a name has at most {MAX_NAME} characters: yours was shortened" if len(asked) > MAX_NAME else ""
        here = [name_of(peer) for peer in self.people()[:MAX_SHOWN]]
        self.tell("joined", server, own={"text": note, "here": here})
        return Response(status=101, web_socket=client)

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        if ws.ready_state != WebSocket.OPEN:
            return  # it was closed below, and talks on: messages come until it answers the Close
        if isinstance(message, bytes):
            ws.close(1003, "this room speaks text")
        elif len(message) > MAX_LINE:
            why = f"a line has at most {MAX_LINE:,} characters, and this one has {len(message):,}: nobody got it"
            ws.send({"what": "refused", "name": name_of(ws), "text": why, "people": len(self.people())})
        elif message.strip():
            self.tell("said", ws, message)

    async def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
        self.tell("left", ws)

    async def web_socket_error(self, ws: WebSocket, error: Exception) -> None:
        self.tell("left", ws)  # it broke the protocol; no close event follows

    def people(self) -> list[WebSocket]:
        """Who is there. A socket that is closed already may still be listed, and can be sent nothing."""
        return [peer for peer in self.ctx.get_web_sockets() if peer.ready_state == WebSocket.OPEN]

    def tell(self, what: str, who: WebSocket, text: str = "", own: dict[str, Any] | None = None) -> None:
        """Let everybody know; *own* is for *who* alone. Equal messages to many sockets leave as one."""
        people = [peer for peer in self.people() if what != "left" or peer is not who]
        event = {"what": what, "name": name_of(who), "text": text, "people": len(people)}
        theirs, mine = json.dumps(event), json.dumps({**event, "you": True, **(own or {})})
        for peer in people:
            peer.send(mine if peer is who else theirs)


def name_of(ws: WebSocket) -> str:
    return str(ws.deserialize_attachment()["name"])


def presentable(asked: str) -> str:
    """A name that is one short line: no control characters, and none that turn the direction of what follows."""
    # U+200D joins emoji, as in 👩‍🚀; it is the one invisible character that names are made with.
    kept = "".join(each for each in " ".join(asked.split()) if each.isprintable() or each == "\u200d")
    return kept[:MAX_NAME].strip(" \u200d") or "guest"


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<link rel="icon" href="data:,"><title>{room}</title>
<style>
  :root { color-scheme: light dark; --line: #8884; --soft: #8882; --mine: #2b66dd; --good: #1a9a4b; --bad: #d97706 }
  * { box-sizing: border-box }
  body { margin: 0 auto; max-width: 44rem; height: 100dvh; display: flex; flex-direction: column; font: 16px system-ui }
  header, form { display: flex; flex-wrap: wrap; gap: .5rem .8rem; padding: .7rem 1rem; align-items: center }
  header { border-bottom: 1px solid var(--line) } form { border-top: 1px solid var(--line) }
  h1 { font-size: 1.1rem; margin: 0; flex: 1 1 8rem; min-width: 0; overflow: hidden; text-overflow: ellipsis;
       white-space: nowrap }
  label { font-size: .85rem } label input { margin-left: .4rem; width: 9rem }
  details { position: relative; font-size: .85rem } summary { cursor: pointer }
  summary::before { content: ""; display: inline-block; width: .6rem; height: .6rem; margin: 0 .4rem;
                    border-radius: 50%; background: var(--bad) }
  .open summary::before { background: var(--good) }
  #people { position: absolute; right: 0; z-index: 1; margin: .4rem 0 0; padding: .6rem 1rem; list-style: none;
            width: max-content; max-width: min(16rem, 80vw); max-height: 50vh; overflow: auto; background: Canvas;
            border: 1px solid var(--line); border-radius: .6rem }
  #lines { flex: 1; overflow-y: auto; margin: 0; padding: 1rem; list-style: none; display: flex;
           flex-direction: column; gap: .4rem }
  #lines li { align-self: start; max-width: 80%; padding: .45rem .8rem; border-radius: 1rem; background: var(--soft) }
  li { overflow-wrap: anywhere; overflow: clip; unicode-bidi: isolate; white-space: pre-wrap; flex: none }
  #lines .mine { align-self: end; background: var(--mine); color: #fff }
  #lines .note { align-self: center; background: none; font-size: .85rem; padding: 0; opacity: .8 }
  b { display: block; font-size: .75rem; unicode-bidi: isolate }
  input { font: inherit; padding: .45rem .8rem; border: 1px solid #888; border-radius: 1rem; background: none;
          min-width: 0 }
  #text { flex: 1 }
  button { font: inherit; border: 0; border-radius: 1rem; padding: .5rem 1rem; background: var(--mine); color: #fff }
  button:disabled { background: var(--line); color: inherit } :focus-visible { outline: 2px solid var(--mine) }
</style>
<header>
  <h1>{room}</h1>
  <details><summary><span id="state" role="status">connecting</span></summary><ul id="people"></ul></details>
  <label>name<input id="name" maxlength="40" autocomplete="nickname"></label>
</header>
<ol id="lines" role="log" aria-label="messages" tabindex="0"></ol>
<form><input id="text" maxlength="2000" placeholder="say something" aria-label="message" autocomplete="off" autofocus>
<button disabled>Send</button></form>
<script>
  const $ = id => document.getElementById(id), query = new URLSearchParams(location.search);
  const send = document.querySelector("button"), details = document.querySelector("details");
  $("name").value = query.get("name") || sessionStorage.name || "guest-" + Math.random().toString(36).slice(2, 6);
  let socket, tries = 0, timer, unanswered, here = [];

  function show(kind, text, name) {
    const lines = $("lines"), line = document.createElement("li");
    const follow = kind == "mine" || lines.scrollHeight - lines.scrollTop - lines.clientHeight < 60;
    line.className = kind;
    if (name) line.appendChild(document.createElement("b")).textContent = name;
    line.append(text);
    lines.append(line);
    if (lines.children.length > 500) lines.firstChild.remove();
    if (follow) lines.scrollTop = lines.scrollHeight;
  }
  function state(text, open) {
    if ($("state").textContent != text) $("state").textContent = text;
    details.classList.toggle("open", open);
    send.disabled = !open;
  }
  function list(people) {
    const rows = here.length < people ? [...here, `and ${people - here.length} more`] : here;
    $("people").replaceChildren(...rows.map(name => {
      const row = document.createElement("li");
      row.textContent = name;
      return row;
    }));
  }
  function connect() {
    clearTimeout(timer);
    unanswered = false;
    const name = $("name").value.slice(0, 200);  // the room says what a name may be
    const address = new URL("?name=" + encodeURIComponent(name), location.href.replace(/^http/, "ws"));
    const mine = socket = new WebSocket(address);
    mine.onmessage = event => {
      if (mine != socket) return;
      unanswered = false;
      if (event.data == "/pong") return;
      const { what, name: who, text, people, you, here: names } = JSON.parse(event.data);
      if (names) {  // we are in
        tries = 0;
        here = names;
        if (document.activeElement != $("name")) sessionStorage.name = $("name").value = who;
      } else if (what == "joined") here.unshift(who);
      else if (what == "left" && here.includes(who)) here.splice(here.indexOf(who), 1);
      list(people);
      state(people + (people == 1 ? " person" : " people"), true);
      if (what == "said") show(you ? "mine" : "theirs", text, who);
      else if (what != "refused") show("note", who + " " + what);
      if (what != "said" && text) show("note", text);
    };
    mine.onclose = () => {
      if (mine != socket) return;  // replaced by another one
      state("reconnecting", false);
      // Twice as long each time, up to 10 s, and a part of it by chance: else everybody would come back at once.
      timer = setTimeout(connect, Math.min(10000, 250 * 2 ** tries++) * (.5 + Math.random() / 2));
    };
  }
  function replace(why) {
    const old = socket;
    connect();
    old.close(1000, why);
  }
  document.querySelector("form").onsubmit = event => {
    event.preventDefault();
    if (!$("text").value.trim() || send.disabled || socket.readyState != WebSocket.OPEN) return;
    socket.send($("text").value);
    $("text").value = "";
  };
  $("name").onchange = () => {
    history.replaceState(null, "", "?name=" + encodeURIComponent($("name").value));
    replace("changed name");
  };
  addEventListener("online", () => { if (send.disabled) replace("back online") });
  setInterval(() => {  // a connection that has died without a word looks open for ever
    if (socket.readyState != WebSocket.OPEN) return;
    if (unanswered) return replace("nothing heard");
    unanswered = true;
    socket.send("/ping");
  }, 20000);
  connect();
</script>
</html>
"""
