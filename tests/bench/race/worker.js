// The objects of the race as the reference runtime has them: hibernatable WebSockets, the same handlers as ../echo_app.py.
import { DurableObject } from "cloudflare:workers";

class Accepting extends DurableObject {
  async fetch(request) {
    const [client, server] = Object.values(new WebSocketPair());
    this.ctx.acceptWebSocket(server);
    return new Response(null, { status: 101, webSocket: client });
  }
}

export class Echo extends Accepting {
  async webSocketMessage(ws, message) {
    ws.send(message);
  }
}

export class Cast extends Accepting {
  async webSocketMessage(ws, message) {
    for (const peer of this.ctx.getWebSockets()) {
      peer.send(message);
    }
  }
}

export class Wake extends Accepting {
  woken = true;

  async webSocketMessage(ws, message) {
    ws.send(this.woken ? "woken" : "awake");
    this.woken = false;
  }
}

export default {
  async fetch(request, env) {
    const [kind, name] = new URL(request.url).pathname.slice(1).split("/");
    const namespace = env[kind];
    return namespace.get(namespace.idFromName(name)).fetch(request);
  },
};
