"""The books of one process."""

from __future__ import annotations

from roost.deploy.loadtest.histogram import Histogram
from roost.deploy.loadtest.ledger import Account
from roost.deploy.loadtest.messages import BROADCAST, ECHO, Codec
from roost.deploy.loadtest.plan import Plan
from roost.deploy.loadtest.traffic import Traffic, echo_key

CODEC = Codec(1, 64)


class Books:
    def __init__(self) -> None:
        self.cpu = 0
        self.traffic = Traffic(CODEC, Plan(10, 2, 1), lambda: self.cpu)
        self.accounts = [Account() for _ in range(10)]

    def take(self, seat: int, kind: str, sender: int, sequence: int, due: int = 0, late: int = 0, now: int = 0) -> None:
        self.traffic.take(seat, self.accounts[seat], CODEC.encode(kind, sender, sequence, due, late), now)

    def highest(self, name: str) -> int:
        return Histogram(self.traffic.snapshot()["histograms"].get(name, ())).percentile(100)


def test_latency_counts_from_when_it_was_due_and_service_time_from_when_it_was_sent() -> None:
    """Coordinated omission: what waits for a stalled sender has waited, too."""
    books = Books()
    books.take(4, ECHO, 4, 1, due=1_000, late=700, now=2_000)
    assert books.traffic.received == 1
    measured = books.traffic.snapshot()["histograms"]
    assert {name: Histogram(pairs).percentile(100) for name, pairs in measured.items()} == {
        "echo": 1_000,
        "echo_service": 300,
    }


def test_echoes_and_broadcasts_of_one_seat_have_numbers_of_their_own() -> None:
    books = Books()
    books.take(4, ECHO, 4, 1)
    books.take(4, BROADCAST, 4, 1)
    books.take(4, BROADCAST, 4, 2)
    books.take(4, ECHO, 4, 2)
    assert books.traffic.received == 4
    assert books.accounts[4].last == {echo_key(4): 2, 4: 2}
    assert books.traffic.snapshot()["bad"] == 0


def test_what_is_not_for_a_connection_is_found() -> None:
    books = Books()
    books.take(4, ECHO, 6, 1)  # an echo for another one
    books.take(4, BROADCAST, 5, 1)  # a broadcast of another object
    assert books.traffic.findings.misdelivered == 2
    books.take(4, BROADCAST, 6, 1)  # a neighbour
    assert books.traffic.received == 1


def test_what_is_not_whole_is_corrupted_and_what_others_say_is_foreign() -> None:
    books = Books()
    payload = bytearray(CODEC.encode(ECHO, 4, 1, 0, 0))
    payload[40] ^= 1
    books.traffic.take(4, books.accounts[4], bytes(payload), 0)
    books.traffic.take(4, books.accounts[4], b"welcome", 0)
    assert (books.traffic.findings.corrupted, books.traffic.findings.foreign, books.traffic.received) == (1, 1, 0)


def test_a_message_in_one_of_the_servers_own_is_wrapped() -> None:
    books = Books()
    payload = CODEC.encode(ECHO, 4, 1, 0, 0)
    for _ in range(2):
        books.traffic.take(4, books.accounts[4], b'{"text": "' + payload + b'"}', 0)
    findings = books.traffic.findings
    assert (findings.wrapped, findings.foreign, findings.corrupted, books.traffic.received) == (2, 2, 0, 0)
    assert books.traffic.snapshot()["wrapped"] == 2
    assert len(findings.examples) == 1
    assert "a message in one of the server's" in findings.examples[0]


def test_a_copy_is_no_message_received() -> None:
    books = Books()
    books.take(4, ECHO, 4, 1)
    books.take(4, ECHO, 4, 1)
    assert (books.traffic.received, books.traffic.findings.duplicated) == (1, 1)


def test_a_broadcast_is_tallied_with_its_first_and_last_receiver_and_what_taking_it_in_cost() -> None:
    books = Books()
    books.traffic.audience.update({0: 3})
    for seat, now, cpu in ((0, 500, 100), (2, 600, 150), (4, 900, 300)):
        books.cpu = cpu
        books.take(seat, BROADCAST, 2, 1, due=400, now=now)
    assert books.traffic.take_tallies() == [[2, 1, 400, 3, 500, 900, 200, 400]]
    assert books.traffic.take_tallies() == []
