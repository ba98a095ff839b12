"""Runs JAX's own tests through Causeway and compares with stock CPU JAX: `make conformance`.

    python tests/conformance/run.py                          the files that must hold
    python tests/conformance/run.py --files lax_test         others
    python tests/conformance/run.py --quick                  a few tests of each file, in under a minute
    CAUSEWAY_ADDRESS=grpc://HOST:PORT python tests/...       a cluster that runs already (it needs 8 devices)

Exit status: 0 if at least 95 % of what passes on stock and the client can do passes here; 1 if less; 2 if it could not
run.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conformance import limits, report
from conformance.session import Outcome, Selection, run, run_cached
from conformance.suite import BUILD, CAUSEWAY, STOCK, Side, SuiteError, unpack

FILES = ("array_test", "multi_device_test", "jax_jit_test", "pmap_test", "random_test")
QUICK = Path(__file__).with_name("quick.txt")
FAILURES = BUILD / "failures.txt"
_LINE_EVERY_S = 10.0  # of progress, where the output is not a terminal


class ProgressLine:
    """Says how far a selection is: over and over on one line of a terminal, now and then in a log."""

    def __init__(self, side: Side, selection: Selection):
        self._title = f"{selection.label} on {side.name}"
        self._began = self._said = time.monotonic()
        self._counts = (0, 0, 0)

    def __call__(self, settled: int, planned: int, failed: int):
        self._counts = (settled, planned, failed)
        if sys.stdout.isatty():
            print(f"\r\033[K{self._text()}", end="", flush=True)
        elif time.monotonic() - self._said >= _LINE_EVERY_S:
            self._said = time.monotonic()
            print(self._text(), flush=True)

    def done(self):
        """Leaves the last state standing."""
        print(("\r\033[K" if sys.stdout.isatty() else "") + self._text(), flush=True)

    def _text(self) -> str:
        settled, planned, failed = self._counts
        if not planned:
            return f"{self._title}: as an earlier run found it"
        elapsed = time.monotonic() - self._began
        return f"{self._title}: {settled} of {planned} tests, {failed} failed, {elapsed:.0f} s"


def selections(options: argparse.Namespace, root: Path) -> list[Selection]:
    """Returns what the command line asks for, one selection for each pytest process."""
    if options.quick:
        return [Selection("quick", [f"tests/{name}" for name in QUICK.read_text(encoding="utf-8").splitlines()])]
    stems = [Path(name).name.removesuffix(".py") for name in options.files]
    for stem in stems:
        if not (root / "tests" / f"{stem}.py").exists():
            raise SuiteError(f"no file tests/{stem}.py among JAX's tests; see {root / 'tests'}")
    return [Selection(stem, [f"tests/{stem}.py"]) for stem in stems]


def run_sides(options: argparse.Namespace) -> tuple[dict[str, Outcome], dict[str, Outcome]]:
    """Runs everything on the yardstick and here, one process after the other, and returns both results."""
    root = unpack()
    stock: dict[str, Outcome] = {}
    here: dict[str, Outcome] = {}
    for selection in selections(options, root):
        line = ProgressLine(STOCK, selection)
        stock |= run_cached(STOCK, root, selection, line, again=options.rerun_stock)
        line.done()
        line = ProgressLine(CAUSEWAY, selection)
        here |= run(CAUSEWAY, root, selection, line)
        line.done()
    return stock, here


def say_results(stock: dict[str, Outcome], here: dict[str, Outcome], whole_files: bool) -> bool:
    """Prints the comparison, RESULT last; returns whether it is good enough. Tracebacks go to a file."""
    known = limits.load()
    counts = report.compare(stock, here, known)
    everything = report.total(counts)
    print()
    print("\n".join(report.table(counts) + report.details(everything)))
    FAILURES.write_text(
        "\n".join(f"--- {name}\n{outcome.error}\n{outcome.text}\n" for name, outcome in everything.failed.items()),
        encoding="utf-8",
    )
    stale = []
    if whole_files:  # else there is more to a file's excuses than these tests can tell
        stale = limits.stale(known, here, [name for name, outcome in stock.items() if outcome.passed])
    if stale:
        print("\nExcuses in client_limits.toml that excuse nothing; take them out:")
        print("\n".join(f"  {sentence}" for sentence in stale))
    print(f"\nTracebacks: {FAILURES}; output of pytest: {BUILD / 'logs'}")
    result = report.as_json(counts) | {"stale_excuses": len(stale)}
    print(f"RESULT {json.dumps(result)}", flush=True)
    return everything.ratio >= report.REQUIRED_RATIO


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="tests/conformance/run.py"
    )
    parser.add_argument("--files", nargs="+", default=FILES, metavar="FILE", help=f"default: {' '.join(FILES)}")
    parser.add_argument("--quick", action="store_true", help="only the tests that quick.txt names")
    parser.add_argument("--rerun-stock", action="store_true", help="do not use the yardstick of an earlier run")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # either way no child is left behind
    try:
        return 0 if say_results(*run_sides(options), whole_files=not options.quick) else 1
    except SuiteError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nconformance: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
