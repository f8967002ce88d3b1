from __future__ import annotations

from typing import Any

import pytest

from roost.common.errors import ApiError, ConfigError, InvalidObjectId
from roost.common.ids import id_from_name
from roost.shard.api.namespaces import DurableObjectNamespace, Env

ROOMS = DurableObjectNamespace("chat-room")


def test_the_id_of_a_name_is_the_one_that_routers_use() -> None:
    made = ROOMS.id_from_name("lobby")
    assert made.raw == id_from_name("chat-room", "lobby")
    assert made.name == "lobby"
    assert str(made) == made.raw.hex()
    assert len(str(made)) == 64


def test_an_id_read_back_is_equal_and_has_lost_its_name() -> None:
    made = ROOMS.id_from_name("lobby")
    back = ROOMS.id_from_string(str(made))
    assert back == made
    assert hash(back) == hash(made)
    assert back.name is None
    assert back != ROOMS.id_from_name("other")
    assert back != str(made)


def test_unique_ids_are_unique_and_of_their_namespace() -> None:
    ids = {ROOMS.new_unique_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(ROOMS.id_from_string(str(one)) == one and one.name is None for one in ids)


@pytest.mark.parametrize("text", ["", "x" * 64, "0" * 64, "00"])
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(InvalidObjectId):
        ROOMS.id_from_string(text)


def test_an_id_of_another_namespace() -> None:
    with pytest.raises(InvalidObjectId):
        ROOMS.id_from_string(str(DurableObjectNamespace("counter").id_from_name("lobby")))


@pytest.mark.parametrize("name", [5, None, b"lobby"])
def test_a_name_is_a_string(name: Any) -> None:
    with pytest.raises(TypeError):
        ROOMS.id_from_name(name)


def test_a_name_has_1_to_512_characters() -> None:
    assert ROOMS.id_from_name("ä" * 512).name == "ä" * 512
    for name in ("", "ä" * 513):
        with pytest.raises(ValueError, match="512"):
            ROOMS.id_from_name(name)


def test_env_has_variables_and_a_namespace_for_each_class() -> None:
    env: Any = Env({"COLOUR": "red"}, ["ChatRoom", "Counter"])
    assert env.COLOUR == "red"
    assert env.CHAT_ROOM.id_from_name("lobby") == ROOMS.id_from_name("lobby")
    with pytest.raises(AttributeError, match=r"'SIZE'.*CHAT_ROOM, COLOUR, COUNTER"):
        env.SIZE  # noqa: B018


def test_the_reference_s_spellings() -> None:
    assert ROOMS.idFromName("lobby") == ROOMS.id_from_name("lobby")
    assert ROOMS.idFromString(str(ROOMS.newUniqueId()))


def test_a_variable_may_not_hide_a_namespace() -> None:
    with pytest.raises(ConfigError, match=r"CHAT_ROOM.*class ChatRoom.*another name"):
        Env({"CHAT_ROOM": "x"}, ["ChatRoom", "Counter"])


@pytest.mark.parametrize("method", ["get", "get_by_name", "getByName"])
def test_calls_come_later_and_say_so(method: str) -> None:
    with pytest.raises(ApiError, match=r"cannot call each other.*/chat-room/NAME"):
        getattr(ROOMS, method)(ROOMS.id_from_name("lobby"))
