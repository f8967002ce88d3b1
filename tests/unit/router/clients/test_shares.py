"""Whose share is largest, and who came first of it: compared with a search over all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.router.clients.shares import Shares, share_of


@pytest.mark.parametrize(
    ("peername", "share"),
    [
        (("10.1.2.3", 5), "10.1.2.3"),
        (("::ffff:10.1.2.3", 5, 0, 0), "10.1.2.3"),
        (("2001:db8:1:2:3:4:5:6", 5, 0, 0), bytes.fromhex("20010db800010002")),
        (("2001:db8:1:2::1", 5, 0, 0), bytes.fromhex("20010db800010002")),
        (("fe80::1%eth0", 5, 0, 2), bytes.fromhex("fe80000000000000")),
        (("::1", 5, 0, 0), bytes(8)),
        ("", ""),
        (None, ""),
    ],
)
def test_what_an_address_counts_for(peername: object, share: str | bytes) -> None:
    assert share_of(peername) == share


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), max_size=200))
def test_the_first_of_the_largest_share(steps: list[tuple[int, int]]) -> None:
    """A holder that is there goes, one that is not comes."""
    shares: Shares[int] = Shares()
    held: dict[int, int] = {}
    for holder, address in steps:
        if holder in held:
            del held[holder]
            shares.remove(holder)
            shares.remove(holder)
        else:
            held[holder] = address
            shares.add(holder, address)
        sizes = {each: list(held.values()).count(each) for each in held.values()}
        largest = max(sizes.values(), default=0)
        assert (len(shares), shares.largest) == (len(held), largest)
        first = shares.first_of_largest()
        if first is None:
            assert not held
        else:
            assert sizes[held[first]] == largest
            assert first == next(each for each in held if held[each] == held[first])
        assert [shares.size(each) for each in range(6)] == [sizes.get(each, 0) for each in range(6)]
    assert sum(map(len, shares._by_size.values())) == len(set(held.values()))
