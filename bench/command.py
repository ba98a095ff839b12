"""What the benchmarks share: their options, how rounds are taken, the result, the exit status."""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from figures import Figures, Report, Rounds, show
from machine import OthersWatch
from sides import REPOSITORY, BenchError

QUIET = 0.15  # processors that others may keep busy in a quiet round

Outcome = tuple[dict[str, list[Figures]], dict[str, Report]]


def measure(stage: Any, options: argparse.Namespace, section: Any) -> list[Figures]:
    """Takes the rounds of one section. Prints a line a round."""
    count = options.rounds or (1 if options.quick else section.rounds)
    rounds = []
    print(f"\n{section.name}: {section.about}", flush=True)
    for number in range(1, count + 1):
        watch = OthersWatch()
        figures = section.round(stage, options.scale, number)
        figures["others"] = round(watch.busy_processors(), 2)
        rounds.append(figures)
        print(f"  {number:2}/{count}  {section.line(figures)}  (others {figures['others']:.2f} CPU)", flush=True)
    return rounds


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


def make_parser(
    prog: str, about: str | None, examples: str, sections: Mapping[str, Any], file: str
) -> argparse.ArgumentParser:
    """The options that all benchmarks have; `file` is where all rounds go if nobody says."""
    parser = argparse.ArgumentParser(
        description=about, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter, prog=f"bench/{prog}"
    )
    add = parser.add_argument
    add("--only", metavar="SECTION,...", help=f"which sections: {', '.join(sections)} (default: all)")
    add("--rounds", type=int, help="rounds of each section (default: what each needs)")
    add("--quick", action="store_true", help="one tiny round each, to see that all works")
    add("--build", type=Path, default=REPOSITORY / "build" / "release", help="what is measured")
    add("--json", type=Path, help=f"where all rounds go (default: build/bench/{file})")
    parser.set_defaults(sections=sections, file=file)
    return parser


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str], scale: Any, quick: Any) -> argparse.Namespace:
    """Options as in make_parser, checked; with `scale`, which is `quick` where that was asked for."""
    options = parser.parse_args(arguments)
    options.only = options.only.split(",") if options.only else list(options.sections)
    for name in options.only:
        if name not in options.sections:
            parser.error(f"no section {name!r}; there are {', '.join(options.sections)}")
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds is at least 1")
    options.scale = quick if options.quick else scale
    options.json = options.json or REPOSITORY / "build" / "bench" / options.file
    return options


def carry_out(options: argparse.Namespace, run: Callable[[argparse.Namespace], Outcome]) -> int:
    """Runs a benchmark. Returns the exit status: 0 says that it could measure."""
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


class Command:
    """A benchmark that starts its own sides, `bench/run_NAME.py`. Each of its sections has `running(stage, scale)`, a
    context with what its rounds need; `stage(build, folder)` makes what the sections start theirs with, and has
    `stop()`."""

    def __init__(
        self,
        name: str,
        *,
        about: str,
        examples: str,
        sections: Mapping[str, Any],
        scale: Any,
        quick: Any,
        stage: Callable[[Path, Path], Any],
    ):
        self._sections = sections
        self._scale = scale
        self._quick = quick
        self._stage = stage
        self._parser = make_parser(f"run_{name}.py", about, examples, sections, f"{name}.json")

    def main(self, arguments: Sequence[str]) -> int:
        """Runs the benchmark. Returns the exit status."""
        return carry_out(parse(self._parser, arguments, self._scale, self._quick), self._run)

    def _run(self, options: argparse.Namespace) -> Outcome:
        rounds: dict[str, list[Figures]] = {}
        reports: dict[str, Report] = {}
        with tempfile.TemporaryDirectory(prefix="cw-", dir="/tmp") as folder:  # short, for unix sockets
            stage = self._stage(options.build, Path(folder))
            try:
                for section in (self._sections[name] for name in options.only):
                    print(f"\nstarting what {section.name} needs", flush=True)
                    with section.running(stage, options.scale) as sides:
                        rounds[section.name] = measure(sides, options, section)
                    reports[section.name] = section.report(Rounds(rounds[section.name]))
            finally:
                stage.stop()
        return rounds, reports
