"""``roost reload``: new code under open sockets, and code that does not work leaves everything as it was."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from roost.common.errors import AppError
from roost.common.ids import id_from_name, slot_of
from roost.common.limits import SLOTS
from roost.deploy.commands import client
from roost.deploy.plan.changes import ChangeFailed
from tests.integration.roost import Roost, processes_of, wait_for
from tests.integration.talkers import talking
from tests.support.waiting import within

APP = Path(__file__).with_name("app.py")
VERSIONED = """
from roost.shard import DurableObject, Response, WebSocketPair
class Room(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        {constructor}
    async def fetch(self, request):
        client, server = WebSocketPair()
        self.ctx.accept_web_socket(server)
        return Response(status=101, web_socket=client)
    async def web_socket_message(self, ws, message):
        ws.send("{version}: " + message)
"""


def write(app: Path, version: str, constructor: str = "pass") -> None:
    app.write_text(VERSIONED.format(version=version, constructor=constructor))


def reload(roost: Roost, app: Path | None = None, canary_s: float = 0.0) -> list[str]:
    """``roost reload`` without a process for it; returns what it said."""
    said: list[str] = []
    said.append(client.reload(roost.data, app=app and str(app), canary_s=canary_s, say=said.append))
    return said


def fails(roost: Roost, canary_s: float = 2.0, code: int = AppError.exit_code) -> str:
    """A reload that fails; returns the reason."""
    with pytest.raises(ChangeFailed) as caught:
        reload(roost, canary_s=canary_s)
    assert caught.value.exit_code == code
    return str(caught.value)


async def ask(socket: ClientConnection, text: str) -> str:
    await socket.send(text)
    return str(await within("an answer", socket.recv(), 20))


async def test_new_code_under_load(roost: Roost) -> None:
    app = roost.folder / "app.py"
    app.write_text(APP.read_text())
    await asyncio.to_thread(roost.start, app, "--shards", 2)
    before = {member["name"]: member["pid"] for member in roost.status()["members"]}
    async with talking(roost.port):
        done = await asyncio.to_thread(roost.command, "reload", "--canary", 0.5)
        assert done.returncode == 0, done.stderr
        said = done.stdout.splitlines()
        assert said[1].strip() == "starting shard-1.2"
        assert re.match(rf"{re.escape(str(app))} runs on 2 shards: {SLOTS:,} slots moved in [\d.]+ s; 0 sock", said[-1])
    found = {member["name"]: member["pid"] for member in roost.status()["members"]}
    assert set(found) == {"router-1", "shard-1.2", "shard-2.2"}
    assert found["router-1"] == before["router-1"]
    assert set(processes_of(roost.data)) == {roost.status()["pid"], *found.values()}
    # The next one; and what is added then belongs to the same generation.
    await asyncio.to_thread(reload, roost)
    await asyncio.to_thread(client.scale, roost.data, shards=3, routers=None, say=print)
    assert set(roost.owned()) == {"shard-1.3", "shard-2.3", "shard-3.3"}
    assert await asyncio.to_thread(roost.end) == 0
    assert not re.search("ERROR|Traceback", (roost.folder / "stderr").read_text())
    assert roost.left_behind() == []


async def test_another_app_is_what_a_crash_restarts(roost: Roost) -> None:
    old, new = roost.folder / "old.py", roost.folder / "new.py"
    write(old, "one")
    write(new, "two")
    await asyncio.to_thread(roost.start, old, "--shards", 1)
    async with connect(f"ws://127.0.0.1:{roost.port}/room/a") as socket:
        assert await ask(socket, "x") == "one: x"
        await asyncio.to_thread(reload, roost, new)
        assert await ask(socket, "x") == "two: x"
        assert roost.status()["app"] == str(new)
        os.kill(roost.member("shard-1.2")["pid"], signal.SIGKILL)
        assert await ask(socket, "y") == "two: y"
    assert await asyncio.to_thread(roost.end) == 0


async def test_an_app_that_cannot_be_used_is_refused(roost: Roost) -> None:
    app = roost.folder / "app.py"
    write(app, "one")
    await asyncio.to_thread(roost.start, app, "--shards", 1, "--start-timeout", 20)
    version = roost.status()["map_version"]
    other = VERSIONED.replace("Room", "Hall").format(version=2, constructor="pass")
    for text, reason, code in (
        ("import no_such_module\n", "No module named 'no_such_module'", AppError.exit_code),
        (other, "has no class for 'room', which the cluster hosts now", AppError.exit_code),
        ("class Room: pass\n", "defines no class", AppError.exit_code),
        ("import os\nos._exit(3)\n", "ended with exit code 3", 3),
    ):
        app.write_text(text)
        found = await asyncio.to_thread(fails, roost, code=code)
        assert found.startswith("nothing was changed: ")
        assert reason in found
    assert roost.status()["map_version"] == version
    async with connect(f"ws://127.0.0.1:{roost.port}/room/a") as socket:
        assert await ask(socket, "x") == "one: x"
    assert await asyncio.to_thread(roost.end) == 0
    assert roost.left_behind() == []


async def test_constructors_that_fail_are_rolled_back(roost: Roost) -> None:
    app = roost.folder / "app.py"
    write(app, "one")
    await asyncio.to_thread(roost.start, app, "--shards", 2, "--hibernate-after", 0.1)
    sockets = [await connect(f"ws://127.0.0.1:{roost.port}/room/{n}") for n in range(20)]
    for socket in sockets:
        assert await ask(socket, "x") == "one: x"
    write(app, "two", "raise RuntimeError('on purpose')")
    failing = asyncio.create_task(asyncio.to_thread(fails, roost, 20.0))
    await asyncio.to_thread(wait_for, "the canary", lambda: roost.owned().get("shard-1.2"))
    for socket in sockets:
        await socket.send("y")
    assert re.fullmatch(
        r"rolled back, the old code goes on: \d+ constructors? failed at shard-1\.2, "
        "and none at shard-1, shard-2 in the minute before and since",
        await failing,
    )
    for socket in sockets:
        assert await within("an answer", socket.recv(), 20) == "one: y", "what waited was not lost"
        assert await ask(socket, "z") == "one: z"
        await socket.close()
    assert set(roost.owned()) == {"shard-1", "shard-2"}
    # The same code at the next try: it is still bad, and the names are free again.
    assert len(processes_of(roost.data)) == 4
    assert await asyncio.to_thread(roost.end) == 0
    assert roost.left_behind() == []


async def test_a_successor_that_dies_is_rolled_back_at_once(roost: Roost) -> None:
    app = roost.folder / "app.py"
    app.write_text(APP.read_text())
    await asyncio.to_thread(roost.start, app, "--shards", 2)
    async with connect(f"ws://127.0.0.1:{roost.port}/parrot/a?who=me") as socket:
        failing = asyncio.create_task(asyncio.to_thread(fails, roost, 20.0))
        found = await asyncio.to_thread(wait_for, "the canary", lambda: roost.owned().get("shard-1.2"))
        assert found
        os.kill(roost.member("shard-1.2")["pid"], signal.SIGKILL)
        assert await failing == "rolled back, the old code goes on: shard-1.2 was ended by SIGKILL"
        assert set(roost.owned()) == {"shard-1", "shard-2"}
        assert '"said":"x"' in await ask(socket, "x")
    assert await asyncio.to_thread(roost.end) == 0
    assert roost.left_behind() == []


async def test_down_in_the_middle_of_a_reload(roost: Roost) -> None:
    await asyncio.to_thread(roost.start, APP, "--shards", 2)
    failing = asyncio.create_task(asyncio.to_thread(reload, roost, None, 60.0))
    await asyncio.to_thread(wait_for, "the canary", lambda: roost.owned().get("shard-1.2"))
    assert await asyncio.to_thread(roost.end) == 0
    (error,) = await asyncio.gather(failing, return_exceptions=True)
    assert isinstance(error, ChangeFailed | client.ClusterUnreachable)
    assert roost.left_behind() == []


async def test_saving_a_file_reloads(roost: Roost) -> None:
    app = roost.folder / "app" / "main.py"
    (app.parent / ".hidden").mkdir(parents=True)
    write(app, "one")
    await asyncio.to_thread(roost.start, app, "--shards", 1, "--watch")
    assert roost.up is not None
    async with connect(f"ws://127.0.0.1:{roost.port}/room/a") as socket:
        assert await ask(socket, "x") == "one: x"
        (app.parent / ".hidden" / "other.py").write_text("x")
        (app.parent / "notes.txt").write_text("x")
        app.write_text("import no_such_module\n")
        await asyncio.to_thread(roost.hear, "nothing was changed: .*no_such_module")
        assert await ask(socket, "x") == "one: x", "the old code goes on"
        write(app, "two")
        await asyncio.to_thread(roost.hear, "1 shard: ")
        assert await ask(socket, "x") == "two: x"
    assert not [line for line in roost.said if "other.py" in line or "notes" in line]
    assert await asyncio.to_thread(roost.end) == 0
    assert roost.left_behind() == []


async def test_what_fails_on_the_last_shard_only_is_rolled_back(roost: Roost) -> None:
    """A message every second, to an object of the shard whose turn comes last."""
    app = roost.folder / "app.py"
    write(app, "one")
    await asyncio.to_thread(roost.start, app, "--shards", 2, "--hibernate-after", 0.1)
    owned = roost.map()
    name = next(
        str(n)
        for n in range(1000)
        if owned.members[owned.owners[slot_of(id_from_name("room", str(n)))]].name == "shard-2"
    )
    async with connect(f"ws://127.0.0.1:{roost.port}/room/{name}") as socket:
        assert await ask(socket, "x") == "one: x"
        write(app, "two", "raise RuntimeError('on purpose')")
        failing = asyncio.create_task(asyncio.to_thread(fails, roost, 2.0))
        sent = 0
        while not failing.done():
            await socket.send(f"{sent}")
            sent += 1
            await asyncio.wait([failing], timeout=1.0)
        assert re.search(r"constructors? failed at shard-2\.2, and none at shard-1, shard-2", await failing)
        for number in range(sent):
            assert await within("an answer", socket.recv(), 20) == f"one: {number}"
    assert await asyncio.to_thread(roost.end) == 0


async def test_code_that_no_object_has_tried_is_said_to_be_untried(roost: Roost) -> None:
    app = roost.folder / "app.py"
    write(app, "one")
    await asyncio.to_thread(roost.start, app, "--shards", 2)
    write(app, "two", "raise RuntimeError('nobody asks')")
    said = await asyncio.to_thread(reload, roost)
    assert said[-1].endswith("not tried: no object woke under the new code")
    # The same, where the class says that it may be tried.
    text = VERSIONED.format(version="two", constructor="raise RuntimeError('on trial')")
    app.write_text(text.replace("(DurableObject):", "(DurableObject):\n    trial_name = 'trial'"))
    found = await asyncio.to_thread(fails, roost)
    reason = "an object of Room, 'trial' on trial, could not be constructed: RuntimeError: on trial"
    assert found == f"nothing was changed: {reason}"
    assert await asyncio.to_thread(roost.end) == 0


async def test_a_module_is_reloaded_as_a_file_is(roost: Roost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it imports from beside it; and saved within the same second, at the same size."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    package = tmp_path / "halls"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "words.py").write_text("WORD = 'one'\n")
    write(package / "rooms.py", "{WORD}")
    (package / "rooms.py").write_text(
        "from halls.words import WORD\n"
        + VERSIONED.format(version="", constructor="pass").replace('": "', 'WORD + ": "')
    )
    await asyncio.to_thread(roost.start, "halls.rooms", "--shards", 1, cwd=tmp_path)
    async with connect(f"ws://127.0.0.1:{roost.port}/room/a") as socket:
        assert await ask(socket, "x") == "one: x"
        for word in ("two", "six"):
            (package / "words.py").write_text(f"WORD = '{word}'\n")
            os.utime(package / "words.py", (1_000_000_000, 1_000_000_000))
            await asyncio.to_thread(reload, roost)
            assert await ask(socket, "x") == f"{word}: x"
        (package / "words.py").write_text("WORD = \n")
        assert "words.py" in await asyncio.to_thread(fails, roost)
    assert await asyncio.to_thread(roost.end) == 0
