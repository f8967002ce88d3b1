"""The account finds whatever a server can do to messages, and nothing where it has done nothing."""

from __future__ import annotations

import random

import pytest

from roost.deploy.loadtest import ledger
from roost.deploy.loadtest.ledger import Account, Findings, Life, absent, audit, own_copies_lost, required


def take(sequences: list[int], sender: int = 3) -> tuple[Account, Findings]:
    account, findings = Account(), Findings()
    for sequence in sequences:
        account.take(sender, sequence, 9, findings)
    return account, findings


def test_all_in_order_is_nothing_to_note() -> None:
    account, findings = take([1, 2, 3])
    assert findings == Findings()
    assert absent(account, 3, 1, 3) == []


@pytest.mark.parametrize(
    ("came", "gone", "reordered", "duplicated"),
    [
        ([1, 3], [2], 0, 0),
        ([1, 2], [3], 0, 0),
        ([2, 3], [1], 0, 0),
        ([], [1, 2, 3], 0, 0),
        ([1, 3, 2], [], 1, 0),
        ([2, 1, 3], [], 1, 0),
        ([3, 2, 1], [], 2, 0),
        ([3, 1], [2], 1, 0),
        ([1, 2, 2, 3], [], 0, 1),
        ([1, 2, 3, 1], [], 0, 1),
        ([2, 1, 1, 3], [], 1, 1),
        ([1, 3, 2, 2], [], 1, 1),
    ],
)
def test_what_is_missing_late_or_double(came: list[int], gone: list[int], reordered: int, duplicated: int) -> None:
    account, findings = take(came)
    assert absent(account, 3, 1, 3) == gone
    assert (findings.reordered, findings.duplicated) == (reordered, duplicated)


@pytest.mark.parametrize("seed", range(50))
def test_against_a_list_of_all(seed: int) -> None:
    """Shuffled, thinned out and doubled: the same as by looking at the whole history."""
    rng = random.Random(seed)
    came = [number for number in range(1, 40) if rng.random() < 0.8]
    came += rng.sample(came, 5)
    for _ in range(rng.randrange(10)):
        at = rng.randrange(len(came) - 1)
        came[at], came[at + 1] = came[at + 1], came[at]
    account, findings = take(came)
    seen: set[int] = set()
    duplicated = reordered = 0
    for number in came:
        if number in seen:
            duplicated += 1
        elif seen and number < max(seen):
            reordered += 1
        seen.add(number)
    assert (findings.duplicated, findings.reordered) == (duplicated, reordered)
    assert absent(account, 3, 1, 39) == sorted(set(range(1, 40)) - seen)


def test_senders_do_not_mix() -> None:
    account, findings = Account(), Findings()
    for sender, sequence in ((1, 1), (2, 1), (1, 2), (2, 2)):
        assert account.take(sender, sequence, 9, findings)
    assert findings == Findings()


def test_an_account_may_start_later() -> None:
    """A connection that takes a seat over goes on where the one before it has ended."""
    account, findings = Account(), Findings()
    account.start_at(3, 7)
    assert absent(account, 3, 8, 9) == [8, 9]
    account.take(3, 8, 9, findings)
    assert absent(account, 3, 8, 9) == [9]
    assert findings == Findings()


def test_a_huge_gap_is_counted_at_once_and_not_remembered() -> None:
    account, findings = take([1, ledger.MAX_GAP + 12])
    assert findings.lost == 10
    assert len(account.missing[3]) == ledger.MAX_GAP


LOG = [100, 200, 300, 400]


@pytest.mark.parametrize(
    ("opened", "closed", "wanted"),
    [
        (0, None, (1, 4)),
        (200, None, (3, 4)),
        (150, None, (2, 4)),
        (500, None, (5, 4)),
        (0, 360, (1, 3)),
        (0, 100, (1, 0)),
    ],
)
def test_who_came_late_or_left_early_need_not_have_all(
    opened: int, closed: int | None, wanted: tuple[int, int]
) -> None:
    assert required(LOG, opened, closed, 50) == wanted


def life(seat: int, came: dict[int, list[int]], opened: int = 0, closed: int | None = None) -> Life:
    account = Account()
    for sender, sequences in came.items():
        for sequence in sequences:
            account.take(sender, sequence, seat, Findings())
    return Life(seat, opened, closed, account)


def audited(*lives: Life, own: str = "auto") -> Findings:
    findings = Findings()
    for one in lives:
        audit(one, [0, 1], {0: LOG, 1: [150]}, own=own, patience_us=50, findings=findings)
    return findings


def test_the_audit_names_what_nobody_else_can_know() -> None:
    """A message that is the first, the last, or the only one leaves no gap."""
    found = audited(life(7, {0: [2, 3]}))
    assert found.lost == 3
    assert found.incomplete == {(0, 1), (0, 4), (1, 1)}
    assert "connection 7" in found.examples[0]


def test_the_audit_is_content_with_who_came_late_and_left_early() -> None:
    assert audited(life(7, {0: [3]}, opened=250, closed=420)).lost == 0
    assert audited(life(7, {0: [4]}, opened=250)).incomplete == {(0, 3)}


def test_own_copies_are_left_open_or_demanded_or_forbidden() -> None:
    without, with_all, with_some = (life(0, {0: own, 1: [1]}) for own in ([], [1, 2, 3, 4], [1, 4]))
    assert [own_copies_lost(audited(one)) for one in (without, with_all, with_some)] == [0, 0, 2]
    assert [audited(one).lost for one in (without, with_all, with_some)] == [0, 0, 0]
    assert [audited(one, own="yes").lost for one in (without, with_all, with_some)] == [4, 0, 2]
    assert [audited(one, own="no").misdelivered for one in (without, with_all, with_some)] == [0, 1, 1]


def test_findings_travel_and_add_up() -> None:
    one = audited(life(7, {0: [2, 3]}))
    two = Findings.from_dict(one.to_dict())
    assert two == one
    two.merge(one)
    assert two.lost == 6
    assert two.incomplete == one.incomplete


def test_what_travels_shares_nothing() -> None:
    """An account of "as if nothing more came" is made of a copy, and what it says may turn out not to be so."""
    findings = Findings(incomplete={(1, 2)}, examples=["one"])
    copy = Findings.from_dict(findings.to_dict())
    assert copy == findings
    copy.example("two")
    copy.incomplete.clear()
    assert (findings.examples, findings.incomplete) == (["one"], {(1, 2)})
