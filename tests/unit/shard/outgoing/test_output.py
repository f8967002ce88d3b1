"""The flush of a turn, pure: the test says when a turn ends."""

from __future__ import annotations

from collections.abc import Callable

from roost.shard.counters import ShardCounters
from roost.shard.outgoing.outbox import Outbox
from roost.shard.outgoing.output import ACKS_WITHIN_S, FIRST_EARLY, Output
from roost.shard.outgoing.peers import Peer
from tests.support.links import LinkToRouter
from tests.unit.shard.harness import Timers, peer_of


class Bench:
    """An output with its routers."""

    def __init__(self, routers: int) -> None:
        self.turn = Timers()
        self.counters = ShardCounters()
        self.output = Output(self._plan, self._later, self.counters)
        self.later: list[Callable[[], None]] = []
        self.links: list[LinkToRouter] = []
        self.peers: list[Peer] = []
        for _ in range(routers):
            self.join()

    def _plan(self) -> None:
        self.turn.call_soon(self._flush)

    def _flush(self) -> None:
        if self.output.planned:
            self.output.flush()

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        assert seconds == ACKS_WITHIN_S
        self.later.append(do)

    def join(self) -> None:
        self.links.append(LinkToRouter(len(self.links) + 1))
        self.peers.append(peer_of(self.links[-1]))
        self.output.meet(self.peers[-1])

    def outbox(self) -> Outbox:
        return Outbox(self.output.plan_outbox)

    def ended(self, box: Outbox, peer: Peer, counter: int, seq: int) -> None:
        if self.output.note_ended(box, peer, counter, seq):
            self.output.flush_early()
        for do in self.later:
            do()
        self.later.clear()


def test_one_flush_a_turn_writes_output_then_acknowledgements_in_one_group() -> None:
    bench = Bench(1)
    (peer,), (link,) = bench.peers, bench.links
    one, other = bench.outbox(), bench.outbox()
    bench.ended(one, peer, 1, 1)
    one.send(peer, 1, "a")
    other.send(peer, 2, "b")
    bench.ended(other, peer, 2, 1)
    assert len(bench.turn.soon) == 1
    bench.turn.run()
    assert len(link.groups) == 1
    assert link.take() == [("send", [1], "a"), ("send", [2], "b"), ("ack", [(1, 1, 1), (2, 1, 1)])]
    assert bench.counters.sends == 2
    one.send(peer, 1, "next turn")
    assert len(bench.turn.soon) == 1


def test_with_several_routers_an_event_waits_for_the_others_that_got_output() -> None:
    bench = Bench(3)
    box = bench.outbox()
    here, second, _ = bench.peers
    box.send(here, 1, "x")
    box.send(second, 2, "x")
    bench.ended(box, here, 1, 1)
    bench.turn.run()
    assert bench.links[0].take() == [("send", [1], "x")]
    bench.links[2].confirm()
    bench.turn.run()
    assert bench.links[0].take() == []
    bench.links[1].confirm()
    bench.turn.run()
    assert bench.links[0].take() == [("ack", [(1, 1, 1)])]


def test_an_event_whose_output_went_to_its_own_router_only_is_acknowledged_in_the_same_group() -> None:
    bench = Bench(2)
    box = bench.outbox()
    box.send(bench.peers[0], 1, "x")
    bench.ended(box, bench.peers[0], 1, 1)
    bench.turn.run()
    assert bench.links[0].take() == [("send", [1], "x"), ("ack", [(1, 1, 1)])]


def test_earlier_output_that_is_unconfirmed_elsewhere_counts_too() -> None:
    bench = Bench(2)
    box = bench.outbox()
    here, there = bench.peers
    box.send(there, 2, "x")
    bench.turn.run()
    bench.ended(box, here, 1, 1)
    bench.turn.run()
    assert bench.links[0].take() == []
    bench.links[1].confirm()
    bench.turn.run()
    assert bench.links[0].take() == [("ack", [(1, 1, 1)])]


def test_another_objects_output_does_not_count() -> None:
    bench = Bench(2)
    box, other = bench.outbox(), bench.outbox()
    other.send(bench.peers[1], 2, "x")
    bench.ended(box, bench.peers[0], 1, 1)
    bench.turn.run()
    assert bench.links[0].take() == [("ack", [(1, 1, 1)])]


def test_what_a_lone_router_was_sent_counts_when_a_second_one_comes() -> None:
    bench = Bench(1)
    box = bench.outbox()
    box.send(bench.peers[0], 1, "not even flushed when the second comes")
    bench.join()
    first, second = bench.peers
    bench.ended(box, second, 2, 1)
    bench.turn.run()
    assert bench.links[1].take() == []
    bench.links[0].confirm()
    bench.turn.run()
    assert bench.links[1].take() == [("ack", [(2, 1, 1)])]
    assert first.sent_unmarked == 1


def test_losing_a_router_frees_what_waited_for_it() -> None:
    bench = Bench(2)
    box = bench.outbox()
    here, there = bench.peers
    box.send(there, 2, "x")
    bench.ended(box, here, 1, 1)
    bench.turn.run()
    bench.output.lose(there)
    assert bench.links[1].closed
    bench.turn.run()
    assert bench.links[0].take() == [("ack", [(1, 1, 1)])]


def test_a_blocked_link_holds_the_output_that_goes_there_and_its_acknowledgements() -> None:
    bench = Bench(2)
    box, other = bench.outbox(), bench.outbox()
    here, there = bench.peers
    bench.links[1].blocked = True
    box.send(here, 1, "x")
    box.send(there, 2, "x")
    bench.ended(box, here, 1, 1)
    other.send(here, 3, "y")
    bench.ended(other, here, 3, 1)
    bench.turn.run()
    assert bench.links[0].take() == [("send", [3], "y"), ("ack", [(3, 1, 1)])]
    assert box.planned
    bench.links[1].unblock()
    bench.turn.run()
    assert bench.links[0].take() == [("send", [1], "x")]
    assert bench.links[1].take() == [("send", [2], "x")]
    bench.links[1].confirm()
    bench.turn.run()
    assert bench.links[0].take() == [("ack", [(1, 1, 1)])]


def test_a_lone_blocked_link_holds_everything_that_can_wait() -> None:
    bench = Bench(1)
    box = bench.outbox()
    bench.links[0].blocked = True
    box.send(bench.peers[0], 1, "x")
    bench.ended(box, bench.peers[0], 1, 1)
    bench.turn.run()
    assert bench.links[0].take() == []
    bench.links[0].unblock()
    bench.turn.run()
    assert bench.links[0].take() == [("send", [1], "x"), ("ack", [(1, 1, 1)])]


def test_what_is_held_is_looked_at_once_and_not_by_each_flush() -> None:
    bench = Bench(2)
    looks: list[set[Peer]] = []

    class Watched(Outbox):
        def goes_to(self, peers: set[Peer]) -> bool:
            looks.append(peers)
            return super().goes_to(peers)

    bench.links[1].blocked = True
    held, free = Watched(bench.output.plan_outbox), bench.outbox()
    held.send(bench.peers[1], 1, "held")
    bench.turn.run()
    for number in range(5):
        held.send(bench.peers[1], 1, f"held {number}")
        free.send(bench.peers[0], 2, "free")
        bench.ended(held, bench.peers[0], 3, number + 1)
        bench.turn.run()
    assert len(looks) == 1
    assert bench.links[0].take() == [("send", [2], "free")] * 5
    bench.links[1].unblock()
    bench.turn.run()
    assert [record[2] for record in bench.links[1].take()] == ["held", *(f"held {number}" for number in range(5))]
    bench.links[1].confirm()
    bench.turn.run()
    assert bench.links[0].take() == [("ack", [(3, 1, 5)])]


def test_output_held_for_a_blocked_router_goes_on_when_that_router_is_lost() -> None:
    bench = Bench(2)
    box = bench.outbox()
    here, there = bench.peers
    bench.links[1].blocked = True
    box.send(here, 1, "x")
    box.send(there, 2, "x")
    bench.ended(box, here, 1, 1)
    bench.turn.run()
    bench.output.lose(there)
    bench.turn.run()
    assert bench.links[0].take() == [("send", [1], "x"), ("ack", [(1, 1, 1)])]


def test_it_knows_when_all_is_confirmed_and_tells_of_progress() -> None:
    bench = Bench(2)
    box = bench.outbox()
    progress: list[bool] = []
    bench.output.on_progress = lambda: progress.append(bench.output.confirmed)
    assert bench.output.confirmed
    for number, peer in enumerate(bench.peers):
        box.send(peer, number, "x")
    bench.turn.run()
    assert not bench.output.confirmed
    bench.links[0].confirm()
    bench.output.lose(bench.peers[1])
    assert progress == [False, True]


def test_a_turn_in_which_many_events_end_is_flushed_early_ever_more_seldom() -> None:
    bench = Bench(1)
    (peer,), (link,) = bench.peers, bench.links
    box = bench.outbox()
    flushed_at = [0]
    for number in range(1, 200):
        box.send(peer, 1, f"message {number}")
        if bench.output.note_ended(box, peer, 1, number):
            bench.output.flush_early()
            assert link.take()[-1] == ("ack", [(1, flushed_at[-1] + 1, number)])
            flushed_at.append(number)
    assert flushed_at == [0, 32, 96]
    assert len(bench.turn.soon) == 1, "the flush at the end of the turn is still the one planned first"
    bench.turn.run()
    assert link.take()[-1] == ("ack", [(1, 97, 199)])
    assert bench.output.early_at == 32


def test_acknowledgements_alone_wait_for_output_but_not_for_long() -> None:
    bench = Bench(1)
    (peer,), (link,) = bench.peers, bench.links
    silent, other = bench.outbox(), bench.outbox()
    bench.output.note_ended(silent, peer, 1, 1)
    bench.output.note_ended(silent, peer, 1, 2)
    bench.turn.run()
    assert link.take() == []
    other.send(peer, 2, "b")
    bench.turn.run()
    assert link.take() == [("send", [2], "b"), ("ack", [(1, 1, 2)])], "with the output of another object"
    (due,) = bench.later
    due()
    bench.turn.run()
    assert link.take() == [], "nothing is left to say"
    bench.later.clear()
    bench.output.note_ended(silent, peer, 1, 3)
    (due,) = bench.later
    due()
    bench.turn.run()
    assert link.take() == [("ack", [(1, 3, 3)])]


def test_many_acknowledgements_do_not_wait() -> None:
    bench = Bench(1)
    (peer,), (link,) = bench.peers, bench.links
    box = bench.outbox()
    for number in range(1, FIRST_EARLY + 1):
        assert not bench.output.note_ended(box, peer, 1, number)
    bench.turn.run()
    assert link.take() == [("ack", [(1, 1, FIRST_EARLY)])]
