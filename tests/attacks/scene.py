"""One attack against a cluster of its own, from the neighbour's first echo to the memory that is left afterwards."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from roost.common.machine.counters import read_counters
from tests.attacks.neighbour import Neighbour
from tests.attacks.processes import at_once, forget_peak, giving_way, peak_bytes, pin, private_bytes
from tests.attacks.registry import Attack
from tests.attacks.table import Memory, Row
from tests.support.cluster import REPOSITORY, Cluster

WARM_S = 0.5
"""Seconds of echoes that are not counted: objects are made, code is used for the first time."""
WITHOUT_S = 1.5
"""Seconds of echoes before the attack."""
AFTER_S = 1.0
"""Seconds after the end of the attackers until memory is looked at for the last time."""
PATIENCE_S = 20.0
"""Seconds for attackers to begin, and to end."""


def run(attack: Attack, seconds: float | None = None) -> Row:
    """Run an attack.

    Args:
        attack: Which.
        seconds: For how long, if not as long as it says itself.
    """
    cluster = Cluster(attack.app, router=attack.router, shard=attack.shard, limits=attack.limits, own_sessions=False)
    with cluster, _attackers(attack, cluster.port) as attackers:
        router, shard = cluster.processes["router-1"].pid, cluster.processes["shard-1"].pid
        pin(router, [shard, *(attacker.pid for attacker in attackers)])
        neighbour, ways = Neighbour(cluster.port), giving_way(attacker.pid for attacker in attackers)
        with contextlib.closing(neighbour), ways, at_once():
            neighbour.measure(time.monotonic() + WARM_S)
            without = neighbour.measure(time.monotonic() + WITHOUT_S)
            earlier_turn_s, earlier_worked_s = longest_turn_s(cluster)
            before = private_bytes(router), private_bytes(shard)
            forget_peak(router)
            forget_peak(shard)
            until_s = time.monotonic() + (attack.seconds if seconds is None else seconds)
            for attacker in attackers:
                assert attacker.stdin is not None
                attacker.stdin.write(f"{until_s}\n")
                attacker.stdin.flush()
            with _meanwhile(attack, cluster):
                during = neighbour.measure(until_s)
        failed = sum(attacker.wait(PATIENCE_S) != 0 for attacker in attackers)
        time.sleep(AFTER_S)
        shard_now = cluster.processes["shard-1"].pid  # the attack may have killed the one that was
        memory = {
            "router": Memory(before[0], peak_bytes(router), private_bytes(router)),
            "shard": Memory(before[1], peak_bytes(shard_now), private_bytes(shard_now)),
        }
        turn_s, worked_s = longest_turn_s(cluster)
        bound = attack.bound
        grown = 0 if bound is None else memory[bound.process].peak - memory[bound.process].before
        return Row(
            name=attack.name,
            sends=f"{attack.attackers} client{'s' * (attack.attackers > 1)}: {attack.sends}",
            bound="" if bound is None else bound.what,
            ratio=None if bound is None else grown / bound.bytes,
            router=memory["router"],
            shard=memory["shard"],
            turn_s=turn_s,
            earlier_turn_s=earlier_turn_s,
            without=without,
            during=during,
            notes=f"{failed} attackers failed" if failed else "",
            honest=attack.honest,
            worked_s=worked_s,
            earlier_worked_s=earlier_worked_s,
        )


def longest_turn_s(cluster: Cluster) -> tuple[float, float]:
    """Seconds of the router's longest turn up to now, and of processor time of the one that took most of it."""
    path = cluster.run / "router-1.counters"
    # The next publication may hold figures from just before the call, the one after it does not.
    fresh, give_up_at = read_counters(path).publications + 2, time.monotonic() + PATIENCE_S
    while (found := read_counters(path)).publications < fresh:
        assert time.monotonic() < give_up_at, "the router publishes no counters"
        time.sleep(0.01)
    return found.values["longest_turn_us"] / 1e6, found.values["longest_turn_worked_us"] / 1e6


@contextlib.contextmanager
def _attackers(attack: Attack, port: int) -> Iterator[list[subprocess.Popen[str]]]:
    """The attackers' processes, ready to begin; gone at the end."""
    started: list[subprocess.Popen[str]] = []
    try:
        for number in range(attack.attackers):
            words = [sys.executable, "-m", "tests.attacks.attacker", attack.name, str(port), str(number)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            started.append(subprocess.Popen(words, **pipes, text=True, cwd=REPOSITORY))  # type: ignore[call-overload]
        for attacker in started:
            assert attacker.stdout is not None
            line = attacker.stdout.readline()
            assert line == "ready\n", f"an attacker did not begin: {line!r}"
        yield started
    finally:
        for attacker in started:
            attacker.kill()
            attacker.communicate()


@contextlib.contextmanager
def _meanwhile(attack: Attack, cluster: Cluster) -> Iterator[None]:
    if attack.meanwhile is None:
        yield
        return
    errors: list[Exception] = []

    def act() -> None:
        assert attack.meanwhile is not None
        try:
            attack.meanwhile(cluster)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        thread.join(PATIENCE_S)
    assert not thread.is_alive(), "what was to be done meanwhile takes too long"
    if errors:
        raise errors[0]
