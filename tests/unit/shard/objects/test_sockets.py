from __future__ import annotations

import pytest

from roost.shard.api.web_socket import WebSocket
from roost.shard.objects.sockets import Socket, Sockets
from tests.unit.shard.harness import socket_of


def ordinals(handles: list[WebSocket]) -> list[int]:
    return [package(handle).ordinal for handle in handles]


def package(handle: WebSocket) -> Socket:
    assert handle.socket is not None
    return handle.socket


def filled(*tags: tuple[str, ...]) -> Sockets:
    sockets = Sockets(WebSocket.of)
    for ordinal, each in enumerate(tags, 1):
        sockets.add(socket_of(ordinal=ordinal, tags=each))
    return sockets


def test_all_are_newest_first_and_tagged_ones_oldest_first() -> None:
    sockets = filled(("red",), ("blue",), ("red", "blue"))
    assert ordinals(sockets.newest_first()) == [3, 2, 1]
    assert ordinals(sockets.tagged("red")) == [1, 3]
    assert ordinals(sockets.tagged("blue")) == [2, 3]
    assert sockets.tagged("green") == []
    assert len(sockets) == 3


def test_restores_in_any_order_end_in_the_order_of_accepts() -> None:
    sockets = Sockets(WebSocket.of)
    for ordinal in (5, 2, 9, 1):
        sockets.add(socket_of(ordinal=ordinal, tags=("x",)))
    assert ordinals(sockets.newest_first()) == [9, 5, 2, 1]
    assert ordinals(sockets.tagged("x")) == [1, 2, 5, 9]
    sockets.add(socket_of(ordinal=3, tags=("x",)))
    assert ordinals(sockets.tagged("x")) == [1, 2, 3, 5, 9]


def test_removal_clears_every_index() -> None:
    sockets = filled(("red", "blue"), ("red",))
    first = package(sockets.tagged("blue")[0])
    assert first in sockets
    sockets.remove(first)
    assert first not in sockets
    assert ordinals(sockets.newest_first()) == [2]
    assert ordinals(sockets.tagged("red")) == [2]
    assert sockets.tagged("blue") == []


def test_removing_twice_or_a_stranger_changes_nothing() -> None:
    sockets = filled(("red",), ("red",))
    first = package(sockets.tagged("red")[0])
    sockets.remove(first)
    sockets.remove(first)
    sockets.remove(socket_of(ordinal=2, tags=("red",)))  # of the same ordinal, not the same
    assert ordinals(sockets.tagged("red")) == [2]


def test_a_tag_goes_from_one_socket_to_many_and_back() -> None:
    sockets = filled(("t",), ("t",), ("t",))
    for socket in list(sockets):
        sockets.remove(socket)
    assert sockets.tagged("t") == []
    sockets.add(socket_of(ordinal=7, tags=("t",)))
    assert ordinals(sockets.tagged("t")) == [7]


def test_equal_tags_share_one_tuple() -> None:
    one, other = socket_of(ordinal=1, tags=("a" * 1, "b")), socket_of(ordinal=2, tags=tuple("ab"))
    assert one.tags is not other.tags
    sockets = Sockets(WebSocket.of)
    sockets.add(one)
    sockets.add(other)
    assert one.tags is other.tags


@pytest.mark.parametrize(
    ("by_object", "by_client", "gone", "state"),
    [
        (False, False, False, 1),
        (True, False, False, 2),
        (False, True, False, 2),
        (True, True, False, 3),
        (False, False, True, 2),
        (True, False, True, 3),
        (True, True, True, 3),
    ],
)
def test_ready_state_counts_both_ends(by_object: bool, by_client: bool, gone: bool, state: int) -> None:
    socket = socket_of()
    socket.closed_by_object, socket.closed_by_client, socket.gone = by_object, by_client, gone
    assert socket.ready_state == state


def test_lists_stay_right_while_sockets_come_and_go() -> None:
    """They are kept once they have been asked for, and must follow every change."""
    sockets = filled(*[("x",)] * 5)
    assert ordinals(sockets.newest_first()) == [5, 4, 3, 2, 1]
    assert ordinals(sockets.tagged("x")) == [1, 2, 3, 4, 5]
    sockets.remove(package(sockets.tagged("x")[2]))
    sockets.add(socket_of(ordinal=6, tags=("x",)))
    assert ordinals(sockets.newest_first()) == [6, 5, 4, 2, 1]
    assert ordinals(sockets.tagged("x")) == [1, 2, 4, 5, 6]
    sockets.add(socket_of(ordinal=3, tags=("x",)))
    assert ordinals(sockets.newest_first()) == [6, 5, 4, 3, 2, 1]
    assert ordinals(sockets.tagged("x")) == [1, 2, 3, 4, 5, 6]


def test_a_list_is_the_callers_own() -> None:
    sockets = filled(("x",), ("x",))
    sockets.newest_first().clear()
    sockets.tagged("x").clear()
    assert ordinals(sockets.newest_first()) == [2, 1]
    assert ordinals(sockets.tagged("x")) == [1, 2]


def test_sleep_lets_every_handle_go_and_keeps_the_sockets() -> None:
    sockets = filled(("x",), ("x", "y"))
    before = sockets.newest_first()
    sockets.sleep()
    assert [socket.live for socket in sockets] == [None, None]
    after = sockets.newest_first()
    assert ordinals(after) == [2, 1]
    assert not set(map(id, before)) & set(map(id, after))
    assert sockets.tagged("x") == after[::-1]
