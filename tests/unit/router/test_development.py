"""What a router says, and answers with, for whoever writes the app behind it."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from roost.common.errors import AppError
from roost.common.runtime import broken_code
from roost.router.development import ObservedConnection, ObservedSocket
from tests.unit.router.fakes import accepted
from tests.unit.router.http.rig import GET, UPGRADE, Client, Rig, body, status

CLOSE_FRAME = b"\x88\x82\x00\x00\x00\x00\x03\xe8"


class Observed(Client):
    def __init__(self, rig: Rig, run: Path) -> None:
        super().__init__(rig)
        self.protocol = ObservedConnection(rig.front, run)
        self.transport.protocol = self.protocol
        self.protocol.connection_made(self.transport)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Any:
    """What was said since the last call, with all times as ``N``."""
    caplog.set_level(logging.INFO, "roost.access")

    def take() -> list[str]:
        lines = [re.sub(r"\d+(\.\d)? (m?s)\b", r"N \2", record.getMessage()) for record in caplog.records]
        caplog.clear()
        return lines

    return take


def test_each_request_is_said_with_its_answer(said: Any, tmp_path: Path) -> None:
    rig = Rig()
    client = Observed(rig, tmp_path)
    client.send(GET)
    rig.answer(rig.asked()[0], 201, body=b"hello")
    assert said() == ["GET /chat-room/lobby 201, N ms, 5 bytes"]
    client.send(GET.replace(b"chat-room", b"nowhere"))
    (line,) = said()
    assert line.startswith("GET /nowhere/lobby 404, N ms, ")
    assert "nowhere" in line.partition("bytes: ")[2]
    client.send(b"nonsense\r\n\r\n")
    (line,) = said()
    assert line.startswith("a request was refused, 400: ")


@pytest.mark.parametrize(
    ("ends", "how"), [(True, "code 1000"), (False, "the client vanished")], ids=["closes", "vanishes"]
)
def test_a_websocket_is_said_when_it_opens_and_closes(said: Any, tmp_path: Path, ends: bool, how: str) -> None:
    rig = Rig()
    client = Observed(rig, tmp_path)
    client.send(UPGRADE)
    (request,) = rig.asked()
    rig.receiver.response(accepted(request=request.request))
    assert said() == ["WebSocket /chat-room/lobby?x=1 opened, N ms"]
    socket = client.transport.protocol
    assert isinstance(socket, ObservedSocket)
    if ends:
        socket.get_buffer(-1)[: len(CLOSE_FRAME)] = CLOSE_FRAME
        socket.buffer_updated(len(CLOSE_FRAME))
    socket.connection_lost(None)
    assert said() == [f"WebSocket /chat-room/lobby?x=1 closed, N s, {how}"]


def test_code_that_does_not_load_is_the_answer(said: Any, tmp_path: Path) -> None:
    rig = Rig()
    client = Observed(rig, tmp_path)
    error = AppError("room.py does not import")
    error.__cause__ = ValueError("on purpose")
    broken_code.note(tmp_path, error)
    answer = client.send(GET)
    assert status(answer) == 500
    assert body(answer).startswith(b"room.py does not import\n\n")
    assert b"ValueError: on purpose" in body(answer)
    (line,) = said()
    assert line.endswith("bytes: room.py does not import")
    page = client.send(GET.replace(b"\r\n\r\n", b"\r\nAccept: text/html\r\n\r\n"))
    assert b"<pre>ValueError: on purpose" in body(page)
    assert rig.asked() == []
    assert status(client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")) == 200, "its own pages are as ever"
    broken_code.forget(tmp_path)
    client.send(GET)
    assert len(rig.asked()) == 1


def test_sockets_go_to_the_code_before(tmp_path: Path) -> None:
    rig = Rig()
    broken_code.note(tmp_path, AppError("room.py does not import"))
    Observed(rig, tmp_path).send(UPGRADE)
    assert len(rig.asked()) == 1
