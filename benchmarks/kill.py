"""Sweeps killed at random moments, then resumed: ``./reproduce.sh bench kill --rounds 20 --runs 200 --seed 0``.

In every round the driver or a worker of a fresh sweep gets one to three ``kill -9``. Exit code 1 if in any round a run
was lost, made again after it was durable, or came out different from that of an undisturbed sweep.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.runs.killing import plan, play, undisturbed


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--runs", type=int, default=200, help="of each sweep (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and victims (default 0)")
    args = parser.parse_args(argv)
    rng = random.Random(args.seed)
    expected = undisturbed(plan(args.runs))
    print("round  seconds  drivers  lost  doubled  different  killed, at so many runs done")
    bad = 0
    for i in range(args.rounds):
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            found = play(Path(folder) / "store.sqlite", args.runs, rng, expected)
        lost, doubled, different = map(len, (found.lost, found.doubled, found.different))
        print(f"{i + 1:5}  {time.monotonic() - start:7.1f}  {found.drivers:7}", end="")
        print(f"  {lost:4}  {doubled:7}  {different:9}  {', '.join(found.kills)}", flush=True)
        if found.different:
            print(f"{'':7}different in: {', '.join(sorted(set().union(*found.different.values())))}")
        bad += not found.is_good
    print(f"{args.rounds - bad} of {args.rounds} rounds: nothing lost, nothing doubled, results identical")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
