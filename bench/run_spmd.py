"""One program over several processes: Causeway beside multi-controller JAX, `make bench-spmd`.

Both sides have as many processes with devices, on this machine, and run the same code (spmd_client.py): Causeway one
client and a cluster whose workers talk over the loopback, the peer a job of processes that meet through Gloo, over the
loopback too. They take turns, round by round; beside each round stands how busy others kept the machine. Ratios are of
speeds: above 1, Causeway is faster. The last line is RESULT {json}; bench/README.md says what is in it.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from command import Outcome, carry_out, make_parser, measure, parse
from figures import Figures, Report, Rounds
from measure_spmd import QUICK, SECTIONS, SpmdScale
from spmd_sides import SpmdStage

EXAMPLES = """examples:
  python bench/run_spmd.py                         all sections, about five minutes
  python bench/run_spmd.py --only psum,step        these sections only
  python bench/run_spmd.py --only psum --rounds 15 for a machine that is not quiet
  python bench/run_spmd.py --unix                  Causeway's workers over unix sockets, as `causeway up` has it
  python bench/run_spmd.py --quick                 does it all work? (its figures mean nothing)
"""


def run(options: argparse.Namespace) -> Outcome:
    """Measures section by section, each with sides of its own."""
    rounds: dict[str, list[Figures]] = {}
    reports: dict[str, Report] = {}
    with tempfile.TemporaryDirectory(prefix="cw-spmd-", dir="/tmp") as folder:  # short, for unix sockets
        stage = SpmdStage(options.build, Path(folder), unix=options.unix)
        for section in (section for name in options.only for section in SECTIONS[name]):
            print(f"\nstarting both sides of {section.name}", flush=True)
            with section.running(stage) as sides:
                rounds[section.name] = measure(sides, options, section)
            reports[section.name] = section.report(Rounds(rounds[section.name]))
        reports["sides"] = Report({"peer_hangs": stage.hangs}, [])
    return rounds, reports


def main(arguments: Sequence[str]) -> int:
    parser = make_parser("run_spmd.py", __doc__, EXAMPLES, SECTIONS, "spmd.json")
    parser.add_argument("--unix", action="store_true", help="Causeway's workers talk over unix sockets, not TCP")
    return carry_out(parse(parser, arguments, SpmdScale(), QUICK), run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
