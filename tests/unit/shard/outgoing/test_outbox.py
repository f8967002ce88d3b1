from __future__ import annotations

import gc
import tracemalloc
from sys import getsizeof
from typing import Any

import pytest

from roost.common.errors import OutboxFull
from roost.shard.outgoing.outbox import Outbox
from tests.support.links import LinkToRouter, Record
from tests.unit.shard.harness import outbox, peer_of


def records(box: Outbox, *links: LinkToRouter) -> list[list[Record]]:
    """Drain and read what each link got."""
    box.drain()
    for link in links:
        link.flush()
    return [link.take() for link in links]


def test_a_loop_of_sends_is_one_record_to_each_router() -> None:
    links = [LinkToRouter(1), LinkToRouter(2)]
    peers = [peer_of(link) for link in links]
    box, text = outbox(), "news"
    for counter in range(1, 5):
        box.send(peers[counter % 2], counter, text)
    assert records(box, *links) == [[("send", [2, 4], "news")], [("send", [1, 3], "news")]]


def test_equal_payloads_fold_whether_or_not_they_are_one_object() -> None:
    link = LinkToRouter()
    peer, box = peer_of(link), outbox()
    for counter in (1, 2):
        box.send(peer, counter, "".join(["ne", "ws"]))
    assert records(box, link) == [[("send", [1, 2], "news")]]


def test_text_is_encoded_once_however_often_it_is_sent() -> None:
    encoded = 0

    class Text(str):
        def encode(self, *arguments: Any) -> bytes:
            nonlocal encoded
            encoded += 1
            return super().encode(*arguments)

    box, peer, text = outbox(), peer_of(LinkToRouter()), Text("é")
    for counter in range(10):
        box.send(peer, counter, text)
        box.send(peer, counter, "in between")
    assert encoded == 1


def test_the_same_payload_twice_to_one_connection_comes_twice() -> None:
    link = LinkToRouter()
    peer, box = peer_of(link), outbox()
    box.send(peer, 1, "x")
    box.send(peer, 1, "x")
    assert records(box, link) == [[("send", [1, 1], "x")]]


def test_text_and_bytes_of_equal_content_stay_apart() -> None:
    link = LinkToRouter()
    peer, box = peer_of(link), outbox()
    for payload in ("x", b"x", "x", b"x"):
        box.send(peer, 1, payload)
    assert records(box, link) == [
        [("send", [1], "x"), ("send", [1], b"x"), ("send", [1], "x"), ("send", [1], b"x")],
    ]


def test_alternating_payloads_travel_once_each() -> None:
    link = LinkToRouter()
    peer, box = peer_of(link), outbox()
    for counter in range(100):
        box.send(peer, counter, "a" * 1000)
        box.send(peer, counter, b"b" * 1000)
    box.drain()
    link.flush()
    (group,) = link.groups
    assert (group.count(b"a" * 1000), group.count(b"b" * 1000)) == (1, 1)
    assert len(group) < 2 * 1000 + 200 * 20
    assert len(link.take()) == 200


def test_another_record_ends_the_fold() -> None:
    link = LinkToRouter()
    peer, box = peer_of(link), outbox()
    box.send(peer, 1, "bye")
    box.record(peer, lambda writer: writer.close(1, 1000, "", False))
    box.send(peer, 2, "bye")
    assert records(box, link) == [
        [("send", [1], "bye"), ("close", 1, 1000, "", False), ("send", [2], "bye")],
    ]


def test_nothing_folds_over_a_drain() -> None:
    link = LinkToRouter()
    peer, box = peer_of(link), outbox()
    box.send(peer, 1, "x")
    box.drain()
    box.send(peer, 2, "x")
    assert records(box, link) == [[("send", [1], "x"), ("send", [2], "x")]]


def test_it_asks_to_be_flushed_once_until_it_is_drained() -> None:
    planned: list[Outbox] = []
    box, peer = Outbox(planned.append), peer_of(LinkToRouter())
    box.send(peer, 1, "a")
    box.send(peer, 1, "b")
    box.record(peer, lambda _: None)
    assert (planned, box.planned) == ([box], True)
    box.drain()
    assert not box.planned
    box.record(peer, lambda _: None)
    assert planned == [box, box]


def test_drain_tells_who_was_written_to_and_how_many_messages_went() -> None:
    here, there = peer_of(LinkToRouter(1)), peer_of(LinkToRouter(2))
    box = outbox()
    for counter in (1, 2, 3):
        box.send(here, counter, "x")
    box.record(there, lambda _: None)
    assert box.drain() == ({here, there}, 3)
    assert box.drain() == (set(), 0)


def test_what_is_for_a_router_that_has_gone_is_dropped() -> None:
    links = [LinkToRouter(1), LinkToRouter(2)]
    here, gone = map(peer_of, links)
    box = outbox()
    box.send(gone, 1, "only there")
    box.send(gone, 2, "both")
    box.send(here, 3, "both")
    box.record(gone, lambda writer: writer.close(1, 1000, "", False))
    gone.closed = True
    assert box.drain() == ({here}, 1)
    links[0].flush()
    assert links[0].take() == [("send", [3], "both")]
    assert links[1].writer.size == 0


def test_a_lone_surrogate_is_refused_and_nothing_is_left_of_it() -> None:
    link = LinkToRouter()
    peer, box = peer_of(link), outbox()
    box.send(peer, 1, "before")
    size = box.size
    with pytest.raises(UnicodeEncodeError):
        box.send(peer, 1, "\ud800")
    assert box.size == size
    box.send(peer, 2, "before")
    assert records(box, link) == [[("send", [1, 2], "before")]]


# --- the bound ----------------------------------------------------------------------------------------------------


def test_a_full_outbox_refuses_and_keeps_what_it_has() -> None:
    link = LinkToRouter()
    peer, box = peer_of(link), outbox(limit=1000)
    box.send(peer, 1, b"x" * 800)
    with pytest.raises(OutboxFull) as raised:
        box.send(peer, 1, b"y" * 800)
    assert raised.value.limit == 1000
    assert records(box, link) == [[("send", [1], b"x" * 800)]]
    box.send(peer, 1, b"y" * 800)


def test_an_empty_outbox_takes_a_message_of_any_size() -> None:
    box = outbox(limit=1000)
    box.send(peer_of(LinkToRouter()), 1, b"x" * 5000)
    with pytest.raises(OutboxFull):
        box.send(peer_of(LinkToRouter()), 1, b"y")


def test_targets_count_too() -> None:
    box, peer = outbox(limit=2000), peer_of(LinkToRouter())
    sent = 0
    while box.size < 2000:
        box.send(peer, sent, "x")
        sent += 1
    assert 300 <= sent <= 400
    with pytest.raises(OutboxFull):
        box.send(peer, sent, "x")


def test_a_payload_counts_once_however_often_it_alternates() -> None:
    box, peer = outbox(limit=100_000), peer_of(LinkToRouter())
    for counter in range(100):
        box.send(peer, counter, "a" * 10_000)
        box.send(peer, counter, b"b" * 10_000)
    assert 30_000 <= box.size < 30_000 + 200 * 208 + 100
    box.drain()
    assert box.size == 0


@pytest.mark.parametrize(
    ("payloads", "targets"),
    [
        ([str(number) for number in range(5000)], 1),
        ([str(number).encode() for number in range(5000)], 1),
        ([f"{number:1000}" for number in range(1000)], 1),
        ([f"{number:1000}\N{GRINNING FACE}" for number in range(1000)], 1),
        ([str(number) for number in range(5000)], 3),
        (["a", "b"] * 2500, 1),
    ],
    ids=["short texts", "short bytes", "texts", "wide texts", "several targets", "in turn"],
)
def test_what_waits_takes_what_it_counts_with(payloads: list[str | bytes], targets: int) -> None:
    """The payloads themselves, of which a text is kept beside its encoding, are there before."""
    box, peer = outbox(limit=1 << 30), peer_of(LinkToRouter())
    there = sum(getsizeof(payload) for payload in set(payloads) if isinstance(payload, str))
    gc.collect()
    tracemalloc.start()
    try:
        for number, payload in enumerate(payloads):
            for target in range(targets):
                box.send(peer, 1000 + number + target, payload)
        took = tracemalloc.get_traced_memory()[0] + there
    finally:
        tracemalloc.stop()
    assert took < 1.5 * box.size


def test_records_are_never_refused_but_count() -> None:
    box, peer = outbox(limit=1000), peer_of(LinkToRouter())
    box.check_room(5000)
    for _ in range(10):
        box.record(peer, lambda _: None, 500)
    assert box.size >= 5000
    with pytest.raises(OutboxFull):
        box.check_room(1)
    with pytest.raises(OutboxFull):
        box.send(peer, 1, "x")


# --- where output is ----------------------------------------------------------------------------------------------


def test_it_knows_whom_its_entries_are_for() -> None:
    first, second, third = (peer_of(LinkToRouter(number)) for number in (1, 2, 3))
    box = outbox()
    assert not box.goes_to({first})
    box.send(first, 1, "x")
    box.send(second, 2, "x")
    assert box.goes_to({second})
    assert not box.goes_to({third})
    box.record(third, lambda _: None)
    assert box.goes_to({third})


def test_output_is_unconfirmed_until_the_batch_that_carries_it_is() -> None:
    links = [LinkToRouter(1), LinkToRouter(2)]
    here, there = map(peer_of, links)
    box = outbox()
    assert box.unconfirmed([here, there], here) == []
    links[1].session.sent = 7
    box.mark({there})
    links[1].session.sent = 9
    assert box.unconfirmed([here, there], here) == [(there, 7)]
    assert box.unconfirmed([here, there], there) == []
    links[1].session.confirmed = 7
    assert box.unconfirmed([here, there], here) == []
    assert box.marks is None, "marks that are behind need no room"


def test_batches_sent_before_marks_were_kept_count_for_every_outbox() -> None:
    links = [LinkToRouter(1), LinkToRouter(2)]
    here, there = map(peer_of, links)
    links[1].session.sent = 3
    there.note_sent()
    box = outbox()
    assert box.unconfirmed([here, there], here) == [(there, 3)]
    links[1].session.confirmed = 3
    assert box.unconfirmed([here, there], here) == []
