"""What Causeway costs, beside its peers: `make bench`.

Every section measures Causeway and what it is compared with in turns, round by round, and prints how busy others kept
the machine meanwhile. The figures of one run belong together: its ratios say something, one machine's microseconds on
one day do not. At the end comes a table with ratios and budgets (DESIGN.md, section 7); all rounds go to a JSON file;
the last line is RESULT {json}. bench/README.md says what is in it.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from figures import Figures, Report, Rounds, show
from machine import OthersWatch
from measure_buffers import Buffers
from measure_copies import Copies
from measure_core import Core
from measure_fetch import Fetch
from measure_launch import Launch
from measure_transfer import Transfers
from scale import QUICK, Scale
from sides import REPOSITORY, BenchError
from stage import Stage

SECTIONS = {section.name: section for section in (Launch(), Core(), Fetch(), Transfers(), Buffers(), Copies())}
QUIET = 0.15  # processors that others may keep busy in a quiet round

EXAMPLES = """examples:
  python bench/run.py                             all sections, about five minutes
  python bench/run.py --only launch,fetch         these sections only
  python bench/run.py --only launch --rounds 20   for a machine that is not quiet
  python bench/run.py --quick                     does it all work? (its figures mean nothing)
"""


def measure(stage: Stage, scale: Scale, section: Any, count: int) -> list[Figures]:
    """Takes the rounds of one section. Prints a line a round."""
    rounds = []
    print(f"\n{section.name}: {section.about}", flush=True)
    for number in range(1, count + 1):
        watch = OthersWatch()
        figures = section.round(stage, scale, number)
        figures["others"] = round(watch.busy_processors(), 2)
        rounds.append(figures)
        print(f"  {number:2}/{count}  {section.line(figures)}  (others {figures['others']:.2f} CPU)", flush=True)
    return rounds


def run(options: argparse.Namespace) -> tuple[dict[str, list[Figures]], dict[str, Report]]:
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
                count = options.rounds or (1 if options.quick else section.rounds)
                rounds[section.name] = measure(stage, options.scale, section, count)
        finally:
            stage.stop()
    return rounds, {section.name: section.report(Rounds(rounds[section.name])) for section in sections}


def conclude(options: argparse.Namespace, rounds: dict[str, list[Figures]], reports: dict[str, Report], took_s: float):
    """Prints the table for people, writes the file, and prints the line for programs."""
    rows = [row for report in reports.values() for row in report.rows]
    others = [figures["others"] for figures_of_section in rounds.values() for figures in figures_of_section]
    result: dict[str, Any] = {}
    for report in reports.values():
        result |= report.result
    result |= {
        "budget_met": all(row.met is not False for row in rows),
        "budgets_missed": sorted({row.what for row in rows if row.met is False}),
        "rounds": len(others),
        "quiet_rounds": sum(busy <= QUIET for busy in others),
    }
    print()
    show(rows)
    one, five, _ = os.getloadavg()
    print(
        f"\n{took_s:.0f} s; load average {one:.2f} (1 min) {five:.2f} (5 min) on {os.cpu_count()} processors; "
        f"others kept {max(others):.2f} processors busy in the worst round"
        + ("" if result["quiet_rounds"] == result["rounds"] else "  THE MACHINE WAS NOT QUIET: run it again")
    )
    whole = {
        "machine": {"processors": os.cpu_count(), "kernel": platform.release(), "ended": time.strftime("%FT%T%z")},
        "scale": repr(options.scale),
        "sections": rounds,
        "result": result,
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(f"all rounds: {options.json}")
    print(f"RESULT {json.dumps(result)}", flush=True)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter, prog="bench/run.py"
    )
    parser.add_argument("--only", metavar="SECTION,...", help=f"which sections: {', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--rounds", type=int, help="rounds of each section (default: what each needs)")
    parser.add_argument("--quick", action="store_true", help="one tiny round each, to see that all works")
    parser.add_argument("--build", type=Path, default=REPOSITORY / "build" / "release", help="what is measured")
    parser.add_argument("--json", type=Path, help="where all rounds go (default: build/bench/result.json)")
    options = parser.parse_args(arguments)
    options.only = options.only.split(",") if options.only else list(SECTIONS)
    for name in options.only:
        if name not in SECTIONS:
            parser.error(f"no section {name!r}; there are {', '.join(SECTIONS)}")
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds is at least 1")
    options.scale = QUICK if options.quick else Scale()
    options.json = options.json or REPOSITORY / "build" / "bench" / "result.json"
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
