"""Long runs of the simulation: ``python -m tests.simulation --seeds 10000``, or for as long as there is time.

Prints the seeds that have failed, with what was wrong, and how many runs there were a second. ``--trace SEED`` prints
the event log of one run; ``--plant NAME`` plants a defect (``planted``) and shows what finds it.
"""

from __future__ import annotations

# isort: off
from . import few_slots as few_slots  # before anything else of roost

# isort: on
import argparse
import gc
import hashlib
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator

from .planted import PLANTS
from .run import Outcome, simulate

CHUNK = 10
"""Seeds that a worker takes at once."""


def one(seed: int, plant: str = "", *, tracing: bool = False) -> Outcome:
    """Run one seed; an error of the simulation itself counts as a failure of that seed."""
    try:
        if plant:
            with PLANTS[plant]():
                return simulate(seed, tracing=tracing)
        return simulate(seed, tracing=tracing)
    except Exception as error:
        return Outcome(seed, [f"the run broke off: {error!r}"], 0.0, 0)


def _chunk(work: tuple[int, int, str]) -> list[Outcome]:
    first, count, plant = work
    outcomes = [one(seed, plant) for seed in range(first, first + count)]
    gc.collect()
    return outcomes


def _begin() -> None:
    gc.collect()
    gc.freeze()  # what is there now stays: no later collection need look at it
    gc.disable()


def runs(first: int, seeds: int, *, plant: str = "", minutes: float = 0.0, workers: int = 0) -> Iterator[Outcome]:
    """The outcomes of *seeds* seeds from *first* on; of as many as fit into *minutes*, if that is given."""
    end = time.monotonic() + 60 * minutes if minutes else float("inf")
    work = ((at, min(CHUNK, first + seeds - at), plant) for at in range(first, first + seeds, CHUNK))
    with multiprocessing.get_context("fork").Pool(workers or os.cpu_count() or 1, _begin) as pool:
        for outcomes in pool.imap(_chunk, work):
            yield from outcomes
            if time.monotonic() > end:
                pool.terminate()
                return


def digest(outcome: Outcome) -> str:
    """A fingerprint of an event log."""
    return hashlib.sha256("\n".join(outcome.events).encode()).hexdigest()[:16]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds to run")
    parser.add_argument("--from", type=int, default=1, dest="first", help="the first seed")
    parser.add_argument("--minutes", type=float, default=0.0, help="stop after so many minutes")
    parser.add_argument("--workers", type=int, default=0, help="processes to use; by default one for each core")
    parser.add_argument("--plant", choices=sorted(PLANTS), default="", help="plant a defect")
    parser.add_argument("--until-found", action="store_true", help="stop at the first seed that fails")
    parser.add_argument("--trace", type=int, default=None, metavar="SEED", help="print the event log of one seed")
    parser.add_argument("--digests", action="store_true", help="print fingerprints of the event logs")
    options = parser.parse_args()
    if options.trace is not None:
        outcome = one(options.trace, options.plant, tracing=True)
        print(*outcome.events, *outcome.faults, sep="\n")
        return bool(outcome.faults)
    if options.digests:
        for seed in range(options.first, options.first + options.seeds):
            print(seed, digest(one(seed, options.plant, tracing=True)))
        return 0
    return _many(options)


def _many(options: argparse.Namespace) -> int:
    begun = time.monotonic()
    count = messages = 0
    simulated, failed = 0.0, []
    for outcome in runs(
        options.first, options.seeds, plant=options.plant, minutes=options.minutes, workers=options.workers
    ):
        count += 1
        messages += outcome.messages
        simulated += outcome.took_s
        if outcome.faults:
            failed.append(outcome.seed)
            print(f"seed {outcome.seed}:", *outcome.faults[:8], sep="\n  ", flush=True)
            if options.until_found:
                break
    took = time.monotonic() - begun
    print(
        f"{count} seeds from {options.first} in {took:.1f} s ({count / took:.1f} a second): {simulated / 3600:.1f} hours"
        f" of simulated time, {messages} messages; {len(failed)} failed: {failed}"
    )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
