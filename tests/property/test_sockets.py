"""The indexes of an object's sockets against a naive model, with restores in any order."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from roost.shard.api.tags import checked
from roost.shard.api.web_socket import WebSocket
from roost.shard.objects.sockets import Socket, Sockets
from tests.unit.shard.harness import socket_of

TAGS = st.lists(st.sampled_from(["red", "green", "blue", ""]), max_size=5).map(checked)


class SocketsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.sockets = Sockets(WebSocket.of)
        self.model: list[Socket] = []
        self.removed: list[Socket] = []
        self.used: set[int] = set()

    @rule(tags=TAGS, ordinal=st.integers(1, 60))
    def restore(self, tags: tuple[str, ...], ordinal: int) -> None:
        if ordinal not in self.used:
            self._add(socket_of(ordinal=ordinal, tags=tags))

    @rule(tags=TAGS)
    def accept(self, tags: tuple[str, ...]) -> None:
        self._add(socket_of(ordinal=max(self.used, default=0) + 1, tags=tags))

    def _add(self, socket: Socket) -> None:
        self.used.add(socket.ordinal)
        self.sockets.add(socket)
        self.model.append(socket)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        socket = data.draw(st.sampled_from(self.model))
        self.sockets.remove(socket)
        self.model.remove(socket)
        self.removed.append(socket)

    @rule()
    def remove_all(self) -> None:
        for socket in list(self.sockets):
            self.sockets.remove(socket)
        self.removed += self.model
        self.model.clear()

    @rule()
    def sleep(self) -> None:
        self.sockets.sleep()
        assert all(socket.live is None for socket in self.sockets)

    @precondition(lambda self: self.removed)
    @rule(data=st.data())
    def remove_again(self, data: st.DataObject) -> None:
        self.sockets.remove(data.draw(st.sampled_from(self.removed)))

    @invariant()
    def lists_are_right(self) -> None:
        by_ordinal = sorted(self.model, key=lambda socket: socket.ordinal)
        assert [handle.socket for handle in self.sockets.newest_first()] == by_ordinal[::-1]
        for tag in ("red", "green", "blue", "", "unknown"):
            tagged = [socket for socket in by_ordinal if tag in socket.tags]
            assert [handle.socket for handle in self.sockets.tagged(tag)] == tagged
        assert len(self.sockets) == len(self.model)
        assert all(socket in self.sockets for socket in self.model)
        assert not any(socket in self.sockets for socket in self.removed)


TestSockets = SocketsMachine.TestCase
TestSockets.settings = settings(max_examples=40)
