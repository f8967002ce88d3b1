"""The race: roost and others, with one client, on one machine, in one run.

Each row is measured in rounds, all peers one after the other in each, in an order that rotates; ratios are taken
within a round. Servers are started and ended by the race, on ports of 127.0.0.1; what has to be compiled or installed
is kept in a folder of its own. From the repository's root::

    python -m tests.bench.race --rounds 5 --json race.json --markdown deploy/docs/performance.md

A peer that cannot take part, for want of npm, say, is left out, and the table says why.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.race import building, table
from tests.bench.race.building import Unavailable
from tests.bench.race.crowd import CLIENT, Crowd, CrowdFailed
from tests.bench.race.peers import PEERS, Peer, Server
from tests.bench.race.processes import cpu_of
from tests.bench.race.results import rotation
from tests.bench.race.rows import ROWS, Row, Setting, await_quiet
from tests.bench.running import machine, write_report

Failure = (CrowdFailed, Unavailable, RuntimeError, OSError)
"""What ends one measurement and not the race."""
_IDLE = 0.05
"""Share of a processor that servers which are not measured may use before the race says so."""


class Race:
    """The samples, and how they come about.

    Args:
        options: The command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._client = building.compiled(options.cache, *CLIENT)
        self._peers: dict[str, Peer] = {}
        self.report: dict[str, Any] = {
            "command": _command(options),
            "machine": machine(),
            "rounds": options.rounds,
            "settings": {name: str(value) for name, value in vars(options).items()},
            "peers": {},
            "absent": {},
            "rows": {},
            "samples": {},
            "failures": [],
        }
        for name in options.peers:
            peer = PEERS[name](options.cache)
            try:
                self.report["peers"][name] = peer.prepare()
                self._peers[name] = peer
            except Unavailable as reason:
                self.report["absent"][name] = str(reason)
                print(f"{name} does not take part: {reason}", flush=True)

    def run(self) -> None:
        """Measure all rows that were asked for."""
        for name in self._options.only:
            row = ROWS[name]
            self.report["rows"][name] = {"title": row.title, "unit": row.unit, "better": row.better}
            self.report["samples"][name] = {}
            print(f"\n{row.title}, {row.unit}", flush=True)
            self._run(row)

    def _run(self, row: Row) -> None:
        names = [name for name, peer in self._peers.items() if _takes_part(peer, row)]
        rounds = min(self._options.rounds, row.most_rounds)
        samples: dict[str, list[Any]] = {name: [None] * rounds for name in names}
        self.report["samples"][row.name] = samples
        with self._started(row, names) as servers:
            for number in range(rounds):
                for name in rotation(names, number):
                    if name in servers or row.alone:
                        samples[name][number] = self._measure(row, name, servers)

    @contextlib.contextmanager
    def _started(self, row: Row, names: list[str]) -> Iterator[dict[str, Server]]:
        """All servers, unless each is started for its measurement alone."""
        with contextlib.ExitStack() as running:
            servers = {}
            for name in [] if row.alone else names:
                try:
                    servers[name] = running.enter_context(self._peers[name].start())
                except Failure as error:
                    self._failed(row, name, error)
            yield servers

    def _measure(self, row: Row, name: str, servers: dict[str, Server]) -> dict[str, Any] | None:
        peer = self._peers[name]
        try:
            with contextlib.ExitStack() as running:
                server = servers[name] if name in servers else running.enter_context(peer.start())
                others = [pid for other, idle in servers.items() if other != name for pid in idle.roots]
                await_quiet([*others, *server.roots])
                before = cpu_of(others)
                found = row.measure(self._setting(row, peer, server))
                found["idle_cpu_s"] = round(cpu_of(others) - before, 3)
        except Failure as error:
            self._failed(row, name, error)
            return None
        if row.connections > peer.most_connections:
            found["fewer"] = peer.most_connections
        _show(row, name, found)
        if found["idle_cpu_s"] > _IDLE * self._options.seconds:
            print(f"  the servers that were not measured used {found['idle_cpu_s']:.2f} s of processor", flush=True)
        return found

    def _setting(self, row: Row, peer: Peer, server: Server) -> Setting:
        def enter(kind: str) -> Crowd:
            return Crowd(self._client, server.port, server.path(kind), processes=row.client_processes)

        return Setting(server, enter, self._options.seconds, min(row.connections, peer.most_connections))

    def _failed(self, row: Row, name: str, error: BaseException) -> None:
        sentence = f"{row.name}, {name}: {error}"
        self.report["failures"].append(sentence)
        print(f"  FAILED: {sentence}", flush=True)


def _takes_part(peer: Peer, row: Row) -> bool:
    if row.sleeps and not peer.wakes:
        return False
    return row.fewer or row.connections <= peer.most_connections


def _show(row: Row, name: str, found: dict[str, Any]) -> None:
    more = [f"{found['server_cpu_us']:.1f} µs of processor each"] if "server_cpu_us" in found else []
    if found.get("cpu"):
        more.append(f"client {max(found['cpu']):.0%}")
    if found.get("elsewhere_cpu", 0) > 0.1:
        more.append(f"{found['elsewhere_cpu']:.2f} processors busy elsewhere")
    print(f"  {name:<15} {table.figure(found['value']):>10} {row.unit}   {', '.join(more)}", flush=True)


def _command(options: argparse.Namespace) -> str:
    """What was measured, as a command: without the files of this machine that it was to use."""
    words = ["python", "-m", "tests.bench.race", "--rounds", options.rounds, "--seconds", options.seconds]
    for name, known in (("only", ROWS), ("peers", PEERS)):
        chosen = getattr(options, name)
        if list(chosen) != list(known):
            words += [f"--{name}", ",".join(chosen)]
    return shlex.join(map(str, words))


def _names(known: dict[str, Any]) -> Any:
    def names(text: str) -> list[str]:
        found = text.split(",")
        unknown = [name for name in found if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join(known)}")
        return found

    return names


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.race", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="of each row")
    parser.add_argument("--seconds", type=float, default=3.0, help="of an echo or a broadcast")
    parser.add_argument("--only", type=_names(ROWS), default=list(ROWS), help=f"rows, of {','.join(ROWS)}")
    parser.add_argument("--peers", type=_names(PEERS), default=list(PEERS), help=f"of {','.join(PEERS)}")
    parser.add_argument("--cache", type=Path, default=building.default_cache(), help="what is compiled and installed")
    parser.add_argument("--json", type=Path, help="file for machine, settings and raw data")
    parser.add_argument("--markdown", type=Path, help="page whose section of the race is written anew")
    return parser.parse_args(argv)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    options = parse()
    signal.signal(signal.SIGTERM, _interrupt)  # servers are ended on the way out
    try:
        race = Race(options)
    except Unavailable as reason:
        sys.exit(f"there is no race: {reason}")
    try:
        race.run()
    except KeyboardInterrupt:
        sys.exit("interrupted")
    finally:  # also what an interrupted race has found
        write_report(race.report, options.json)
    section = table.section(race.report)
    print("\n" + section)
    if options.markdown is not None:
        page: Path = options.markdown
        page.write_text(table.replaced(page.read_text() if page.exists() else "", section))
        print(f"written: {page}")


if __name__ == "__main__":
    main()
