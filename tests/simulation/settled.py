"""Whether a cluster has come to rest: nothing on its way, nothing waiting, nothing left over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from roost.common.cluster.cluster_map import MemberKind
from roost.router.websocket.connection import Connection
from roost.router.websocket.states import State as ConnectionState

from .clients import Stage
from .cluster import Cluster, Member
from .loops import State

if TYPE_CHECKING:
    from .run import Run


def unsettled(run: Run) -> list[str]:
    """What still has to happen, in words; empty when the cluster rests."""
    cluster = run.cluster
    found = [*_members(cluster)]
    if found:
        return found  # the rest would only repeat it
    for client in run.clients:
        if client.stage in (Stage.NEW, Stage.ASKING, Stage.CLOSING):
            found.append(f"client {client.number} {client.stage.value}")
    found += [f"request {caller.number} is not answered" for caller in run.callers if caller.stage is Stage.ASKING]
    for member in cluster.serving(MemberKind.ROUTER):
        found += [f"{member.name}: {text}" for text in _router(cluster, member)]
    for member in cluster.serving(MemberKind.SHARD):
        found += [f"{member.name}: {text}" for text in _shard(cluster, member)]
    return found


def _members(cluster: Cluster) -> Iterator[str]:
    current = cluster.store.map
    if current.next_owners:
        yield f"{len(current.next_owners)} slots are in transit in map {current.version}"
    for incarnation, entry in current.members.items():
        member = cluster.member_of(incarnation)
        if member is None or member.process.state is not State.RUNNING:
            yield f"{entry.name} ({incarnation}) is in map {current.version} and does not run"
    for member in cluster.members.values():
        if member.process.alive and (member.may_end or member.incarnation not in current.members):
            yield f"{member.name} ({member.incarnation}) runs and is not in map {current.version}, or is about to end"
    if not current.has_owners:
        yield "the slots have no owners"


# --- routers ------------------------------------------------------------------------------------------------------


def connections(member: Member) -> list[Connection]:
    """The connections of a router."""
    return member.app._shared.connections.all()  # type: ignore[no-any-return]


def _router(cluster: Cluster, member: Member) -> Iterator[str]:
    app, current = member.app, cluster.store.map
    forwarding, shared = app._forwarding, app._shared
    version = app._dialer.map_version
    if version != current.version:
        yield f"has map {version} of {current.version}"
        return
    links = {link.remote: link for link in app._dialer.links}
    shards = {shard.incarnation for shard in current.shards}
    if links.keys() != shards:
        yield f"has links to {sorted(links)}, not to {sorted(shards)}"
    attached = forwarding._slots.links
    wrong = [slot for slot, owner in enumerate(current.owners) if getattr(attached[slot], "remote", None) != owner]
    if wrong:
        yield f"{len(wrong)} slots are not attached to their owners, {wrong[0]} for one"
    yield from _links(links)
    requests = forwarding.desk.requests
    if requests._parked or requests._sent:
        yield f"{len(requests._parked)} requests are parked and {len(requests._sent)} not answered"
    stopped = [connection.number for connection in shared.connections.all() if connection.has_input]
    if stopped or len(shared.work):
        yield f"connections {stopped} are not read, {len(shared.work)} have work left over"
    if shared.reports.pending:
        yield "times of automatic responses are not told"
    if shared.connections.ghosts:
        yield f"{shared.connections.ghosts} ghosts"
    for connection in connections(member):
        if connection.window.events:
            yield f"connection {connection.number}: events {list(connection.window.events)} are not acknowledged"
        elif connection.state is not ConnectionState.OPEN:
            yield f"connection {connection.number} is {connection.state.name}"
        elif connection.full or connection.owed:
            yield f"connection {connection.number} is full, or output for it waits"
        elif connection.entry.held or connection.entry.output is not None:
            yield f"connection {connection.number}: its object is held or has output pending"
    if shared.counters.window_bytes:
        yield f"{shared.counters.window_bytes} bytes of windows are counted"


def _links(links: dict[Any, Any]) -> Iterator[str]:
    for remote, link in links.items():
        session = link.session
        if session.confirmed != session.sent or session.held_bytes or session.busy:
            yield f"link to {remote}: {session.sent - session.confirmed} batches are not confirmed"
        if session.blocked or link.writer.size:
            yield f"link to {remote} is blocked, or holds {link.writer.size} bytes that nobody flushes"


# --- shards -------------------------------------------------------------------------------------------------------


def objects(member: Member) -> list[Any]:
    """The objects that a shard knows."""
    return list(member.app._host.objects)


def _shard(cluster: Cluster, member: Member) -> Iterator[str]:
    app, current = member.app, cluster.store.map
    host, version = app._host, app._acceptor.map_version
    if version != current.version:
        yield f"has map {version} of {current.version}"
        return
    links = {link.remote: link for link in app._acceptor.links}
    routers = {router.incarnation for router in current.routers}
    if links.keys() != routers or {peer.incarnation for peer in host.output.peers} != routers:
        yield f"has links to {sorted(links)}, not to {sorted(routers)}"
    yield from _links(links)
    if host.slots.waiting:
        yield f"{host.slots.waiting} slots wait for routers to restore them"
    states = host.slots._states
    mine = {slot for slot, owner in enumerate(current.owners) if owner == member.incarnation}
    if states.keys() != mine or host.release:
        yield f"has {len(states)} slots of {len(mine)}, or is letting go of some"
    output = host.output
    if output.ended or output._dirty or output._stalled or output._stalled_events:
        yield "output has not left"
    for peer in output.peers:
        if peer._awaiting or peer._acks.last_of:
            yield f"acknowledgements for router {peer.incarnation} wait"
        if peer.held:
            yield f"output for connections {sorted(peer.held)} of router {peer.incarnation} is held"
    if host.flow.held.taken:
        yield f"{host.flow.held.taken} bytes of held output are counted"
    if host.runner:
        yield "jobs are queued"
    for owner in objects(member):
        if owner.unfinished or owner.mailbox or owner.outbox.planned or owner.held:
            yield f"{owner.name}: {owner.unfinished} events have not ended"
