"""Long runs of the simulation: ``python -m tests.simulation --seeds 10000``, or for as long as there is time.

Prints the seeds that have failed, with what was wrong, and how many runs there were a second. ``--trace SEED`` prints
the event log of one run; ``--plant NAME`` plants a defect (``planted``) and shows what finds it.
"""

from __future__ import annotations

# isort: off
from . import few_slots as few_slots  # before anything else of roost

# isort: on
import argparse
import contextlib
import gc
import hashlib
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

from .plan import THEMES
from .planted import PLANTS
from .run import Outcome, simulate

CHUNK = 10
"""Seeds that a worker takes at once."""


def one(seed: int, plant: str = "", theme: str = "", *, tracing: bool = False) -> Outcome:
    """Run one seed; an error of the simulation itself counts as a failure of that seed."""
    try:
        with PLANTS[plant].plant() if plant else contextlib.nullcontext():
            return simulate(seed, theme=theme, tracing=tracing)
    except Exception as error:
        return Outcome(seed, [f"the run broke off: {error!r}"])


def _chunk(work: tuple[int, int, str, str]) -> list[Outcome]:
    first, count, plant, theme = work
    outcomes = [one(seed, plant, theme) for seed in range(first, first + count)]
    gc.collect()
    return outcomes


def _begin() -> None:
    gc.collect()
    gc.freeze()  # what is there now stays: no later collection need look at it
    gc.disable()


def runs(options: argparse.Namespace) -> Iterator[Outcome]:
    """The outcomes of as many seeds as the options ask for, or as there is time for."""
    end = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    last, chunk = options.first + options.seeds, 2 if options.until_found else CHUNK
    work = ((at, min(chunk, last - at), options.plant, options.theme) for at in range(options.first, last, chunk))
    with multiprocessing.get_context("fork").Pool(options.workers or os.cpu_count() or 1, _begin) as pool:
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
    parser.add_argument("--plant", choices=["", *PLANTS], default="", help="plant a defect")
    parser.add_argument("--theme", choices=["", *THEMES], default="", help="what runs are full of")
    parser.add_argument("--until-found", action="store_true", help="stop at the first seed that fails")
    parser.add_argument("--trace", type=int, default=None, metavar="SEED", help="print the event log of one seed")
    parser.add_argument("--tally", action="store_true", help="print how much of what there was")
    parser.add_argument("--digests", action="store_true", help="print fingerprints of the event logs")
    options = parser.parse_args()
    if options.trace is not None:
        outcome = one(options.trace, options.plant, options.theme, tracing=True)
        print(*outcome.events, *outcome.faults, sep="\n")
        return bool(outcome.faults)
    if options.digests:
        for seed in range(options.first, options.first + options.seeds):
            print(seed, digest(one(seed, options.plant, options.theme, tracing=True)))
        return 0
    return _many(options)


def _many(options: argparse.Namespace) -> int:
    begun = time.monotonic()
    count, tally = 0, Counter[str]()
    simulated, failed = 0.0, []
    for outcome in runs(options):
        count += 1
        tally.update(outcome.tally)
        simulated += outcome.took_s
        if outcome.faults:
            failed.append(outcome.seed)
            print(f"seed {outcome.seed}:", *outcome.faults[:8], sep="\n  ", flush=True)
            if options.until_found:
                break
    took = time.monotonic() - begun
    if options.tally:
        print(*(f"  {what} {number}" for what, number in sorted(tally.items())), sep="\n")
    print(
        f"{count} seeds from {options.first} in {took:.1f} s ({count / took:.1f} a second): "
        f"{simulated / 3600:.1f} hours of simulated time, {tally['messages']} messages; {len(failed)} failed: {failed}"
    )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
