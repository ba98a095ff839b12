"""One program over several processes: Causeway beside multi-controller JAX, `make bench-spmd`.

Both sides have as many processes with devices, on this machine, and run the same code (spmd_client.py): Causeway one
client and a cluster whose workers talk over the loopback, the peer a job of processes that meet through Gloo, over the
loopback too. They take turns, round by round; beside each round stands how busy others kept the machine. Ratios are of
speeds: above 1, Causeway is faster. The last line is RESULT {json}; bench/README.md says what is in it.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from figures import Figures, Report, Rounds
from measure_spmd import QUICK, SECTIONS, SpmdScale
from run import conclude, measure
from sides import REPOSITORY, BenchError
from spmd_sides import SpmdStage

EXAMPLES = """examples:
  python bench/run_spmd.py                         all sections, about five minutes
  python bench/run_spmd.py --only psum,step        these sections only
  python bench/run_spmd.py --only psum --rounds 15 for a machine that is not quiet
  python bench/run_spmd.py --unix                  Causeway's workers over unix sockets, as `causeway up` has it
  python bench/run_spmd.py --quick                 does it all work? (its figures mean nothing)
"""


def run(options: argparse.Namespace) -> tuple[dict[str, list[Figures]], dict[str, Report]]:
    """Measures section by section, each with sides of its own."""
    rounds: dict[str, list[Figures]] = {}
    reports: dict[str, Report] = {}
    with tempfile.TemporaryDirectory(prefix="cw-spmd-", dir="/tmp") as folder:  # short, for unix sockets
        stage = SpmdStage(options.build, Path(folder), unix=options.unix)
        for section in (section for name in options.only for section in SECTIONS[name]):
            print(f"\nstarting both sides of {section.name}", flush=True)
            with section.running(stage) as sides:
                count = options.rounds or (1 if options.quick else section.rounds)
                rounds[section.name] = measure(sides, options.scale, section, count)
            reports[section.name] = section.report(Rounds(rounds[section.name]))
        reports["sides"] = Report({"peer_hangs": stage.hangs}, [])
    return rounds, reports


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="bench/run_spmd.py",
    )
    parser.add_argument("--only", metavar="SECTION,...", help=f"which sections: {', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--rounds", type=int, help="rounds of each section (default: what each needs)")
    parser.add_argument("--quick", action="store_true", help="one tiny round each, to see that all works")
    parser.add_argument("--unix", action="store_true", help="Causeway's workers talk over unix sockets, not TCP")
    parser.add_argument("--build", type=Path, default=REPOSITORY / "build" / "release", help="what is measured")
    parser.add_argument("--json", type=Path, help="where all rounds go (default: build/bench/spmd.json)")
    options = parser.parse_args(arguments)
    options.only = options.only.split(",") if options.only else list(SECTIONS)
    for name in options.only:
        if name not in SECTIONS:
            parser.error(f"no section {name!r}; there are {', '.join(SECTIONS)}")
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds is at least 1")
    options.scale = QUICK if options.quick else SpmdScale()
    options.json = options.json or REPOSITORY / "build" / "bench" / "spmd.json"
    return options


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    began = time.monotonic()
    try:
        conclude(options, *run(options), time.monotonic() - began)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
