"""The objects of the race as durable-actors has them. Its own type checker reads this file, too."""

from durable_actors import ActorSocket, AsyncActor, JsonValue


class Echo(AsyncActor[JsonValue, str, str]):
    async def on_message(self, socket: ActorSocket[JsonValue, str], message: str) -> None:
        socket.send(message)


class Cast(AsyncActor[JsonValue, str, str]):
    async def on_message(self, socket: ActorSocket[JsonValue, str], message: str) -> None:
        await self.broadcast(message)
