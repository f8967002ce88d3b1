"""Echo: round trips through one router and one shard, compared with a plain program of the same libraries.

Both run all the time; rounds alternate between them (plain, roost, roost, plain, …), so that what else the machine
does hits both alike. Each round is a fresh client process. From the repository's root::

    python -m tests.bench.echo --rounds 6 --seconds 4 --json echo.json

prints a line for each round, the medians, and the median ratio of neighbouring rounds. The goal is 0.7 with 64
connections and 64 bytes.

What a change costs is measured the same way: ``--before PYTHON`` names the interpreter of an environment in which
another version of roost is installed, which then takes part in each round as well.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.bench import plain_echo
from tests.bench.running import HERE, await_port, cpu_s, machine, roost, write_report
from tests.support.ports import free_port

GOAL = 0.7
"""Share of the plain program's round trips that the echo has to reach."""


def one_round(url: str, pids: dict[str, int], options: argparse.Namespace) -> dict[str, Any]:
    """Run the client once; adds the processor time that each server process used for a round trip.

    Unlike the rate this hardly depends on what else the machine does.
    """
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    words = [
        f"--url={url}",
        f"--connections={options.connections}",
        f"--size={options.size}",
        f"--seconds={options.seconds}",
        f"--objects={options.objects}",
    ]
    finished = subprocess.run(
        [sys.executable, str(HERE / "client.py"), *words],
        stdout=subprocess.PIPE,
        timeout=options.seconds + 60,
        check=True,
    )
    result: dict[str, Any] = json.loads(finished.stdout)
    used = {name: cpu_s(pid) - before[name] for name, pid in pids.items()}
    result["cpu_us"] = {name: round(seconds / result["round_trips"] * 1e6, 1) for name, seconds in used.items()}
    return result


def show(label: str, result: dict[str, Any]) -> None:
    costs = ", ".join(f"{name} {cost:4.1f} µs" for name, cost in result["cpu_us"].items())
    bound = "  CLIENT-BOUND" if result["client_bound"] else ""
    print(
        f"{label:<6} {result['round_trips_per_s']:>9,.0f}/s   p50 {result['p50_us'] / 1000:6.2f} ms   "
        f"p99 {result['p99_us'] / 1000:6.2f} ms   {costs} a round trip   client {result['client_cpu']:.0%}{bound}",
        flush=True,
    )


def ratios_of(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> list[float]:
    """The ratio of the rates in each round."""
    pairs = zip(ours, theirs, strict=True)
    return [one["round_trips_per_s"] / other["round_trips_per_s"] for one, other in pairs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6, help="of each program")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a round")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--size", type=int, default=64, help="bytes of a message")
    parser.add_argument("--objects", type=int, default=1, help="objects that the connections spread over")
    parser.add_argument("--handler", choices=["async", "sync"], default="async")
    parser.add_argument("--before", metavar="PYTHON", help="interpreter of an environment with another roost")
    parser.add_argument("--json", type=Path, help="file for machine, settings and raw data")
    options = parser.parse_args()
    rounds: dict[str, list[dict[str, Any]]] = {"plain": [], "roost": []}
    if options.before:
        rounds["before"] = []
    path = {"async": "echo", "sync": "echo-sync"}[options.handler]
    report: dict[str, Any] = {"machine": machine(), "settings": {k: str(v) for k, v in vars(options).items()}}
    with contextlib.ExitStack() as running:
        folder = running.enter_context(tempfile.TemporaryDirectory())
        clusters = {"roost": running.enter_context(roost())}
        if options.before:
            clusters["before"] = running.enter_context(roost(python=options.before))
        port = free_port()
        processes = plain_echo.start(port, Path(folder))
        try:
            await_port(port)
            targets = {
                "plain": (f"ws://127.0.0.1:{port}/", {"router": processes[0].pid, "shard": processes[1].pid}),
            }
            for label, cluster in clusters.items():
                targets[label] = (
                    f"ws://127.0.0.1:{cluster.port}/{path}/{{object}}",
                    {name.split("-")[0]: pid for name, pid in cluster.pids.items()},
                )
            for number in range(options.rounds):
                for label in list(rounds) if number % 2 == 0 else reversed(rounds):
                    result = one_round(*targets[label], options)
                    rounds[label].append(result)
                    show(label, result)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()
    medians: dict[str, dict[str, Any]] = {
        label: {
            "round_trips_per_s": statistics.median(result["round_trips_per_s"] for result in results),
            "cpu_us": {
                name: statistics.median(result["cpu_us"][name] for result in results) for name in ("router", "shard")
            },
        }
        for label, results in rounds.items()
    }
    # Of neighbours in time: a machine that is slower for some seconds hits both of a pair, but not both medians.
    ratios = ratios_of(rounds["roost"], rounds["plain"])
    ratio = statistics.median(ratios)
    print()
    for label, median in medians.items():
        rate, costs = median["round_trips_per_s"], median["cpu_us"]
        print(f"{label:<6} median {rate:>9,.0f}/s   µs of processor a round trip: {costs}")
    print(f"ratio {ratio:.2f} (goal {GOAL}); of each pair: {', '.join(f'{pair:.2f}' for pair in ratios)}")
    if options.before:
        changes = ratios_of(rounds["roost"], rounds["before"])
        report["ratio_to_before"] = statistics.median(changes)
        print(
            f"to the version before {statistics.median(changes):.2f}; of each pair: "
            f"{', '.join(f'{pair:.2f}' for pair in changes)}"
        )
    report |= {"medians": medians, "ratio": round(ratio, 3), "ratios": ratios, "rounds": rounds}
    write_report(report, options.json)


if __name__ == "__main__":
    main()
