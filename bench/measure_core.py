"""Section `core`: what one launch costs the controller's core, frames included, by the number of devices."""

import json

from figures import Figures, Report, Rounds, Row
from scale import Scale
from sides import output_of
from stage import Stage

BUDGET_US = 2.0  # DESIGN.md, section 7
_BY_WORKERS = "BM_LaunchByWorkers"
_BY_GANG = "BM_LaunchByGang"
_DEVICES_PER_WORKER = 4


class Core:
    name = "core"
    about = "one launch in the controller's core, by workers of 4 devices, and by the size of a gang"
    sides = ()
    rounds = 5

    def round(self, stage: Stage, scale: Scale, number: int) -> Figures:
        """Processor time: the core waits for nothing, so what others take is no cost of its."""
        program = stage.build / "benchmarks" / "controller_core_benchmark"
        command = [program, "--benchmark_format=json", f"--benchmark_min_time={scale.core_seconds}"]
        figures: Figures = {_BY_WORKERS: {}, _BY_GANG: {}}
        for run in json.loads(output_of("controller_core_benchmark", command))["benchmarks"]:
            kind, _, size = run["name"].partition("/")
            figures[kind][size] = run["cpu_time"] / 1e3  # from nanoseconds
        return figures

    def line(self, figures: Figures) -> str:
        def costs(kind: str) -> str:
            return " ".join(f"{size}: {cost:.2f}" for size, cost in figures[kind].items())

        return f"us by workers {costs(_BY_WORKERS)}; by devices of a gang {costs(_BY_GANG)}"

    def report(self, rounds: Rounds) -> Report:
        by_workers, by_gang = (
            {size: round(rounds.median(kind, size), 3) for size in rounds.figures[0][kind]}
            for kind in (_BY_WORKERS, _BY_GANG)
        )
        rows = [
            *(
                self._row(f"core, a launch, {workers} x {_DEVICES_PER_WORKER} devices", cost, by_workers["1"])
                for workers, cost in by_workers.items()
            ),
            *(self._row(f"core, a launch, gang of {size}", cost, by_gang["1"]) for size, cost in by_gang.items()),
        ]
        return Report({"core_us_per_launch": by_workers, "core_us_per_launch_by_gang": by_gang}, rows)

    @staticmethod
    def _row(what: str, cost: float, least: float) -> Row:
        return Row(
            what,
            f"{cost:.2f} us",
            "the same, smallest",
            f"{least:.2f} us",
            f"{cost / least:.2f}",
            f"<= {BUDGET_US:.0f} us",
            cost <= BUDGET_US,
        )
