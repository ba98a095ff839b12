"""What Causeway costs, beside its peers: `make bench`.

Every section measures Causeway and what it is compared with in turns, round by round, and prints how busy others kept
the machine meanwhile. The figures of one run belong together: its ratios say something, one machine's microseconds on
one day do not. At the end comes a table with ratios and budgets (DESIGN.md, section 7); all rounds go to a JSON file;
the last line is RESULT {json}. bench/README.md says what is in it.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from command import Outcome, carry_out, make_parser, measure, parse
from figures import Figures, Rounds
from measure_buffers import Buffers
from measure_copies import Copies
from measure_core import Core
from measure_fetch import Fetch
from measure_launch import Launch
from measure_transfer import Transfers
from scale import QUICK, Scale
from stage import Stage

SECTIONS = {section.name: section for section in (Launch(), Core(), Fetch(), Transfers(), Buffers(), Copies())}

EXAMPLES = """examples:
  python bench/run.py                             all sections, about five minutes
  python bench/run.py --only launch,fetch         these sections only
  python bench/run.py --only launch --rounds 20   for a machine that is not quiet
  python bench/run.py --quick                     does it all work? (its figures mean nothing)
"""


def run(options: argparse.Namespace) -> Outcome:
    """Starts what the sections need, measures, and ends all of it."""
    sections = [SECTIONS[name] for name in options.only]
    sides = {side for section in sections for side in section.sides}
    rounds: dict[str, list[Figures]] = {}
    with tempfile.TemporaryDirectory(prefix="cw-bench-", dir="/tmp") as folder:  # short, for unix sockets
        stage = Stage(options.build, Path(folder))
        try:
            print(f"starting {', '.join(sorted(sides)) or 'nothing'}", flush=True)
            stage.start(sides)
            for section in sections:
                rounds[section.name] = measure(stage, options, section)
        finally:
            stage.stop()
    return rounds, {section.name: section.report(Rounds(rounds[section.name])) for section in sections}


def main(arguments: Sequence[str]) -> int:
    parser = make_parser("run.py", __doc__, EXAMPLES, SECTIONS, "result.json")
    return carry_out(parse(parser, arguments, Scale(), QUICK), run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
