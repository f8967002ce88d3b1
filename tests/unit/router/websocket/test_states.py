"""The table of states: whatever is in it leads on, and whatever is not is a defect."""

from __future__ import annotations

import pytest

from roost.router.websocket.states import TRANSITIONS, State, Trigger
from tests.unit.router.fakes import World, accepted


@pytest.fixture
def world() -> World:
    return World()


def test_every_state_but_the_last_leads_somewhere_and_every_state_is_reached() -> None:
    assert {before for before, _ in TRANSITIONS} == set(State) - {State.GONE}
    assert set(TRANSITIONS.values()) == set(State) - {State.PENDING}


def test_every_trigger_is_used() -> None:
    assert {trigger for _, trigger in TRANSITIONS} == set(Trigger)


def test_tcp_may_be_lost_in_every_state_that_has_it() -> None:
    for before in (
        State.OPEN,
        State.CLOSED_BY_CLIENT,
        State.CLOSED_BY_OBJECT,
        State.CLOSED_BY_ROUTER,
        State.ENDING,
    ):
        assert TRANSITIONS[before, Trigger.LOST] is State.GHOST


def test_what_is_not_in_the_table_is_a_defect(world: World) -> None:
    connection, _ = world.connect()
    with pytest.raises(AssertionError, match="OPEN cannot take ACCEPTED"):
        connection.accept_lost(accepted())
