"""The states of a connection at the router, as a table.

A connection has two closing sides, and the object is a third party that learns of the close by an event. What the
router does follows from who has closed so far:

================ =================================================== ====================================
state            means                                               on the way out
================ =================================================== ====================================
PENDING          the object has been asked for the upgrade           the answer, a lost client
OPEN             messages go both ways                               any close
CLOSED_BY_CLIENT the client's Close came, the object has been told   the object's own Close, the end of its
                 and may still send                                  close handler, or the timeout
CLOSED_BY_OBJECT the object's Close is out; the client may still     the client's Close or the timeout
                 send messages before it answers
CLOSED_BY_ROUTER our Close is out (the client broke the protocol,    the client's Close or the timeout
                 is too slow, nobody owns its object, we end), and
                 the object has been told
ENDING           both sides are done, TCP is being ended             the end of TCP
GHOST            TCP is over, the object's shard has not             the last acknowledgement
                 acknowledged every event yet
GONE             forgotten                                           —
================ =================================================== ====================================

``TRANSITIONS`` is the whole table. A pair that is not in it cannot happen, or changes nothing: ``after`` raises for the
former, and callers check for the latter.
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where a connection is in its life; see the module's theory."""

    PENDING = "the object has been asked for the upgrade"
    OPEN = "messages go both ways"
    CLOSED_BY_CLIENT = "the client has closed, the object has not"
    CLOSED_BY_OBJECT = "the object has closed, the client has not"
    CLOSED_BY_ROUTER = "the router has closed, the client has not"
    ENDING = "TCP is being ended"
    GHOST = "TCP is over, events are not acknowledged"
    GONE = "forgotten"


class Trigger(Enum):
    """What moves a connection on."""

    ACCEPTED = "the object answered the upgrade with a 101"
    REFUSED = "the object answered with an ordinary response, or cannot answer any more"
    CLIENT_CLOSE = "a Close frame of the client"
    OBJECT_CLOSE = "the object's close()"
    ROUTER_CLOSE = "the router closes, for a reason of its own or a failure of the client"
    FINISHED = "nothing more is to be sent to the client"
    LOST = "TCP is over"
    FORGOTTEN = "nothing is left to be done"


TRANSITIONS: dict[tuple[State, Trigger], State] = {
    (State.PENDING, Trigger.ACCEPTED): State.OPEN,
    (State.PENDING, Trigger.REFUSED): State.GONE,
    (State.OPEN, Trigger.CLIENT_CLOSE): State.CLOSED_BY_CLIENT,
    (State.OPEN, Trigger.OBJECT_CLOSE): State.CLOSED_BY_OBJECT,
    (State.OPEN, Trigger.ROUTER_CLOSE): State.CLOSED_BY_ROUTER,
    (State.OPEN, Trigger.FINISHED): State.ENDING,
    (State.OPEN, Trigger.LOST): State.GHOST,
    (State.CLOSED_BY_CLIENT, Trigger.FINISHED): State.ENDING,
    (State.CLOSED_BY_CLIENT, Trigger.LOST): State.GHOST,
    (State.CLOSED_BY_OBJECT, Trigger.CLIENT_CLOSE): State.ENDING,
    (State.CLOSED_BY_OBJECT, Trigger.ROUTER_CLOSE): State.CLOSED_BY_ROUTER,
    (State.CLOSED_BY_OBJECT, Trigger.FINISHED): State.ENDING,
    (State.CLOSED_BY_OBJECT, Trigger.LOST): State.GHOST,
    (State.CLOSED_BY_ROUTER, Trigger.CLIENT_CLOSE): State.ENDING,
    (State.CLOSED_BY_ROUTER, Trigger.FINISHED): State.ENDING,
    (State.CLOSED_BY_ROUTER, Trigger.LOST): State.GHOST,
    (State.ENDING, Trigger.LOST): State.GHOST,
    (State.GHOST, Trigger.FORGOTTEN): State.GONE,
}


def after(state: State, trigger: Trigger) -> State:
    """The state that *trigger* leads to.

    Raises:
        AssertionError: It cannot happen in *state*.
    """
    reached = TRANSITIONS.get((state, trigger))
    if reached is None:
        raise AssertionError(f"a connection that is {state.name} cannot take {trigger.name}")
    return reached
