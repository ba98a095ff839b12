"""Sections of the SPMD benchmark: programs over several processes, on a cluster and as a multi-controller job."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from figures import Figures, Report, Rounds, Row, bytes_per_s, in_turn, median, us
from sides import BenchError
from spmd_sides import Ours, Peers, Shape, SpmdStage

FUSED = 128  # as in spmd_client.py
_SIDES = ("causeway", "peer")
_PEER = "multi-controller JAX"
_MEBIBYTES = 64
_LOSS_APART = 1e-3


@dataclass(frozen=True)
class SpmdScale:
    """How much is measured in a round."""

    ahead: int = 2000  # launches that nobody waits for, Causeway's
    peer_ahead: int = 300  # the peer's, which is much slower
    waited: int = 200
    fused: int = 4
    allreduces: int = 3
    megabytes: int = _MEBIBYTES
    steps: int = 3


QUICK = SpmdScale(ahead=20, peer_ahead=10, waited=5, fused=1, allreduces=1, megabytes=1, steps=1)


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _times(value: float) -> str:
    return f"{value:.2f} x"


class _Pair:
    """A section that keeps both sides at one shape through its rounds."""

    shape: Shape
    prepares: str | None

    @contextmanager
    def running(self, stage: SpmdStage) -> Iterator[dict[str, Ours | Peers]]:
        """Both sides, ended afterwards."""
        peers = stage.peers(self.shape)
        try:
            ours = stage.ours(self.shape)
            try:
                if self.prepares:
                    ours.do(self.prepares)
                    peers.prepare(self.prepares)
                yield {"causeway": ours, "peer": peers}
            finally:
                ours.stop()
        finally:
            peers.stop()
            stage.hangs += peers.hangs


class Psum(_Pair):
    """All-reduces of four floats a device."""

    prepares = "psum_ready"
    rounds = 5

    def __init__(self, shape: Shape, budget: float):
        self.shape = shape
        self.name = f"psum_{shape}"
        self.about = f"all-reduces of 4 floats a device on {shape}, in programs of one and of {FUSED}"
        self._budget = budget

    def round(self, sides: dict[str, Any], scale: SpmdScale, number: int) -> Figures:
        figures: Figures = {}
        for name in in_turn(_SIDES, number):
            side = sides[name]
            # More than two under way, and the peer stops for ever.
            count, in_flight = (scale.ahead, 0) if name == "causeway" else (scale.peer_ahead, 2)
            ahead = side.do("psum_ahead", count=count, in_flight=in_flight)["seconds"]
            figures[name] = {
                "ahead_us": ahead / count * 1e6,
                "wait_us": [s * 1e6 for s in side.do("psum_wait", count=scale.waited)["seconds"]],
                "fused_us": [s / FUSED * 1e6 for s in side.do("psum_fused", count=scale.fused)["seconds"]],
            }
        return figures

    def line(self, figures: Figures) -> str:
        return "; ".join(
            f"{name} ahead {us(side['ahead_us'])}, waited for {us(median(side['wait_us']))}, "
            f"fused {us(median(side['fused_us']))}"
            for name, side in ((name, figures[name]) for name in _SIDES)
        )

    def report(self, rounds: Rounds) -> Report:
        result: dict[str, Any] = {}
        rows = []
        for key, prefix, what, budget in (
            ("ahead_us", "psum", "one after the other, nobody waits", self._budget),
            ("wait_us", "psum_wait", "each waited for", None),
            ("fused_us", "psum_fused", f"one of {FUSED} in a program", None),
        ):
            ours, theirs = rounds.median("causeway", key), rounds.median("peer", key)
            ratio = rounds.ratio(("peer", key), ("causeway", key))
            result |= {
                f"{prefix}_ratio_{self.shape}": round(ratio, 2),
                f"{prefix}_us_{self.shape}": round(ours, 1),
                f"{prefix}_peer_us_{self.shape}": round(theirs, 1),
            }
            rows.append(
                Row(
                    f"psum {self.shape}, {what}",
                    us(ours),
                    _PEER,
                    us(theirs),
                    _times(ratio),
                    f">= {budget:g} x" if budget else "",
                    ratio >= budget if budget else None,
                )
            )
        return Report(result, rows)


class AllReduce(_Pair):
    name = "allreduce"
    prepares = None
    rounds = 5
    shape = Shape(2, 2)
    about = f"all-reduces of {_MEBIBYTES} MiB a device on {shape}"

    def round(self, sides: dict[str, Any], scale: SpmdScale, number: int) -> Figures:
        return {
            name: sides[name].do("allreduce", megabytes=scale.megabytes, count=scale.allreduces)
            | {"bytes": scale.megabytes << 20}
            for name in in_turn(_SIDES, number)
        }

    def line(self, figures: Figures) -> str:
        return "; ".join(f"{name} {us(median(figures[name]['seconds']) * 1e6)}" for name in _SIDES)

    def report(self, rounds: Rounds) -> Report:
        ours, theirs = rounds.median("causeway", "seconds"), rounds.median("peer", "seconds")
        size = rounds.median("causeway", "bytes")
        ratio = rounds.ratio(("peer", "seconds"), ("causeway", "seconds"))
        result = {
            "allreduce64m_ratio": round(ratio, 2),
            "allreduce64m_s": round(ours, 4),
            "allreduce64m_peer_s": round(theirs, 4),
            "allreduce64m_bytes_per_s": round(size / ours),
            "allreduce64m_peer_bytes_per_s": round(size / theirs),
        }
        what = f"all-reduce, {int(size) >> 20} MiB a device, {self.shape}"
        row = Row(
            what, bytes_per_s(size / ours), _PEER, bytes_per_s(size / theirs), _times(ratio), ">= 1 x", ratio >= 1
        )
        return Report(result, [row])


class Step(_Pair):
    name = "step"
    prepares = "step_ready"
    rounds = 5
    shape = Shape(4, 2)
    about = f"a training step of a transformer (2 layers, d 256, batch 32, seq 128) on {shape}"

    def round(self, sides: dict[str, Any], scale: SpmdScale, number: int) -> Figures:
        figures = {name: sides[name].do("steps", count=scale.steps) for name in in_turn(_SIDES, number)}
        apart = max(abs(a - b) for a, b in zip(figures["causeway"]["losses"], figures["peer"]["losses"], strict=True))
        # A peer that was started again is some steps behind.
        if not apart <= _LOSS_APART and not sides["peer"].hangs:
            raise BenchError(f"the sides do not train the same: losses {figures}")
        return figures

    def line(self, figures: Figures) -> str:
        return "; ".join(
            f"{name} {us(median(figures[name]['seconds']) * 1e6)}, loss {figures[name]['losses'][-1]:.4f}"
            for name in _SIDES
        )

    def report(self, rounds: Rounds) -> Report:
        ours, theirs = rounds.median("causeway", "seconds"), rounds.median("peer", "seconds")
        ratio = rounds.ratio(("peer", "seconds"), ("causeway", "seconds"))
        result = {"step_ratio": round(ratio, 2), "step_s": round(ours, 4), "step_peer_s": round(theirs, 4)}
        row = Row(
            f"training step, {self.shape}", _seconds(ours), _PEER, _seconds(theirs), _times(ratio), ">= 1 x", ratio >= 1
        )
        return Report(result, [row])


class Compile:
    """Everything fresh each round: a cluster with an empty cache and its first client; that cluster's second client;
    and a new multi-controller job, each of whose processes compiles for itself."""

    name = "compile"
    rounds = 3
    shape = Shape(4, 2)
    about = f"compiling that step for {shape}: nothing known; and for Causeway's second client"

    @contextmanager
    def running(self, stage: SpmdStage) -> Iterator[SpmdStage]:
        yield stage

    def round(self, stage: SpmdStage, scale: SpmdScale, number: int) -> Figures:
        figures: Figures = {}
        for name in in_turn(_SIDES, number):
            if name == "causeway":
                ours = stage.ours(self.shape)
                try:
                    cold = ours.do("compile_step")
                    ours.another_client()
                    figures[name] = {"cold": cold, "warm": ours.do("compile_step")}
                finally:
                    ours.stop()
            else:
                peers = stage.peers(self.shape)
                try:
                    each = peers.do_each("compile_step")
                    figures[name] = {"cold": {key: max(one[key] for one in each) for key in each[0]}}
                finally:
                    peers.stop()
                    stage.hangs += peers.hangs
        return figures

    def line(self, figures: Figures) -> str:
        ours, theirs = figures["causeway"], figures["peer"]
        return (
            f"causeway {_seconds(ours['cold']['compile'])}, second client {_seconds(ours['warm']['compile'])}; "
            f"peer {_seconds(theirs['cold']['compile'])} (tracing before that: {_seconds(ours['cold']['trace'])}, "
            f"{_seconds(theirs['cold']['trace'])})"
        )

    def report(self, rounds: Rounds) -> Report:
        cold, warm = (rounds.median("causeway", how, "compile") for how in ("cold", "warm"))
        theirs = rounds.median("peer", "cold", "compile")
        ratio = rounds.ratio(("peer", "cold", "compile"), ("causeway", "cold", "compile"))
        result = {
            "compile_cold_ratio": round(ratio, 2),
            "compile_cold_s": round(cold, 3),
            "compile_warm_s": round(warm, 3),
            "compile_peer_s": round(theirs, 3),
            "compile_trace_s": round(rounds.median("causeway", "cold", "trace"), 3),
            "compile_peer_trace_s": round(rounds.median("peer", "cold", "trace"), 3),
        }
        rows = [
            Row("compiling the step, nothing known", _seconds(cold), _PEER, _seconds(theirs), _times(ratio)),
            Row("compiling the step, second client", _seconds(warm), _PEER, _seconds(theirs), _times(theirs / warm)),
        ]
        return Report(result, rows)


SECTIONS = {
    # Budgets: DESIGN.md, section 7.
    "psum": [Psum(Shape(2, 2), 4.0), Psum(Shape(4, 2), 8.0)],
    "allreduce": [AllReduce()],
    "step": [Step()],
    "compile": [Compile()],
}
