"""A user's own checker and editor find ``roost`` in the environment that the scripts make, from any folder.

They read ``.pth`` files and follow plain paths; an import hook, which runs code, is nothing to them.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path

from tests.support.cluster import REPOSITORY

RIGHT = """
import roost
from roost import DurableObject, Request, Response, WebSocketPair
from roost.shard import WebSocket


class Room(DurableObject):
    async def fetch(self, request: Request) -> Response:
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server)
        return roost.Response(status=101, web_socket=client)

    async def web_socket_message(self, ws: WebSocket, message: str | bytes) -> None:
        ws.send(message)
"""
WRONG = """
import roost
from roost import DurableObjekt
roost.Responce("")
roost.Response(status="200")
"""


def test_the_installation_is_a_plain_path() -> None:
    links = REPOSITORY / "deploy" / "package"
    pure = Path(sysconfig.get_path("purelib"))
    lines = [line for path in pure.glob("*.pth") for line in path.read_text().splitlines()]
    assert str(links) in lines
    assert not [finder for finder in sys.meta_path if "editable" in getattr(finder, "__module__", "")]
    spec = importlib.util.find_spec("roost")
    assert spec is not None
    assert spec.origin == str(links / "roost" / "__init__.py")
    assert json.loads(distribution("roost").read_text("direct_url.json") or "")["dir_info"] == {"editable": True}


def test_mypy_checks_an_app_in_another_folder(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(WRONG)
    command = [sys.executable, "-P", "-m", "mypy", "--strict", "--no-incremental", "--no-error-summary"]
    done = subprocess.run(
        [*command, "right.py", "wrong.py"], cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False
    )
    found = [line.partition(": ")[0] for line in done.stdout.splitlines() if ": error: " in line]
    assert found == ["wrong.py:3", "wrong.py:4", "wrong.py:5"], done.stdout + done.stderr
