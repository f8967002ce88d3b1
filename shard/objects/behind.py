"""Objects of which much output waits to be written at a router: they pause.

What a room says to 1,500 takes its router 15 ms for 20 bytes, and its shard half of one. Whatever the shard makes ahead
of that lies in the link and at the router, and everybody else's output behind it. So a router says BEHIND 1 of an
object when it has 16,384 writes of it before it, and BEHIND 0 when it has half of that. Between the two the object's
output stays in its outbox, with the acknowledgements behind it, as for a link that is blocked (``output``); and none of
its events starts (``crowd``), so that its outbox does not fill for what its clients send: its mailbox does, which has
its HOLD. What runs already may go on, and say more.

It ends with BEHIND 0; with the router, if that leaves the map; and when the object is to leave, or the shard to end,
since all that it has said is to be out before. A router that gives the object to another shard tells that one anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...common.ids import ObjectId

if TYPE_CHECKING:
    from ..outgoing.output import Output
    from ..outgoing.peers import Peer
    from ..running.runner import Runner
    from .hosted import HostedObject
    from .jobs import Job
    from .objects import Objects
    from .sockets import RouterPeer


class Behind:
    """Which objects of a shard pause, for which routers.

    Args:
        objects: All objects.
        output: Where their output gathers.
        runner: Where their events start.
    """

    def __init__(self, objects: Objects[HostedObject], output: Output[RouterPeer], runner: Runner[Job]) -> None:
        self._objects = objects
        self._output = output
        self._runner = runner
        self._paused: dict[Peer, dict[ObjectId, HostedObject]] = {}

    def told(self, peer: RouterPeer, object_id: ObjectId, is_behind: bool) -> None:
        """A router says whether much of an object's output waits there."""
        if not is_behind:
            self._end(object_id, peer)
            return
        owner = self._objects.get(object_id)
        if owner is None or owner not in peer.objects or owner.outbox.unheld or self.pauses(peer, object_id):
            return  # it has gone, or is about to; or this was said of an earlier stay of it here
        self._paused.setdefault(peer, {})[object_id] = owner
        outbox = owner.outbox
        if outbox.behind is None:
            outbox.behind = {peer}
            self._output.pausing += 1
            self._runner.pause(owner)
        else:
            outbox.behind.add(peer)

    def lose(self, peer: Peer) -> None:
        """The router has gone."""
        for object_id in list(self._paused.get(peer, ())):
            self._end(object_id, peer)

    def forget(self, peer: Peer, owner: HostedObject) -> None:
        """What the router has said belongs to an earlier stay of the object."""
        self._end(owner.object_id, peer)

    def let_go(self, owner: HostedObject) -> None:
        """All that the object has said is to leave, and what runs is to end."""
        for peer in list(owner.outbox.behind or ()):
            self._end(owner.object_id, peer)

    def pauses(self, peer: Peer, object_id: ObjectId) -> bool:
        """Whether an object pauses for what waits at *peer*."""
        return object_id in self._paused.get(peer, ())

    def _end(self, object_id: ObjectId, peer: Peer) -> None:
        """The object need not pause for *peer* any more, if it had to."""
        paused = self._paused.get(peer)
        owner = None if paused is None else paused.pop(object_id, None)
        if owner is None:
            return
        if not paused:
            del self._paused[peer]
        outbox = owner.outbox
        assert outbox.behind is not None
        outbox.behind.discard(peer)
        if not outbox.behind:
            outbox.behind = None
            self._output.pausing -= 1
            self._output.unstall()
            self._runner.go_on(owner)
