from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from roost.common.errors import AppError
from roost.shard.objects.loader import load

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes an app and gives its path; afterwards no trace of it is left in the interpreter."""
    modules, path = set(sys.modules), list(sys.path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text: str, name: str = "some_app.py") -> str:
        file = tmp_path / name
        file.write_text("from roost.shard import DurableObject\n" + text)
        return str(file)

    yield write
    for added in set(sys.modules) - modules:
        del sys.modules[added]
    sys.path[:] = path


def test_classes_by_namespace(write: Write) -> None:
    app = write("class ChatRoom(DurableObject): pass\nclass Counter(DurableObject): pass\nclass Other: pass\n")
    found = load(app)
    assert {name: hosted.cls.__name__ for name, hosted in found.items()} == {
        "chat-room": "ChatRoom",
        "counter": "Counter",
    }


def test_by_the_name_of_a_module(write: Write) -> None:
    write("class Room(DurableObject): pass\n", "named_app.py")
    assert list(load("named_app")) == ["room"]


def test_neighbours_can_be_imported_and_are_hosted_only_when_exported(write: Write) -> None:
    write("class Base(DurableObject): pass\nclass Extra(DurableObject): pass\n", "neighbour.py")
    app = write(
        "from neighbour import Base, Extra\n__all__ = ['Extra', 'Room']\n"
        "class Room(Base): pass\nclass _Own(Base): pass\n"
    )
    assert sorted(load(app)) == ["extra", "room"]


def test_an_app_may_have_the_name_of_another_module(write: Write) -> None:
    import json
    import queue

    assert list(load(write("class Room(DurableObject): pass\n", "queue.py"))) == ["room"]
    assert sys.modules["queue"] is queue
    assert sys.modules["json"] is json


@pytest.mark.parametrize("spelling", ["web_socket_message", "webSocketMessage"])
def test_either_spelling_of_a_handler(write: Write, spelling: str) -> None:
    (hosted,) = load(
        write(f"class Room(DurableObject):\n  def {spelling}(self, ws, message): return 'here'\n")
    ).values()
    instance = hosted.cls(None, None)  # type: ignore[arg-type]
    bound = hosted.bound(instance, "web_socket_message")
    assert bound is not None
    assert bound(None, None) == "here"
    assert hosted.bound(instance, "web_socket_close") is None


@pytest.mark.parametrize("handler", ["message", "close", "error"])
def test_both_spellings_of_one_handler(write: Write, handler: str) -> None:
    camel = f"webSocket{handler.title()}"
    app = write(f"class Room(DurableObject):\n  def web_socket_{handler}(self): ...\n  def {camel}(self): ...\n")
    with pytest.raises(AppError, match=rf"Room .*web_socket_{handler}.*{camel}"):
        load(app)


def test_a_handler_that_cannot_be_called(write: Write) -> None:
    with pytest.raises(AppError, match="fetch"):
        load(write("class Room(DurableObject):\n  fetch = 5\n"))


def test_two_classes_of_one_namespace(write: Write) -> None:
    app = write("class ChatRoom(DurableObject): pass\nclass Chat_Room(DurableObject): pass\n")
    with pytest.raises(AppError, match=r"ChatRoom.*Chat_Room.*'chat-room'"):
        load(app)


def test_the_same_class_under_two_names_is_one(write: Write) -> None:
    assert list(load(write("class Room(DurableObject): pass\nAlias = Room\n"))) == ["room"]


def test_no_class(write: Write) -> None:
    with pytest.raises(AppError, match="DurableObject"):
        load(write("x = 1\n"))


def test_no_file(write: Write) -> None:
    with pytest.raises(AppError, match=r"missing\.py"):
        load("missing.py")


def test_no_module(write: Write) -> None:
    with pytest.raises(AppError, match="no_such_module"):
        load("no_such_module")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 / 0\n", r"some_app\.py:2: ZeroDivisionError"),
        ("def f(:\n", "SyntaxError"),
        ("import no_such_module\n", "no_such_module"),
        ("import sys; sys.exit(3)\n", "SystemExit: 3"),
    ],
)
def test_an_app_that_does_not_import_says_why_and_where(write: Write, text: str, says: str) -> None:
    with pytest.raises(AppError, match=says) as raised:
        load(write(text))
    assert "\n" not in str(raised.value)


def test_neighbours_take_no_other_modules_place(write: Write, tmp_path: Path) -> None:
    """Not the standard library's, nor an installed package's; but they are found by everybody else's name."""
    for name in ("colorsys", "hypothesis", "helper_of_an_app"):
        (tmp_path / f"{name}.py").write_text("theirs = True\n")
    load(write("import colorsys, hypothesis, helper_of_an_app\nclass Room(DurableObject): pass\n"))
    assert not hasattr(sys.modules["colorsys"], "theirs")
    assert not hasattr(sys.modules["hypothesis"], "theirs")
    assert sys.modules["helper_of_an_app"].theirs
    assert sys.path[-1] == str(tmp_path)


@pytest.mark.parametrize("name", ["colorsys", "json", "matplotlib", "roost"])
def test_an_app_takes_no_other_modules_place(write: Write, name: str) -> None:
    assert list(load(write("class Room(DurableObject): pass\n", f"{name}.py"))) == ["room"]
    assert not hasattr(sys.modules.get(name), "Room")
    assert hasattr(sys.modules[f"app_{name}"], "Room")


@pytest.mark.parametrize("line", ["import colorsys\ncolorsys.theirs", "from colorsys import theirs"])
def test_a_neighbour_that_is_hidden_is_named(write: Write, tmp_path: Path, line: str) -> None:
    write("theirs = True\n", "colorsys.py")
    with pytest.raises(AppError) as caught:
        load(write(line))
    assert f"{tmp_path}/colorsys.py is not what was imported" in str(caught.value)


def test_a_missing_package_names_the_interpreter(write: Write, tmp_path: Path) -> None:
    with pytest.raises(AppError) as caught:
        load(write("import no_such_package.part\n"))
    text = str(caught.value)
    assert "ModuleNotFoundError: No module named 'no_such_package'; there is no no_such_package.py in" in text
    assert f"`{sys.executable} -m pip install no_such_package` adds it" in text


# --- who is hosted ------------------------------------------------------------------------------------------------


def test_a_file_of_a_package_that_is_given_as_a_file_is_to_be_given_as_a_module(write: Write, tmp_path: Path) -> None:
    app = write("from . import neighbour\n", "room.py")
    with pytest.raises(AppError) as raised:
        load(app)
    assert f"give the module: `{tmp_path.name}.NAME`, from {tmp_path.parent}" in str(raised.value)


def test_abstract_classes_are_bases(write: Write) -> None:
    app = write(
        "import abc\n"
        "class Base(DurableObject, abc.ABC): pass\n"
        "class Half(Base):\n  @abc.abstractmethod\n  def name(self): ...\n"
        "class Room(Half):\n  def name(self): return 'room'\n"
        "class VipRoom(Room): pass\n"
    )
    assert sorted(load(app)) == ["room", "vip-room"]


def test_a_package_is_hosted_with_all_its_modules(write: Write, tmp_path: Path) -> None:
    (tmp_path / "rooms_app").mkdir()
    write("class Chat(DurableObject): pass\n", "rooms_app/chat.py")
    write("class Elsewhere(DurableObject): pass\n", "rooms_app_elsewhere.py")
    write("from .chat import Chat\nfrom rooms_app_elsewhere import Elsewhere\n", "rooms_app/__init__.py")
    assert list(load("rooms_app")) == ["chat"]


def test_classes_that_are_only_imported_are_named(write: Write) -> None:
    write("class Chat(DurableObject): pass\n", "chat_of_others.py")
    with pytest.raises(AppError, match=r"Chat, which it imports, must be named in its __all__"):
        load(write("from chat_of_others import Chat\n"))


def test_public_is_said_by_the_class_and_inherited(write: Write) -> None:
    app = write(
        "class Room(DurableObject): pass\nclass Ledger(DurableObject):\n  public = False\n"
        "class Book(Ledger): pass\nclass Open(Ledger):\n  public = True\n"
    )
    assert {name: hosted.public for name, hosted in load(app).items()} == {
        "room": True,
        "ledger": False,
        "book": False,
        "open": True,
    }


def test_an_app_that_nobody_can_reach_is_refused(write: Write) -> None:
    with pytest.raises(AppError, match="public = False"):
        load(write("class Ledger(DurableObject):\n  public = False\n"))


# --- what others call an app --------------------------------------------------------------------------------------


def test_the_form_of_other_servers_is_refused_with_ours(write: Write) -> None:
    write("class Room(DurableObject): pass\n", "room_app.py")
    with pytest.raises(AppError, match=r"give room_app\.py"):
        load("room_app:Room")
    with pytest.raises(AppError, match="give elsewhere"):
        load("elsewhere:app")


def test_a_folder_is_refused_with_a_file_of_it(write: Write, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(AppError, match="folder is a folder: give the file"):
        load("folder")
    write("class Room(DurableObject): pass\n", "folder/room_app.py")
    for name in ("folder", "folder/", str(tmp_path / "folder"), "."):
        with pytest.raises(AppError, match=r"is a folder"):
            load(name)
    with pytest.raises(AppError, match=r"folder/room_app\.py, say"):
        load("folder")
    with pytest.raises(AppError, match=r"give folder/room_app\.py"):
        load("folder/room_app")
