"""Random SPMD programs on a cluster and on stock JAX, compared: python -m tests.spmd.differential

    python -m tests.spmd.differential                      288 cases of seed 0 on 4 workers x 2 devices
    ... --seed 7 --cases 100-149                           some cases of another seed
    ... --seed 7 --case 123                                one of them again
    ... --seed 7 --case 123 --show                         only print it: what it is, and its program as StableHLO
    ... --family psum --cases 0-999                        those of families whose name has `psum`
    ... --hosts 1 --devices 8                              another cluster
    CAUSEWAY_ADDRESS=HOST:PORT python -m ...               a cluster that runs already (it needs 8 devices)

Run it in the repository's folder. Case n of a seed is always the same program on the same inputs. Exit status: 0 if all
agree, 1 if some differ.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence

DEFAULT_CASES = 288  # three of each family


def span(text: str) -> range:
    """A-B, both included, or one number."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m tests.spmd.differential",
    )
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--case", type=int, metavar="N", help="this one")
    chosen.add_argument(
        "--cases", type=span, metavar="A-B", default=range(DEFAULT_CASES), help=f"default: 0-{DEFAULT_CASES - 1}"
    )
    parser.add_argument("--family", metavar="WORD", help="only those of families that have this in their name")
    parser.add_argument("--show", action="store_true", help="print the cases instead of running them")
    parser.add_argument("--timeout", type=float, default=90, metavar="S", help="for each case (default: 90)")
    parser.add_argument("--islands", type=int, default=1)
    parser.add_argument("--hosts", type=int, default=4, help="workers in each island (default: 4)")
    parser.add_argument("--devices", type=int, default=2, help="of each worker (default: 2)")
    return parser.parse_args(arguments)


def show(seed: int, numbers: Sequence[int]) -> None:
    """Prints cases with their programs, as stock JAX lowers them."""
    os.environ.update(JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES="8")
    import jax

    from .cases import is_wide, make

    for number in numbers:
        with jax.enable_x64(is_wide(number)):
            case = make(seed, number, jax.devices())
            print(f"case {number} of seed {seed}\n{case.text}\n")
            if case.program.how == "jit":
                with jax.set_mesh(case.mesh) if case.explicit else contextlib.nullcontext():
                    print(case.compiled().lower(*case.arguments()).as_text())


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    from .cases import family_of
    from .runs import cluster, report, run_both

    numbers = [options.case] if options.case is not None else list(options.cases)
    if options.family:
        numbers = [number for number in numbers if options.family in family_of(number)]
    if not numbers:
        print("no such case", file=sys.stderr)
        return 2
    if options.show:
        show(options.seed, numbers)
        return 0

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # either way no child is left behind
    began = time.monotonic()

    def progress(side: str, number: int) -> None:
        end = "\r" if sys.stdout.isatty() else "\n"
        if sys.stdout.isatty() or number == numbers[0] or numbers.index(number) % 25 == 0:
            print(
                f"{time.monotonic() - began:6.1f} s  {side}: case {number}, {family_of(number):40}", end=end, flush=True
            )

    here = cluster(options.islands, options.hosts, options.devices)
    found = run_both(options.seed, numbers, here, timeout_s=options.timeout, progress=progress)
    differing = [number for number in numbers if found[number]]
    for number in differing:
        print(f"\n{report(options.seed, number, found[number])}")
    print(
        f"\n{len(numbers) - len(differing)} of {len(numbers)} cases of seed {options.seed} agree "
        f"({options.islands} islands x {options.hosts} workers x {options.devices} devices; "
        f"{time.monotonic() - began:.0f} s)" + (f"; these differ: {differing}" if differing else "")
    )
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
