"""Sections of the pipelines' benchmark: GPipe's filling and draining, forward only, with the timed runtime."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from figures import Figures, Report, Rounds, Row, in_turn, median
from machine import OthersWatch
from sides import BenchError
from tenants import percent
from timed_sides import GangClient, TimedStage

_SIDES = ("parallel", "sequential")
_KIB = 256  # of an activation
_IMPOSSIBLE = 0.99  # of the ideal time


@dataclass(frozen=True)
class Pipeline:
    """So many stages, one a worker, and so many micro-batches."""

    stages: int
    micro_batches: int

    def ideal_s(self, stage_ms: int) -> float:
        """From the first micro-batch's beginning to the last one's end, where nothing but stages takes time."""
        return (self.stages + self.micro_batches - 1) * stage_ms / 1e3

    def __str__(self) -> str:
        return f"{self.stages}x{self.micro_batches}"


@dataclass(frozen=True)
class PipelineScale:
    """What is really run of each pipeline, and how often in a round."""

    shapes: dict[str, Pipeline] = field(default_factory=dict)
    times: int = 3

    def of(self, pipeline: Pipeline) -> Pipeline:
        return self.shapes.get(str(pipeline), pipeline)


QUICK = PipelineScale({"4x16": Pipeline(2, 3), "16x64": Pipeline(4, 6), "16x1": Pipeline(4, 1)}, times=1)


class Pipelined:
    """One pipeline on two clusters that differ in their dispatch."""

    rounds = 5

    def __init__(self, pipeline: Pipeline, budgets: dict[int, float | None]):
        self.name = str(pipeline)
        self.about = (
            f"{pipeline.stages} stages, one a worker, and {pipeline.micro_batches} "
            f"micro-batch{'es' if pipeline.micro_batches > 1 else ''}"
        )
        self._pipeline = pipeline
        self._budgets = budgets  # by milliseconds of a stage; None: there is none

    @contextmanager
    def running(self, stage: TimedStage, scale: PipelineScale) -> Iterator[dict[str, GangClient]]:
        stages = scale.of(self._pipeline).stages
        clusters = {
            side: stage.cluster(f"{stages} islands, {side} dispatch", islands=stages, flags=("--dispatch", side))
            for side in _SIDES
        }
        clients = {}
        for side, cluster in clusters.items():
            cluster.add_clients({side: 1})
            clients[side] = cluster.clients[side]
        yield clients
        for cluster in clusters.values():
            cluster.stop()

    def round(self, clients: dict[str, GangClient], scale: PipelineScale, number: int) -> Figures:
        pipeline = scale.of(self._pipeline)
        figures: Figures = {side: {} for side in _SIDES}
        for ms in self._budgets:
            if number == 1:
                for client in clients.values():
                    client.do("prepare_pipeline", stages=pipeline.stages, us=ms * 1000, kib=_KIB)
            for side in [side for turn in range(scale.times) for side in in_turn(_SIDES, number + turn)]:
                watch = OthersWatch()
                ran = clients[side].do("pipeline", us=ms * 1000, micro_batches=pipeline.micro_batches)
                of_side = figures[side].setdefault(str(ms), {"ratio": [], "dispatch_s": [], "cpu": []})
                if ran["seconds"] < _IMPOSSIBLE * pipeline.ideal_s(ms):
                    raise BenchError(f"{pipeline} with stages of {ms} ms took only {ran['seconds']:.3f} s")
                of_side["ratio"].append(round(pipeline.ideal_s(ms) / ran["seconds"], 4))
                of_side["dispatch_s"].append(round(ran["dispatch_seconds"], 4))
                of_side["cpu"].append(round(watch.own_processors(), 2))
        return figures

    def line(self, figures: Figures) -> str:
        texts = []
        for ms in map(str, self._budgets):
            parallel, sequential = (figures[side][ms] for side in _SIDES)
            loop, cores = median(parallel["dispatch_s"]), median(parallel["cpu"])
            texts.append(
                f"{ms} ms: {percent(median(parallel['ratio']))} of the ideal (loop {loop:.2f} s, cores {cores:.2f}), "
                f"sequential {percent(median(sequential['ratio']))}"
            )
        return "; ".join(texts)

    def report(self, rounds: Rounds) -> Report:
        result, rows = {}, []
        for ms, budget in self._budgets.items():
            ratio = {side: rounds.median(side, str(ms), "ratio") for side in _SIDES}
            gain = rounds.ratio(("parallel", str(ms), "ratio"), ("sequential", str(ms), "ratio"))
            suffix = "" if ms == 20 else f"_{ms}ms"
            result |= {
                f"pipeline_{self.name}{suffix}_ratio": round(ratio["parallel"], 4),
                f"sequential_{self.name}{suffix}_ratio": round(ratio["sequential"], 4),
                f"pipeline_{self.name}{suffix}_dispatch_s": round(rounds.median("parallel", str(ms), "dispatch_s"), 4),
                f"pipeline_{self.name}{suffix}_cpu": round(rounds.median("parallel", str(ms), "cpu"), 2),
            }
            rows.append(
                Row(
                    f"pipeline {self.name}, stages of {ms} ms, of the ideal",
                    percent(ratio["parallel"]),
                    "sequential dispatch",
                    percent(ratio["sequential"]),
                    f"{gain:.2f} x",
                    "" if budget is None else f">= {budget:.0%}",
                    None if budget is None else ratio["parallel"] >= budget,
                )
            )
        if self.name == "16x64":
            result["sequential_ratio"] = result["sequential_16x64_5ms_ratio"]
        return Report(result, rows)


_BUDGETS = {20: 0.97, 5: 0.90}  # DESIGN.md, section 7, and the goal for short stages
# One micro-batch alone waits for every hop, of which nothing hides behind what others compute.
_ALONE = Pipelined(Pipeline(16, 1), {1: None})
SECTIONS = {
    section.name: section
    for section in (*(Pipelined(shape, _BUDGETS) for shape in (Pipeline(4, 16), Pipeline(16, 64))), _ALONE)
}
