"""Progress: what keeps a deadline off, and for how long."""

from __future__ import annotations

from roost.router.clients.progress import Delivery, Progress


def test_progress_is_the_least_number_of_bytes() -> None:
    progress = Progress(1_000, 10)
    progress.look(1_099, 20, 100)
    assert progress.since == 10
    progress.look(1_100, 30, 100)
    assert progress.since == 30
    progress.look(1_100, 40)
    assert progress.since == 30


def test_a_delivery_is_late_after_a_stall_and_after_its_end() -> None:
    delivery = Delivery(0, 500, 10)
    assert not delivery.is_late(109, 100, 20)
    assert delivery.is_late(110, 100, 20)
    delivery.see(499, 1, 100)
    assert delivery.since == 100
    delivery.see(500, 0, 150, least=100)
    assert delivery.since == 150, "the last byte is progress, however few came with it"
    assert not delivery.is_late(169, 100, 20)
    assert delivery.is_late(170, 100, 20)
    delivery.see(500, 0, 175)
    assert delivery.since == 150
