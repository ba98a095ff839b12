"""Sections of the tenants' benchmark: several clients on the same devices, with the timed runtime."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

from figures import Figures, Report, Rounds, Row, in_turn
from machine import OthersWatch
from tenants import (
    AHEAD,
    Job,
    OnOneIsland,
    TenantsScale,
    TenantsStage,
    figures_of,
    percent,
    side_by_side,
    start,
    steps,
    stop,
)
from timed_sides import Interval, Snapshot, TimedCluster, TimedStage

BUDGET_SHARES = 0.02  # DESIGN.md, section 7
BUDGET_AGGREGATE = 0.99
BUDGET_FILLED = 0.95
BUDGET_MIXED_SHARES = 0.05
BUDGET_MIXED_IDLE = 0.05
# The part of all device time by which the others have taken a share over, in a window of some launches.
_TAKEN_OVER = 0.9


def _aggregate_row(what: str, ours: float, peer: str, theirs: float, ratio: float) -> Row:
    """Device time of several, as a part of all that there was, beside what it should be."""
    met = ratio >= BUDGET_AGGREGATE
    return Row(what, percent(ours), peer, percent(theirs), f"{ratio:.3f}", f">= {BUDGET_AGGREGATE}", met)


class Shares(OnOneIsland):
    name = "shares"
    us = 2000
    about = (
        f"four tenants of equal programs, {us / 1000:g} ms on all 4 devices, of weights 1:1:1:1 and 1:2:4:8; one alone"
    )
    rounds = 3
    sides = {"alone": TenantsStage.equal[:1], "equal": TenantsStage.equal, "weighted": TenantsStage.weighted}

    def round(self, cluster: TimedCluster, scale: TenantsScale, number: int) -> Figures:
        return {
            side: self.together(cluster, self.sides[side], scale.settle_s, scale.shares_s)
            for side in in_turn(list(self.sides), number)
        }

    def line(self, figures: Figures) -> str:
        texts = []
        for side in ("equal", "weighted"):
            shares = " : ".join(map(percent, figures[side]["shares"].values()))
            texts.append(f"{shares}, devices busy {percent(figures[side]['used'])}")
        alone = f"one alone {percent(figures['alone']['used'])}"
        return "; ".join([*texts, alone, f"cores {figures['equal']['cpu']:.2f}"])

    def report(self, rounds: Rounds) -> Report:
        alone = rounds.median("alone", "used")
        result = {"one_tenant_used": round(alone, 4)}
        rows = []
        for side, weights in (("equal", "1:1:1:1"), ("weighted", "1:2:4:8")):
            error, of_total = rounds.median(side, "error"), rounds.median(side, "error_of_total")
            used = rounds.median(side, "used")
            ratio, by_launches = (rounds.ratio((side, key), ("alone", key)) for key in ("used", "used_by_launches"))
            result |= {
                f"shares_error_{side}": round(error, 4),
                f"shares_error_of_total_{side}": round(of_total, 4),
                f"aggregate_ratio_{side}": round(ratio, 4),
                f"aggregate_ratio_by_launches_{side}": round(by_launches, 4),
                f"tenants_used_{side}": round(used, 4),
                f"tenants_cpu_{side}": round(rounds.median(side, "cpu"), 2),
            }
            rows += [
                Row(
                    f"four tenants {weights}, the worst share's error",
                    percent(error),
                    "as a part of all",
                    percent(of_total),
                    "",
                    f"<= {BUDGET_SHARES:.0%}",
                    error <= BUDGET_SHARES,
                ),
                _aggregate_row(f"four tenants {weights}, device time", used, "one tenant alone", alone, ratio),
                _aggregate_row(
                    f"four tenants {weights}, by launches",
                    rounds.median(side, "used_by_launches"),
                    "one tenant alone",
                    rounds.median("alone", "used_by_launches"),
                    by_launches,
                ),
            ]
        for key, worst in (
            ("shares_error", max),
            ("shares_error_of_total", max),
            ("aggregate_ratio", min),
            ("aggregate_ratio_by_launches", min),
        ):
            result[key] = worst(result[f"{key}_{side}"] for side in ("equal", "weighted"))
        return Report(result, rows)


class Idle(OnOneIsland):
    name = "idle"
    about = "the same four; one stops launching: what the others get, and how soon"
    rounds = 3
    us = Shares.us
    names = TenantsStage.equal
    leaver = names[-1]

    def round(self, cluster: TimedCluster, scale: TenantsScale, number: int) -> Figures:
        del number
        jobs = self.steps(cluster, self.names)
        *others, leaver = jobs
        start(jobs)
        time.sleep(scale.settle_s)
        watch = OthersWatch()
        before = figures_of(cluster.interval(scale.idle_s), jobs)
        leaver.tell("stop")
        snapshots = [cluster.snapshot()]
        while snapshots[-1].at_us - snapshots[0].at_us < scale.changeover_s * 1e6:
            time.sleep(scale.sample_s)
            snapshots.append(cluster.snapshot())
        leaver.answer()
        after = figures_of(cluster.interval(scale.idle_s), {client: jobs[client] for client in others})
        figures = {
            "before": before,
            "others_before": (1 - before["shares"][self.leaver]) * before["used"],
            "after": after,
            "cpu": round(watch.own_processors(), 2),
        }
        stop(others)
        return figures | self._changeover(snapshots)

    def _changeover(self, snapshots: list[Snapshot]) -> Figures:
        """How long the others took, from the window on in which the leaver's last launch ended; and the device time
        that was lost meanwhile."""
        leavers = [snapshot.sessions[self.leaver] for snapshot in snapshots]
        ended = leavers.index(leavers[-1])  # by then it has had all that it was to get
        whole = Interval(snapshots[0], snapshots[-1])
        window_us = whole.us / (len(snapshots) - 1)
        idle = whole.idle().values()
        took_us = next(
            (
                before.at_us - snapshots[ended].at_us
                for before, after in pairwise(snapshots[ended:])
                if 1 - max(Interval(before, after).idle().values()) >= _TAKEN_OVER
            ),
            whole.us + window_us,  # not seen
        )
        return {
            "drained_ms": (snapshots[ended].at_us - snapshots[0].at_us) / 1e3,
            "took_ms": took_us / 1e3,
            "lost_ms": whole.us * sum(idle) / len(idle) / 1e3,
            "window_ms": window_us / 1e3,
        }

    def line(self, figures: Figures) -> str:
        shares = " : ".join(map(percent, figures["after"]["shares"].values()))
        return (
            f"three of four have {percent(figures['others_before'])} of the devices' time, then "
            f"{percent(figures['after']['used'])} ({shares}) after {figures['took_ms']:.0f} ms (looked every "
            f"{figures['window_ms']:.0f} ms); {figures['lost_ms']:.1f} ms lost; cores {figures['cpu']:.2f}"
        )

    def report(self, rounds: Rounds) -> Report:
        before, after = rounds.median("others_before"), rounds.median("after", "used")
        ratio = rounds.ratio(("after", "used"), ("before", "used"))
        took, window = rounds.median("took_ms"), rounds.median("window_ms")
        error = rounds.median("after", "error")
        result = {
            "idle_others_before": round(before, 4),
            "idle_others_after": round(after, 4),
            "idle_aggregate_ratio": round(ratio, 4),
            "idle_shares_error": round(error, 4),
            "idle_takeover_ms": round(took, 1),
            "idle_window_ms": round(window, 1),
            "idle_lost_ms": round(rounds.median("lost_ms"), 1),
        }
        rows = [
            _aggregate_row(
                "three tenants, once the fourth is idle",
                after,
                "all four before",
                rounds.median("before", "used"),
                ratio,
            ),
            Row("the worst of their three shares, error", percent(error), "", "", "", "<= 2%", error <= BUDGET_SHARES),
            Row(
                "they have it after",
                f"{took:.0f} ms",
                "one look at the counts every",
                f"{window:.0f} ms",
                "",
                "at once",
                took <= window,
            ),
        ]
        return Report(result, rows)


class Fill(OnOneIsland):
    name = "fill"
    us = 300
    about = f"programs of {us / 1000:g} ms on all 4 devices, of 1 to 8 clients that wait for each result, or for none"
    rounds = 3
    counts = (1, 2, 4, 8)
    names = (*TenantsStage.equal, *TenantsStage.weighted)
    ways = {"waits": 1, "ahead": AHEAD}

    def round(self, cluster: TimedCluster, scale: TenantsScale, number: int) -> Figures:
        return {
            way: {
                str(count): self.together(cluster, self.names[:count], scale.settle_s, scale.fill_s, ahead)
                for count in in_turn(self.counts, number)
            }
            for way, ahead in self.ways.items()
        }

    def line(self, figures: Figures) -> str:
        waits, ahead = (self._curve(figures[way]) for way in self.ways)
        return f"devices busy with clients that wait: {waits}; that run ahead: {ahead}"

    def _curve(self, sides: Figures) -> str:
        points = [(count, sides[str(count)]) for count in self.counts]
        return ", ".join(
            f"{count}: {percent(side['used_by_launches'])} ({side['cpu']:.1f} cores)" for count, side in points
        )

    def report(self, rounds: Rounds) -> Report:
        result, rows = {}, []
        for way, prefix, what in (("waits", "fill", "wait for each"), ("ahead", "fill_ahead", "wait for none")):
            for count in self.counts:
                used, cpu = (rounds.median(way, str(count), key) for key in ("used_by_launches", "cpu"))
                result |= {f"{prefix}_{count}": round(used, 4), f"{prefix}_cpu_{count}": round(cpu, 2)}
                last = way == "waits" and count == max(self.counts)
                rows.append(
                    Row(
                        f"devices busy, {self.us / 1000:g} ms, clients that {what}: {count}",
                        percent(used),
                        "cores busy",
                        f"{cpu:.2f}",
                        "",
                        f">= {BUDGET_FILLED:.0%}" if last else "",
                        used >= BUDGET_FILLED if last else None,
                    )
                )
        return Report(result, rows)


class Mixed:
    name = "mixed"
    step_us, stage_us, stages = 1000, 5000, 4
    about = (
        f"a pipeline of {stages} stages of {stage_us / 1000:g} ms, one a worker, and a tenant whose programs take "
        f"{step_us / 1000:g} ms on the same devices"
    )
    rounds = 3
    stream_ahead = 24  # micro-batches
    kib = 256  # of an activation

    @contextmanager
    def running(self, stage: TimedStage, scale: TenantsScale) -> Iterator[TimedCluster]:
        del scale
        cluster = stage.cluster("a cluster of four islands", islands=self.stages)
        cluster.add_clients({"pipeline": 1, "steps": 1})
        cluster.clients["pipeline"].do("prepare_pipeline", stages=self.stages, us=self.stage_us, kib=self.kib)
        cluster.clients["steps"].do("prepare_steps", us=self.step_us)
        yield cluster
        cluster.stop()

    def round(self, cluster: TimedCluster, scale: TenantsScale, number: int) -> Figures:
        pipeline, tenant = (cluster.clients[name] for name in ("pipeline", "steps"))
        streaming = Job("stream", {"us": self.stage_us, "ahead": self.stream_ahead}, self.stage_us)
        stepping = steps(cluster, self.step_us)
        sides = {
            "pipeline": {pipeline: streaming},
            "steps": {tenant: stepping},
            "both": {pipeline: streaming, tenant: stepping},
        }
        return {
            side: side_by_side(cluster, sides[side], scale.settle_s, scale.shares_s)
            for side in in_turn(list(sides), number)
        }

    def line(self, figures: Figures) -> str:
        both = figures["both"]
        return (
            f"{' : '.join(map(percent, both['shares'].values()))}, devices idle {percent(both['idle'])} (the worst "
            f"{percent(both['idle_worst'])}); alone {percent(figures['pipeline']['idle'])}, "
            f"{percent(figures['steps']['idle'])}; cores {both['cpu']:.2f}"
        )

    def report(self, rounds: Rounds) -> Report:
        error, of_total = rounds.median("both", "error"), rounds.median("both", "error_of_total")
        idle = {side: rounds.median(side, "idle") for side in ("pipeline", "steps", "both")}
        result = {
            "mixed_share_error": round(error, 4),
            "mixed_share_error_of_total": round(of_total, 4),
            "mixed_idle": round(idle["both"], 4),
            "mixed_idle_by_launches": round(1 - rounds.median("both", "used_by_launches"), 4),
            "mixed_idle_worst": round(rounds.median("both", "idle_worst"), 4),
            "mixed_pipeline_alone_idle": round(idle["pipeline"], 4),
            "mixed_steps_alone_idle": round(idle["steps"], 4),
            "mixed_cpu": round(rounds.median("both", "cpu"), 2),
        }
        rows = [
            Row(
                "a pipeline and a tenant 1:1, the worse share's error",
                percent(error),
                "as a part of all",
                percent(of_total),
                "",
                f"<= {BUDGET_MIXED_SHARES:.0%}",
                error <= BUDGET_MIXED_SHARES,
            ),
            Row(
                "a pipeline and a tenant, devices idle",
                percent(idle["both"]),
                "the pipeline alone",
                percent(idle["pipeline"]),
                "",
                f"<= {BUDGET_MIXED_IDLE:.0%}",
                idle["both"] <= BUDGET_MIXED_IDLE,
            ),
        ]
        return Report(result, rows)


SECTIONS = {section.name: section for section in (Shares(), Idle(), Fill(), Mixed())}
