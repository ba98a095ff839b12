"""Runs JAX's own tests through Causeway and compares with stock CPU JAX: `make conformance`.

    python tests/conformance/run.py                          the files that must hold
    python tests/conformance/run.py --files dtypes_test      others
    python tests/conformance/run.py --quick                  a few tests of each file, in about a minute
    python tests/conformance/run.py --only-failed            again what failed when the files ran last
    python tests/conformance/run.py --hosts 4 --devices 2 --files shard_map_test pjit_test pmap_test
                                                             on a cluster of 4 workers, over which programs lie
    CAUSEWAY_ADDRESS=grpc://HOST:PORT python tests/...       a cluster that runs already (it needs 8 devices)

Exit status: 0 if at least 98 % of what passes on stock and the client can do passes here; 1 if less; 2 if it could not
run.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conformance import limits, report
from conformance.progress import Board
from conformance.runs import Runs
from conformance.session import Outcome, Selection
from conformance.suite import BUILD, DEVICES, SuiteError, causeway, unpack

FILES = (
    "array_test",
    "pjit_test",
    "shard_map_test",
    "pmap_test",
    "multi_device_test",
    "jax_jit_test",
    "aot_test",
    "lax_control_flow_test",
    "mutable_array_test",
    "layout_test",
    "batching_test",
    "random_test",
    "nn_test",
    "api_test",
    "lax_test",
    "lax_numpy_test",
)
QUICK = Path(__file__).with_name("quick.txt")
FAILURES = BUILD / "failures.txt"


def selections(options: argparse.Namespace, root: Path) -> list[Selection]:
    """Returns what the command line asks for, one selection for each pytest process."""
    stems = [Path(name).name.removesuffix(".py") for name in options.files]
    if options.quick:
        names = QUICK.read_text(encoding="utf-8").splitlines()
        return [Selection("quick", [f"tests/{name}" for name in names if name.partition(".py")[0] in stems])]
    for stem in stems:
        if not (root / "tests" / f"{stem}.py").exists():
            raise SuiteError(f"no file tests/{stem}.py among JAX's tests; see {root / 'tests'}")
    return [Selection(stem, [f"tests/{stem}.py"]) for stem in stems]


def say_results(
    stock: Mapping[str, Outcome],
    here: Mapping[str, Outcome],
    known: Sequence[limits.Limit],
    options: argparse.Namespace,
) -> bool:
    """Prints the comparison, RESULT last; returns whether it is good enough. Tracebacks go to a file."""
    counts = report.compare(stock, here, known)
    everything = report.total(counts)
    print()
    print("\n".join(report.table(counts) + report.details(everything)))
    FAILURES.write_text(
        "\n".join(f"--- {name}\n{outcome.error}\n{outcome.text}\n" for name, outcome in everything.failed.items()),
        encoding="utf-8",
    )
    stale = []
    if not options.quick:  # else there is more to a file's excuses than these tests can tell
        stale = limits.stale(known, here, [name for name, outcome in stock.items() if outcome.passed])
    if stale:
        print("\nExcuses in client_limits.toml that excuse nothing; take them out:")
        print("\n".join(f"  {sentence}" for sentence in stale))
    print(f"\nTracebacks: {FAILURES}; output of pytest: {BUILD / 'logs'}")
    result = report.as_json(counts) | {"stale_excuses": len(stale), "whole_run": not options.only_failed}
    print(f"RESULT {json.dumps(result)}", flush=True)
    return everything.ratio >= report.REQUIRED_RATIO


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="tests/conformance/run.py"
    )
    parser.add_argument("--files", nargs="+", default=FILES, metavar="FILE", help=f"default: {' '.join(FILES)}")
    parser.add_argument("--quick", action="store_true", help="only those of their tests that quick.txt names")
    parser.add_argument("--islands", type=int, default=1, metavar="N", help="of Causeway's cluster; default: 1")
    parser.add_argument("--hosts", type=int, default=1, metavar="N", help="workers in each island; default: 1")
    parser.add_argument("--devices", type=int, default=DEVICES, metavar="N", help=f"of each worker; default: {DEVICES}")
    parser.add_argument("--rerun-stock", action="store_true", help="do not use the yardstick of an earlier run")
    parser.add_argument(
        "--only-failed", action="store_true", help="here, only what did not pass last time; the rest counts as it did"
    )
    jobs = min(2, os.cpu_count() or 1)
    parser.add_argument("--jobs", type=int, default=jobs, metavar="N", help=f"files at once; default here: {jobs}")
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error("--jobs wants a positive number")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # either way no child is left behind
    try:
        side = causeway(options.islands, options.hosts, options.devices)
        root = unpack()
        known = limits.load()
        stock, here = Runs(root, Board(), options.jobs, side).both(
            selections(options, root), known, rerun_stock=options.rerun_stock, only_failed=options.only_failed
        )
        return 0 if say_results(stock, here, known, options) else 1
    except SuiteError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nconformance: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
