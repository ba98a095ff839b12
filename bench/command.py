"""What the benchmarks that start their own sides share: their options, the order of things, the exit status."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from figures import Figures, Report, Rounds
from run import conclude, measure
from sides import REPOSITORY, BenchError

Outcome = tuple[dict[str, list[Figures]], dict[str, Report]]


class Command:
    """One benchmark, `bench/run_NAME.py`. Each of its sections has `running(stage, scale)`, a context with what its
    rounds need; `stage(build, folder)` makes what the sections start theirs with, and has `stop()`."""

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
        self._name = name
        self._sections = sections
        self._scale = scale
        self._quick = quick
        self._stage = stage
        self._parser = argparse.ArgumentParser(
            description=about,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            prog=f"bench/run_{name}.py",
        )
        add = self._parser.add_argument
        add("--only", metavar="SECTION,...", help=f"which sections: {', '.join(sections)} (default: all)")
        add("--rounds", type=int, help="rounds of each section (default: what each needs)")
        add("--quick", action="store_true", help="one tiny round each, to see that all works")
        add("--build", type=Path, default=REPOSITORY / "build" / "release", help="what is measured")
        add("--json", type=Path, help=f"where all rounds go (default: build/bench/{name}.json)")

    def main(self, arguments: Sequence[str]) -> int:
        """Runs the benchmark. Returns the exit status: 0 says that it could measure."""
        options = self._parse(arguments)
        began = time.monotonic()
        try:
            conclude(options, *self._run(options), time.monotonic() - began)
        except BenchError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("bench: interrupted", file=sys.stderr)
            return 130
        return 0

    def _parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        options = self._parser.parse_args(arguments)
        options.only = options.only.split(",") if options.only else list(self._sections)
        for name in options.only:
            if name not in self._sections:
                self._parser.error(f"no section {name!r}; there are {', '.join(self._sections)}")
        if options.rounds is not None and options.rounds < 1:
            self._parser.error("--rounds is at least 1")
        options.scale = self._quick if options.quick else self._scale
        options.json = options.json or REPOSITORY / "build" / "bench" / f"{self._name}.json"
        return options

    def _run(self, options: argparse.Namespace) -> Outcome:
        rounds: dict[str, list[Figures]] = {}
        reports: dict[str, Report] = {}
        with tempfile.TemporaryDirectory(prefix="cw-", dir="/tmp") as folder:  # short, for unix sockets
            stage = self._stage(options.build, Path(folder))
            try:
                for section in (self._sections[name] for name in options.only):
                    print(f"\nstarting what {section.name} needs", flush=True)
                    with section.running(stage, options.scale) as sides:
                        count = options.rounds or (1 if options.quick else section.rounds)
                        rounds[section.name] = measure(sides, options.scale, section, count)
                    reports[section.name] = section.report(Rounds(rounds[section.name]))
            finally:
                stage.stop()
        return rounds, reports
