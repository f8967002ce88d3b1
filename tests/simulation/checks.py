"""What must be true after a run, whatever happened in it.

``after`` judges a cluster that has come to rest with its clients still there, ``at_the_end`` once all have gone. Each
check returns what is wrong, in words. The rules are those of the design, sections 6 and 7; what a crash excuses is
said where it is excused.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from roost.common.cluster.cluster_map import ClusterMap, MemberKind
from roost.common.ids import id_from_name, slot_of
from roost.common.limits import MAX_DEATHS_OF_EVENT, MAX_DEATHS_OF_OBJECT
from roost.common.wire.records import Passport
from roost.router.websocket.connection import Connection
from roost.shard.api.attachments import deserialize
from roost.shard.objects.sockets import Socket

from .clients import Client, Stage
from .cluster import Cluster, Member
from .history import Execution, Tenure
from .settled import connections, objects, unsettled

if TYPE_CHECKING:
    from .run import Run

__all__ = ["after", "at_the_end", "unsettled"]

AROUND_S = 1.0
"""Seconds around a router's death within which its clients' owner must not change for the close to be certain."""
HELD_FOR_DEAD_S = 7.0
"""The same for its own death: it may have been frozen already."""

ON_THE_WAY_S = 3.0
"""Seconds that a RELEASED may take to its routers, over a bad link: its shard may die before that."""


def after(run: Run) -> list[str]:
    """Check a cluster at rest, whose clients are there."""
    runs = _by_client(run)
    return [
        *_activity(run),
        *_broadcasts(run),
        *_replies(run, runs),
        *_passports(run),
        *_automatic(run),
    ]


def at_the_end(run: Run) -> list[str]:
    """Check a cluster at rest that all clients have left."""
    runs = _by_client(run)
    found = [*_activity(run), *_requests(run), *_nothing_left(run)]
    rooms = {client.number: client.room for client in (*run.clients, *run.callers)}
    executions = run.cluster.history.executions
    deaths = Counter(rooms[each.client] for each in executions if each.data == "kill")
    deaths += Counter(
        room
        for room, _ in {
            (rooms[each.client], each.tenure) for each in executions if each.client in rooms and _is_cut(each)
        }
    )
    for client in run.clients:
        if deaths[client.room] >= MAX_DEATHS_OF_OBJECT:
            continue  # its object is refused: clients are closed with 1013, whatever they have sent
        found += [f"client {client.number}: {text}" for text in _events(run.cluster, client, runs[client.number])]
    return found


def _by_client(run: Run) -> dict[int, list[Execution]]:
    """The executions of each client's events, in order.

    Those at a shard that had been taken off the map count as long as no other shard was active: routers that were as
    late as that shard may have believed them. What came after that was dropped everywhere.
    """
    history = run.cluster.history
    begun: dict[int, list[Tenure]] = defaultdict(list)
    for tenure in history.tenures.values():
        if tenure.first_at >= 0:
            begun[tenure.slot].append(tenure)
    runs: dict[int, list[Execution]] = defaultdict(list)
    for each in history.executions:
        if each.kind not in ("message", "close", "error"):
            continue
        if each.stale:
            since = history.expelled_at(each.tenure)
            if any(since < other.first_at <= each.at for other in begun[each.tenure.slot] if other is not each.tenure):
                continue
        runs[each.client].append(each)
    return runs


def _crashed(cluster: Cluster, tenure: Tenure) -> bool:
    """Whether the tenure ended without a release that every router has heard of."""
    if tenure.process.alive and tenure.shard in cluster.store.map.members:
        return False
    lost_at = cluster.members[tenure.process].lost_at
    return tenure.released_at < 0 or 0 < lost_at < tenure.released_at + ON_THE_WAY_S


# --- events -------------------------------------------------------------------------------------------------------


def _events(cluster: Cluster, client: Client, runs: list[Execution]) -> Iterator[str]:
    """Each accepted event was handled, in order, once; or at least once around a crash."""
    yield from _order(cluster, client, runs)
    messages, ends = defaultdict(list), []
    for each in runs:
        if each.kind == "message":
            messages[each.number].append(each)
        else:
            ends.append(each)
    for each in messages.values():
        yield from _repeats(cluster, client, each)
    yield from _repeats(cluster, client, ends, _cut_short(runs))
    if client.opened_at < 0:
        return  # it has no connection that it knows of
    if client.router_died:
        yield from _router_death(cluster, client, ends)
        return
    lost_at = _output_lost_at(cluster, client, ends)
    missing = (
        []
        if client.broken_off_at >= 0
        else [
            number
            for number, at in client.accepted.items()
            if number not in messages and not _too_late(client, number, ends) and not 0 < lost_at <= at
        ]
    )
    if missing:
        yield f"messages {missing} were accepted and never handled"
    for number, each in messages.items():
        if each[0].data == "kill":
            if len(each) > MAX_DEATHS_OF_EVENT:
                yield f"message {number} killed its shard {len(each)} times"
        elif client.broken_off_at >= 0:
            continue  # its router has forgotten what it had not heard the end of
        elif _is_suspect(each):
            continue  # it was given up, perhaps
        elif each[-1].ended_at < 0 or each[-1].cancelled:
            yield f"message {number} was not handled to its end at its last delivery"
    poisoned = _has_suspects(runs) or any(each.data == "kill" for each in runs if each.kind == "message")
    if not ends:
        if not client.broken_off_unknown:
            yield "no close was delivered"
        return
    router = cluster.members[client.router] if client.router is not None else None
    if client.broken_off_at >= 0 and ends[-1].data[0] == 1006:
        return  # so it was told, however far the closing had come
    if lost_at > 0:
        return  # its Close stood behind what it did not take: it may have left, or been told, before that
    if client.left is not None:
        if ends[-1].data != client.left and not (router is not None and router.may_end):
            yield f"it left with {client.left}, its object heard {ends[-1].data}"
    elif client.closed_by is None or not (
        4000 <= client.closed_by < 5000
        or (client.closed_by == 1011 and (poisoned or cluster.history.defects))
        or (router is not None and router.may_end and client.closed_by in (1001, 1006))
    ):
        yield f"the router closed it with {client.closed_by}"
    elif client.closed_by >= 4000 and ends[-1].data[:1] != (client.closed_by,):
        yield f"its object closed it with {client.closed_by} and heard {ends[-1].data}"


def _is_cut(each: Execution) -> bool:
    """Whether the handler had begun and not ended when its shard died."""
    return each.ended_at < 0 and not each.cancelled


def _is_suspect(runs: list[Execution]) -> bool:
    """Whether an event was at work at so many deaths that it may have been taken for their cause."""
    return sum(_is_cut(each) for each in runs) >= MAX_DEATHS_OF_EVENT


def _has_suspects(runs: list[Execution]) -> bool:
    """The same of any of a client's events."""
    cut = Counter((each.kind, each.number) for each in runs if _is_cut(each))
    return any(count >= MAX_DEATHS_OF_EVENT for count in cut.values())


def _is_poisoned(cluster: Cluster, client: Client, runs: list[Execution]) -> bool:
    """Whether an event of the client was running when its shard met errors of its own, or waited at several deaths, and
    so is not tried again."""
    return client.closed_by == 1011 and (bool(cluster.history.defects) or _has_suspects(runs))


def _output_lost_at(cluster: Cluster, client: Client, ends: list[Execution]) -> float:
    """When output that waited for a slow client may have been lost, at the earliest, if its router closed it for that;
    else -1."""
    deaths = [each.lost_at for each in cluster.members.values() if each.kind is MemberKind.SHARD and each.lost_at > 0]
    deaths += cluster.history.defects.values()  # a link that is given up is lost with what is on its way
    told = any(each.data[0] == 1012 for each in ends if each.kind == "close")
    is_lost = bool(deaths) and (told or client.closed_by == 1012) and _was_owed(cluster, client)
    return min(deaths) if is_lost else -1.0


def _was_owed(cluster: Cluster, client: Client) -> bool:
    """Whether output may have waited for it at a shard: it was slow, one turn had more for it than its share,
    or a message went in pieces."""
    return client.was_slow or any(
        each.data in ("flood", "large") and any(target == client.number for target, _ in each.sends)
        for each in cluster.history.executions
    )


def _too_late(client: Client, number: int, ends: list[Execution]) -> bool:
    """Whether a message was read after the router itself had closed: its object has heard of the end before that. A
    client that reads nothing comes to the Close late."""
    closed_by_router = client.closed_by is not None and client.closed_by < 4000
    closed_at = ends[0].at if client.was_slow and ends else client.closed_at
    return closed_by_router and 0 < closed_at <= client.accepted[number]


def _order(cluster: Cluster, client: Client, runs: list[Execution]) -> Iterator[str]:
    highest, last, ended = 0, {}, set()
    for each in runs:
        if each.kind != "message":
            ended.add(each.tenure)
            continue
        if each.tenure in ended:
            yield f"message {each.number} came after the close, at {each.tenure.key}"
        if each.number <= last.get(each.tenure, 0):
            yield f"message {each.number} came after {last[each.tenure]}, both at {each.tenure.key}"
        last[each.tenure] = each.number
        if each.number > highest + 1:
            yield f"message {each.number} came after {highest}: reordered or lost"
        highest = max(highest, each.number)
        if not 1 <= each.number <= client.sent:
            yield f"message {each.number} was never sent"


def _cut_short(runs: list[Execution]) -> set[Tenure]:
    """Where a handler was cancelled by a move. Then the end of its connection comes again, too, behind that event: the
    new owner has to learn of it, however soon its own handler had ended."""
    return {each.tenure for each in runs if each.cancelled}


def _repeats(
    cluster: Cluster, client: Client, runs: list[Execution], excused: Collection[Tenure] = ()
) -> Iterator[str]:
    """Deliveries of one event: again only after a crash or a cancelled handler, and marked as such."""
    deaths = [each.lost_at for each in cluster.members.values() if each.kind is MemberKind.SHARD and each.lost_at > 0]
    deaths += cluster.history.defects.values()  # the link of a shard that is given up ends the shard
    for index, each in enumerate(runs):
        what = f"{each.kind} {each.number}" if each.number else each.kind
        if index:
            before = runs[index - 1]
            if not before.cancelled and before.tenure not in excused and not _crashed(cluster, before.tenure):
                yield f"{what} was handled at {before.tenure.key} and again at {each.tenure.key}: nothing had crashed"
            if not each.redelivered:
                yield f"{what} was handled at {before.tenure.key} and again at {each.tenure.key}, unmarked"
        elif each.redelivered and not any(at <= each.at for at in deaths):
            yield f"{what} is marked as redelivered, but no shard had died"


def _router_death(cluster: Cluster, client: Client, ends: list[Execution]) -> Iterator[str]:
    """A client's router has died: 1006, once, unless the owner changed at the same time."""
    assert client.router is not None
    router = cluster.members[client.router]
    if len(ends) > 1 and all(not _crashed(cluster, each.tenure) for each in ends[:-1]):
        yield f"its close was delivered {len(ends)} times"
    for each in ends:
        if each.data[0] == 1012 and _was_owed(cluster, client):
            continue  # its output was lost before, and it has taken its Close as little as anything else
        if each.data[0] != 1006 and client.left is None and client.closed_by is None and not router.may_end:
            yield f"its router died, its object heard {each.data}"
    if ends or client.left is not None or client.closed_by is not None:
        return
    removed_at = next(
        (at for at, each in cluster.maps if at >= router.lost_at and router.incarnation not in each.members), -1.0
    )
    slot = slot_of(id_from_name("room", client.room))
    owners = {each.owners[slot] for at, each in _maps_within(cluster, client.opened_at, removed_at + AROUND_S)}
    moved = any(slot in each.next_owners for _, each in _maps_within(cluster, client.opened_at, removed_at + AROUND_S))
    owner = cluster.member_of(next(iter(owners)))
    if len(owners) != 1 or moved or owner is None or 0 < owner.lost_at <= removed_at + HELD_FOR_DEAD_S:
        return
    # The connection may also have been opened by an earlier owner, for a router that had not heard of its end.
    if any(key.startswith(f"{owner.incarnation}.") for key, *_ in client.arrived):
        yield f"its router died, and its object at {owner.name} never heard of it"


def _maps_within(cluster: Cluster, begin: float, end: float) -> Iterator[tuple[float, ClusterMap]]:
    """The maps that held at some time from *begin* to *end*."""
    for index, (at, each) in enumerate(cluster.maps):
        until = cluster.maps[index + 1][0] if index + 1 < len(cluster.maps) else float("inf")
        if at <= end and until >= begin:
            yield at, each


# --- one place at a time ------------------------------------------------------------------------------------------


def _activity(run: Run) -> Iterator[str]:
    """No object was active at two shards."""
    history = run.cluster.history
    by_slot: dict[int, list[Tenure]] = defaultdict(list)
    for each in history.executions:
        if each.stale:
            continue
        tenures = by_slot[each.tenure.slot]
        if not tenures or tenures[-1] is not each.tenure:
            if each.tenure in tenures:
                yield (
                    f"slot {each.tenure.slot}: {each.kind} {each.client}/{each.number} was delivered at "
                    f"{each.tenure.key} when {tenures[-1].key} was active"
                )
            tenures.append(each.tenure)
    for client in run.clients:
        router = run.cluster.members.get(client.router)  # type: ignore[arg-type]
        if router is None:
            continue
        for key, slot, _, text in client.arrived:
            tenure = history.tenures[key, slot]
            since = tenure.first_at if tenure.first_at >= 0 else history.expelled_at(tenure)
            at = history.accepted_at[router.incarnation, text.encode()]
            later = [each for each in by_slot[slot] if each is not tenure and since < each.first_at < at]
            if later:
                yield (
                    f"slot {slot}: output of {key} for client {client.number} was accepted at {at - 1000:.3f}, when "
                    f"{later[0].key} had been active since {later[0].first_at - 1000:.3f}"
                )


# --- replies ------------------------------------------------------------------------------------------------------


def _broadcasts(run: Run) -> Iterator[str]:
    """An object that sends to all its sockets knows them all, also when it has just come to another shard."""
    cluster = run.cluster
    rooms = {client.number: client.room for client in run.clients}
    closed: set[int] = set()
    for each in cluster.history.executions:
        if each.data == "bye" or each.kind in ("close", "error"):
            closed.add(each.client)  # by the object, or it has heard of the end: nothing can be sent there any more
        if each.data != "cast" or each.stale:
            continue
        reached = {target for target, _ in each.sends}
        for client in run.clients:
            if (
                client.room == rooms[each.client]
                and client.number not in reached | closed
                and _was_there(cluster, client, each.at)
            ):
                yield (
                    f"client {client.number} was not among the sockets at {each.tenure.key} when message "
                    f"{each.client}/{each.number} went to all"
                )


def _was_there(cluster: Cluster, client: Client, at: float) -> bool:
    """Whether a client's connection was certainly open at some time: nobody has begun to close it, its router lives."""
    router = cluster.members.get(client.router) if client.router is not None else None
    if router is None or client.closed_by is not None or not 0 < client.opened_at < at:
        return False
    return (client.left_at < 0 or at < client.left_at) and (router.lost_at < 0 or at < router.lost_at)


def _replies(run: Run, runs: dict[int, list[Execution]]) -> Iterator[str]:
    cluster = run.cluster
    came: dict[int, dict[Tenure, list[int]]] = {}
    for client in run.clients:
        mine: dict[Tenure, list[int]] = {}
        last = None
        for key, slot, number, _ in client.arrived:
            tenure = cluster.history.tenures[key, slot]
            if tenure is not last and tenure in mine:
                yield f"client {client.number}: output of {key} came between that of others"
            last = tenure
            mine.setdefault(tenure, []).append(number)
        came[client.number] = mine
        for tenure, numbers in mine.items():
            sent = tenure.sends[client.number]
            if numbers != sent[: len(numbers)]:
                yield f"client {client.number}: {tenure.key} sent {sent}, it got {numbers}"
    staying = {client.number for client in run.clients if client.stage is Stage.OPEN}
    for tenure in cluster.history.tenures.values():
        if not _crashed(cluster, tenure):
            for number in sorted(staying & tenure.sends.keys()):
                got = came[number].get(tenure, [])
                if len(got) != len(tenure.sends[number]):
                    yield f"client {number}: {tenure.key} sent {tenure.sends[number]}, it got {got}"
    for client in run.clients:
        if client.router_died or client.opened_at < 0 or _is_poisoned(cluster, client, runs[client.number]):
            continue
        final: dict[int, Execution] = {each.number: each for each in runs[client.number] if each.kind == "message"}
        for each in final.values():
            for target, payload in each.sends:
                if target in staying and payload not in came[target].get(each.tenure, ()):
                    yield (
                        f"client {target}: output {payload} of {each.tenure.key}, in answer to message "
                        f"{each.client}/{each.number}, never came"
                    )


def _automatic(run: Run) -> Iterator[str]:
    for client in run.clients:
        if client.stage is Stage.OPEN and client.pongs < client.pings:
            yield f"client {client.number}: {client.pings} pings and {client.pongs} answers"


def _requests(run: Run) -> Iterator[str]:
    executions = run.cluster.history.executions
    died = any(member.lost_at > 0 for member in run.cluster.members.values())
    for caller in run.callers:
        count = sum(1 for each in executions if each.kind == "fetch" and each.client == caller.number)
        if count > 1:
            yield f"request {caller.number} was carried out {count} times"
        if caller.status == 200 and count != 1:
            yield f"request {caller.number} was answered and never carried out"
        if caller.status == 503 and count:
            yield f"request {caller.number} was refused and carried out"
        if caller.answers > 1 or caller.status not in (0, 200, 502, 503):
            yield f"request {caller.number} got {caller.answers} answers, {caller.status}"
        if caller.status == 502 and not died:
            yield f"request {caller.number} was answered 502, and nothing had died"
        if not caller.answers and not caller.router_died:
            yield f"request {caller.number} was never answered"


# --- passports ----------------------------------------------------------------------------------------------------


def _passports(run: Run) -> Iterator[str]:
    """What routers know equals what shards know, and both what the clients and the room have said."""
    cluster = run.cluster
    clients = {client._tcp: client for client in run.clients}
    shards = {member.incarnation: member for member in cluster.serving(MemberKind.SHARD)}
    hosted = {
        incarnation: {owner.object_id: owner for owner in objects(member)} for incarnation, member in shards.items()
    }
    known = 0
    for router in cluster.serving(MemberKind.ROUTER):
        for connection in connections(router):
            known += 1
            passport = connection.passport()
            client = clients[connection._transport]  # type: ignore[index]
            what = f"client {client.number} (connection {router.incarnation}/{connection.number})"
            owner = hosted[cluster.store.map.owners[connection.entry.slot]].get(passport.object_id)
            sockets = [] if owner is None else [each for each in owner.sockets if _is(each, router, connection.number)]
            if owner is None or len(sockets) != 1:
                yield f"{what}: its shard has {len(sockets)} sockets for it"
                continue
            yield from (f"{what}: {text}" for text in _differences(cluster, client, connection, passport, sockets[0]))
            state = connection.entry.state
            told = (0, 0, None) if state is None else (state.revision, state.event_timeout_ms, state.auto_response)
            if told != (owner.revision, owner.event_timeout_ms, owner.auto_response):
                yield f"{what}: its router has {told} of the object, its shard {owner.revision, owner.auto_response}"
    total = 0
    for member in shards.values():
        for owner in objects(member):
            ordinals = [each.ordinal for each in owner.sockets]
            total += len(ordinals)
            listed = ordinals[::-1]
            if owner.activation is not None:  # else there is nobody who could have handles
                listed = [handle.socket.ordinal for handle in owner.sockets.newest_first()]
            if ordinals != sorted(set(ordinals)) or listed != ordinals[::-1]:
                yield f"{owner.name} at {member.name}: its sockets come in the order {listed}"
    if total != known:
        yield f"shards have {total} sockets, routers {known} connections"


def _is(socket: Socket, router: Member, number: int) -> bool:
    return socket.peer is not None and socket.peer.incarnation == router.incarnation and socket.counter == number


def _differences(
    cluster: Cluster, client: Client, connection: Connection, passport: Passport, socket: Socket
) -> Iterator[str]:
    for name in ("ordinal", "tags", "attachment", "url", "protocol", "closed_by_object", "auto_response_time"):
        at_router, at_shard = getattr(passport, name), getattr(socket, name)
        if at_router != at_shard:
            yield f"{name} is {at_router!r} at the router, {at_shard!r} at the shard"
    if list(socket.tags) != ([client.tag] if client.tag else []):
        yield f"its tags are {socket.tags}, it asked for {client.tag!r}"
    value = deserialize(socket.attachment)
    if value != cluster.history.attached[client.number]:
        yield f"its attachment is {value}, the room set {cluster.history.attached[client.number]} last"
    if passport.next_seq != connection.window.next_seq or socket.closed_by_object or socket.ending or socket.gone:
        yield "it is open, and the shard holds it for closed"


def _nothing_left(run: Run) -> Iterator[str]:
    cluster = run.cluster
    for member in cluster.serving(MemberKind.ROUTER):
        if connections(member) or len(member.app._shared.objects):
            yield f"{member.name} still has {len(connections(member))} connections"
        yield from _links_are_whole(cluster, member)
    for member in cluster.serving(MemberKind.SHARD):
        for owner in objects(member):
            if len(owner.sockets):
                yield f"{owner.name} at {member.name} still has {len(owner.sockets)} sockets"
        yield from _links_are_whole(cluster, member)


def _links_are_whole(cluster: Cluster, member: Member) -> Iterator[str]:
    counters = member.app.counters
    if counters.wire_garbage:
        yield f"{member.name} met {counters.wire_garbage} batches of garbage"
    if counters.links_failed and not cluster.history.defects:
        yield f"{member.name} has given up {counters.links_failed} links, and nothing was wrong"
