from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.support.links import LinkToRouter, Record
from tests.unit.shard.harness import peer_of, socket_of


def acks(link: LinkToRouter) -> list[Record]:
    link.flush()
    return link.take()


def test_neighbours_merge_into_ranges() -> None:
    link = LinkToRouter()
    peer = peer_of(link)
    for counter, seq in [(5, 1), (5, 2), (6, 4), (5, 3), (5, 7), (5, 6)]:
        peer.acknowledge(counter, seq)
    assert peer.write_acks()
    assert acks(link) == [("ack", [(5, 1, 3), (5, 6, 6), (5, 7, 7), (6, 4, 4)])]


def test_each_is_written_once() -> None:
    link = LinkToRouter()
    peer = peer_of(link)
    peer.acknowledge(1, 1)
    assert peer.write_acks()
    assert not peer.write_acks()
    assert acks(link) == [("ack", [(1, 1, 1)])]


def test_an_event_waits_for_all_routers_that_have_its_output() -> None:
    links = [LinkToRouter(number) for number in (1, 2, 3)]
    here, second, third = map(peer_of, links)
    assert not here.acknowledge_after(5, 1, [(second, 4), (third, 2)])
    links[1].session.confirmed = 4
    assert second.confirmed() == set()
    links[2].session.confirmed = 1
    assert third.confirmed() == set()
    assert not here.write_acks()
    links[2].session.confirmed = 2
    assert third.confirmed() == {here}
    assert here.write_acks()
    assert third.confirmed() == set()


def test_with_nothing_to_wait_for_it_is_acknowledged_at_once() -> None:
    here = peer_of(LinkToRouter())
    assert here.acknowledge_after(5, 1, [])
    assert here.write_acks()


def test_confirmations_free_events_in_the_order_of_batches_and_no_more() -> None:
    links = [LinkToRouter(1), LinkToRouter(2)]
    here, there = map(peer_of, links)
    for seq, number in [(1, 30), (2, 10), (3, 20), (4, 10)]:
        here.acknowledge_after(5, seq, [(there, number)])
    links[1].session.confirmed = 19
    there.confirmed()
    here.write_acks()
    assert acks(links[0]) == [("ack", [(5, 2, 2), (5, 4, 4)])]


def test_a_router_that_has_gone_is_not_waited_for() -> None:
    links = [LinkToRouter(1), LinkToRouter(2)]
    here, gone = map(peer_of, links)
    here.acknowledge_after(5, 1, [(gone, 100)])
    gone.closed = True
    assert gone.confirmed() == {here}


def test_nothing_is_owed_to_a_router_that_has_gone() -> None:
    links = [LinkToRouter(1), LinkToRouter(2)]
    gone, there = map(peer_of, links)
    gone.acknowledge_after(5, 1, [(there, 1)])
    gone.closed = True
    links[1].session.confirmed = 1
    assert there.confirmed() == set()


def test_connections_are_counted_for_each_object() -> None:
    class Owner(SimpleNamespace):
        __hash__ = object.__hash__

    peer, owner = peer_of(LinkToRouter()), Owner()
    unlike: Any = Owner()
    sockets = [socket_of(owner), socket_of(owner), socket_of(unlike)]
    for counter, socket in enumerate(sockets, 1):
        peer.attach(socket, counter)
    assert peer.objects == {owner: 2, unlike: 1}
    assert peer.detach(sockets[0])
    assert not peer.detach(sockets[0]), "once"
    assert peer.objects[owner] == 1
    assert peer.detach(sockets[1])
    assert owner not in peer.objects
    assert peer.sockets == {3: sockets[2]}
