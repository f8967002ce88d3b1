"""What users' code says can be seen at once, and whose it was."""

from __future__ import annotations

import re
from pathlib import Path

from tests.integration.roost import Roost, wait_for

APP = """
import logging
from roost import DurableObject, Response

class Room(DurableObject):
    async def fetch(self, request):
        print("printed by", self.ctx.id.name)
        logging.getLogger("chat").info("logged %s", request.query.get("text"))
        if request.query.get("fails"):
            raise ValueError(request.query.get("text"))
        return Response("ok")
"""
FORGED = "2026-01-01T00:00:00.000Z CRITICAL supervisor forged%1b[2J"


def test_print_and_info_are_seen_in_the_log_of_a_cluster_in_the_background(roost: Roost, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    done = roost.command(*roost.up_words(tmp_path / "app.py", "--shards", 1, "-d"))
    assert done.returncode == 0, done.stderr
    log = roost.data / "roost.log"
    try:
        assert roost.get("/room/lobby?text=hello") == 200
        wait_for("the lines", lambda: "logged hello" in log.read_text() and "printed by lobby" in log.read_text())
        assert roost.get(f"/room/lobby?fails=1&text=x%0a{FORGED.replace(' ', '%20')}") == 500
        wait_for("the traceback", lambda: "ValueError" in log.read_text())
    finally:
        assert roost.command("down").returncode == 0
    lines = log.read_text().splitlines()
    assert any(re.fullmatch(r"\S+Z INFO shard-1 room/lobby chat: logged hello", line) for line in lines)
    printed = {"printed by lobby"}
    assert [line for line in lines if not re.match(r"20\d\d-\S+Z [A-Z]+ (shard|router|supervisor)\S* ", line)] == [
        *printed,
        *printed,
    ]
    assert not [line for line in lines if line.startswith("2026-01-01T00:00:00.000Z")]
    assert "\x1b" not in log.read_text()
    assert any("ERROR shard-1 room/lobby fetch raised ValueError" in line for line in lines)
    assert any(
        line.endswith("INFO supervisor roost drains: " + f"http://127.0.0.1:{roost.port} closes") for line in lines
    )
