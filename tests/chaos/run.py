"""Kills, stops and restarts the processes of a cluster under load: `make chaos`.

    python tests/chaos/run.py                         3 minutes, a new seed
    python tests/chaos/run.py --minutes 20 --seed 7   longer; the same schedule as any other run with seed 7
    python tests/chaos/run.py --quick                 each important kind of blow once
    python tests/chaos/run.py --only "kill worker"    one kind, over and over

One line a blow: when, what, to whom, after how long it was noticed and the cluster was whole again. Exit status: 0 if
all was as it must be; 1 if not: then the seed and the folder with all logs are shown; 2 if it could not run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.append(str(Path(__file__).resolve().parents[2] / "python"))

from chaos.campaign import Campaign, Report
from chaos.schedule import KINDS, Limits, Schedule

_TITLES = ("blow", "times", "noticed s", "whole again s", "arrays", "lost")


def table(report: Report) -> str:
    """What was done, for people."""
    rows = [_TITLES]
    for kind in KINDS:
        if rounds := [r for r in report.rounds if r.blow.kind == kind]:
            rows.append(
                (
                    kind.name,
                    str(len(rounds)),
                    f"{max(r.detect_s for r in rounds):.2f}",
                    f"{max(r.recover_s for r in rounds):.2f}",
                    str(sum(r.right + r.lost for r in rounds)),
                    str(sum(r.lost for r in rounds)),
                )
            )
    widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    )


def result(report: Report) -> str:
    """What was done, for programs."""
    blows = {kind.name: sum(r.blow.kind == kind for r in report.rounds) for kind in KINDS}
    return "RESULT " + json.dumps(
        {
            "seed": report.seed,
            "minutes": round(report.seconds / 60, 2),
            "blows": sum(blows.values()),
            "blows_by_kind": {name: count for name, count in blows.items() if count},
            "arrays": sum(r.right + r.lost for r in report.rounds),
            "lost": sum(r.lost for r in report.rounds),
            "open": sum(r.open for r in report.rounds),
            "failures": len(report.failures),
            "leaks": report.leaks,
            "worst_detect_s": round(max((r.detect_s for r in report.rounds), default=0.0), 2),
            "worst_recover_s": round(max((r.recover_s for r in report.rounds), default=0.0), 2),
        }
    )


def run(
    schedule: Schedule, workers: int, clients: int, limits: Limits, seconds: float, rounds: int, folder: Path
) -> Report:
    """Plays rounds until the time is over or so many were played, or one has failed."""
    campaign = Campaign(schedule, workers, clients, limits, folder, say=lambda line: print(line, flush=True))
    return campaign.run(seconds, rounds)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, help="what to repeat (default: a new one)")
    parser.add_argument(
        "--minutes",
        type=float,
        default=float(os.environ.get("CHAOS_MINUTES") or 3),
        help="how long (3, or CHAOS_MINUTES)",
    )
    parser.add_argument("--quick", action="store_true", help="each important kind of blow once, whatever the time")
    parser.add_argument("--only", action="append", metavar="BLOW", help="only this kind of blow; repeatable")
    parser.add_argument("--workers", type=int, default=3, help="workers, of 2 devices each (3)")
    parser.add_argument("--clients", type=int, default=3, help="JAX programs under load, beside one that watches (3)")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a good run too")
    options = parser.parse_args(arguments)
    kinds = tuple(kind for kind in KINDS if kind.quick or not options.quick)
    if options.only:
        kinds = tuple(kind for kind in KINDS if kind.name in options.only)
        if unknown := set(options.only) - {kind.name for kind in KINDS}:
            parser.error(f"no such blow: {', '.join(sorted(unknown))}; there are: {', '.join(k.name for k in KINDS)}")
    if options.workers < 2 or options.clients < 2:
        parser.error("at least 2 workers and 2 clients are needed")
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    limits = Limits()
    schedule = Schedule(seed, options.workers, options.clients, limits, kinds)
    rounds = len(kinds) if options.quick else 1_000_000
    seconds = 600.0 if options.quick else options.minutes * 60
    print(f"chaos: seed {seed}, {options.workers} workers x 2 devices, {options.clients} clients", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))
    # Ctrl-C ends the clients and the cluster like the end of the time does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        report = run(schedule, options.workers, options.clients, limits, seconds, rounds, folder)
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        print("chaos: interrupted", file=sys.stderr)
        return 130
    print()
    print(table(report))
    for failure in report.failures:
        print(f"\nFAILED: {failure}")
    if report.failures:
        again = ["python tests/chaos/run.py", f"--seed {seed}", f"--workers {options.workers}"]
        again += [f"--clients {options.clients}", *(f'--only "{name}"' for name in options.only or ())]
        print("\nthe same schedule again:", *again, *(["--quick"] if options.quick else []))
        print(f"all logs: {folder}")
    elif options.keep:
        print(f"all logs: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    print(result(report))
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
