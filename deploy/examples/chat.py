"""A chat room for each name: ``/chat-room/lobby`` in two browser tabs.

The object serves its own page and holds no state besides its sockets, so it may leave memory between two messages:
who is who stands in the sockets' attachments.
"""

from __future__ import annotations

import json

from roost.shard import DurableObject, Request, Response, WebSocket, WebSocketPair


class ChatRoom(DurableObject):
    """One room. Whatever somebody says reaches everybody in it, in the same order."""

    async def fetch(self, request: Request) -> Response:
        if request.headers.get("upgrade", "").lower() != "websocket":
            return Response(PAGE, headers={"content-type": "text/html; charset=utf-8"})
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server, tags=["everyone"])
        server.serialize_attachment({"name": request.query.get("name", "").strip()[:40] or "guest"})
        self.tell("joined", server)
        return Response(status=101, web_socket=client)

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        if isinstance(message, bytes):
            ws.close(1003, "this room speaks text")
        else:
            self.tell("said", ws, message)

    async def web_socket_close(self, ws: WebSocket, code: int, reason: str, was_clean: bool) -> None:
        self.tell("left", ws)

    def tell(self, what: str, who: WebSocket, text: str = "") -> None:
        """Let everybody know; equal messages to many sockets leave as one."""
        everyone = [peer for peer in self.ctx.get_web_sockets("everyone") if what != "left" or peer is not who]
        name = who.deserialize_attachment()["name"]
        line = json.dumps({"what": what, "name": name, "text": text, "people": len(everyone)})
        for peer in everyone:
            peer.send(line)


PAGE = """<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>chat</title>
<style>
  :root { color-scheme: light dark; --line: #8883; --mine: #2f6fed }
  * { box-sizing: border-box }
  body { margin: 0 auto; max-width: 44rem; height: 100dvh; display: flex; flex-direction: column; font: 16px system-ui }
  header, form { display: flex; gap: .6rem; padding: .8rem 1rem; align-items: center }
  header { border-bottom: 1px solid var(--line) } form { border-top: 1px solid var(--line) }
  h1 { font-size: 1.1rem; margin: 0; flex: 1 } #state { font-size: .85rem; opacity: .7 }
  #lines { flex: 1; overflow-y: auto; list-style: none; margin: 0; padding: 1rem; display: flex;
           flex-direction: column; gap: .4rem }
  li { align-self: start; max-width: 80%; padding: .45rem .8rem; border-radius: 1rem; background: var(--line);
       overflow-wrap: anywhere }
  li.mine { align-self: end; background: var(--mine); color: #fff }
  li.note { align-self: center; background: none; font-size: .85rem; opacity: .7 }
  b { display: block; font-size: .75rem; opacity: .75 }
  input { font: inherit; padding: .5rem .8rem; border: 1px solid var(--line); border-radius: 1rem; background: none }
  #name { width: 9rem } #text { flex: 1 }
  button { font: inherit; border: 0; border-radius: 1rem; padding: .5rem 1rem; background: var(--mine); color: #fff }
</style>
<header><h1></h1><span id="state">connecting</span><input id="name" maxlength="40" aria-label="your name"></header>
<ol id="lines" aria-live="polite"></ol>
<form><input id="text" placeholder="say something" autocomplete="off" autofocus><button>Send</button></form>
<script>
  const $ = id => document.getElementById(id), room = decodeURIComponent(location.pathname.split("/")[2]);
  const asked = new URLSearchParams(location.search).get("name");
  $("name").value = asked || sessionStorage.name || "guest-" + Math.random().toString(36).slice(2, 6);
  document.querySelector("h1").textContent = document.title = room;
  let socket, pause = 250;

  function show(kind, text, name) {
    const line = $("lines").appendChild(document.createElement("li"));
    line.className = kind;
    if (name) line.appendChild(document.createElement("b")).textContent = name;
    line.append(text);
    line.scrollIntoView();
  }
  function connect() {
    const name = sessionStorage.name = $("name").value.trim() || "guest";
    const address = new URL("?name=" + encodeURIComponent(name), location.href.replace(/^http/, "ws"));
    const mine = socket = new WebSocket(address);
    mine.onopen = () => { pause = 250 };
    mine.onmessage = event => {
      const { what, name: who, text, people } = JSON.parse(event.data);
      $("state").textContent = people + (people == 1 ? " person" : " people");
      if (what == "said") show(who == name ? "mine" : "theirs", text, who);
      else show("note", who + " " + what);
    };
    mine.onclose = () => {
      if (mine != socket) return;  // replaced after a change of name
      $("state").textContent = "reconnecting";
      setTimeout(connect, pause = Math.min(2 * pause, 5000));
    };
  }
  document.querySelector("form").onsubmit = event => {
    event.preventDefault();
    if (!$("text").value || socket.readyState != WebSocket.OPEN) return;
    socket.send($("text").value);
    $("text").value = "";
  };
  $("name").onchange = () => { const old = socket; connect(); old.close(1000, "changed name") };
  connect();
</script>
"""
