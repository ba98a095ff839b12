"""What Causeway costs on the way of a launch: `make bench`.

    python bench/run.py
    python bench/run.py --rounds 20       for a machine that is not quiet

Three sides take turns in each round: stock JAX on an embedded cluster of one device, stock JAX on a server that answers
at once (instant_server.cc), and PJRT called directly (pjrt_direct.cc). The figures of one run belong together: its
ratios say something, one machine's microseconds on one day do not. The last line is RESULT {json}; README.md says what
is in it.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from machine import OthersWatch
from sides import REPOSITORY, BenchError, Client, Process

BUDGET_ABOVE_INSTANT_US = 150.0  # DESIGN.md, section 7
BUDGET_SUSTAINED_RATIO = 0.6
_QUIET = 0.15  # processors that others may keep busy in a quiet round


@dataclass
class ClientFigures:
    """What rounds have given for one server."""

    latencies_us: list[float] = field(default_factory=list)
    p50_us: list[float] = field(default_factory=list)  # by round
    per_s: list[float] = field(default_factory=list)  # by round

    def measure(self, client: Client, launches: int, burst: int):
        latencies = client.latencies_us(launches)
        self.latencies_us += latencies
        self.p50_us.append(statistics.median(latencies))
        self.per_s.append(client.rate_per_s(burst))

    def percentile_us(self, percent: int) -> float:
        return statistics.quantiles(self.latencies_us, n=100, method="inclusive")[percent - 1]


@dataclass
class Figures:
    """All sides, round by round."""

    causeway: ClientFigures = field(default_factory=ClientFigures)
    instant: ClientFigures = field(default_factory=ClientFigures)
    pjrt_us: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)  # processors that other processes kept busy

    def result(self) -> dict:
        """Returns what stands after RESULT: medians over rounds, ratios taken within each round."""
        causeway, instant = self.causeway, self.instant
        above = statistics.median(a - b for a, b in zip(causeway.p50_us, instant.p50_us, strict=True))
        ratio = statistics.median(a / b for a, b in zip(causeway.per_s, instant.per_s, strict=True))
        return {
            "launch_p50_us": round(statistics.median(causeway.p50_us), 1),
            "launch_p99_us": round(causeway.percentile_us(99), 1),
            "instant_p50_us": round(statistics.median(instant.p50_us), 1),
            "instant_p99_us": round(instant.percentile_us(99), 1),
            "launch_above_instant_us": round(above, 1),
            "sustained_per_s": round(statistics.median(causeway.per_s)),
            "instant_per_s": round(statistics.median(instant.per_s)),
            "sustained_ratio": round(ratio, 3),
            "pjrt_us": round(statistics.median(self.pjrt_us), 2),
            "budget_met": above <= BUDGET_ABOVE_INSTANT_US and ratio >= BUDGET_SUSTAINED_RATIO,
            "rounds": len(self.others),
            "quiet_rounds": sum(busy <= _QUIET for busy in self.others),
        }


def measure(options: argparse.Namespace) -> Figures:
    """Starts all sides, takes the rounds and stops everything. Prints a line a round."""
    programs = options.build / "bench"
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="causeway-bench-") as scratch, ExitStack() as running:
        folder = Path(scratch)

        def start(process: Process) -> Process:
            running.callback(process.stop)
            return process

        socket = f"unix:{folder}/instant.sock"
        server = start(Process("instant_server", [programs / "instant_server", socket], {}, folder / "server.log"))
        server.read()
        one_device = {"CAUSEWAY_ISLANDS": "1", "CAUSEWAY_HOSTS": "1", "CAUSEWAY_DEVICES": "1", "CAUSEWAY_ADDRESS": ""}
        causeway = start(Client("causeway client", one_device, folder / "causeway.log"))
        instant = start(Client("instant client", {"CAUSEWAY_ADDRESS": f"grpc://{socket}"}, folder / "instant.log"))
        pjrt = start(Process("pjrt_direct", [programs / "pjrt_direct"], {}, folder / "pjrt.log"))
        if instant.server != "instant" or causeway.server == "instant":
            raise BenchError(f"the sides are mixed up: {causeway.server!r} and {instant.server!r}")
        print(f"A round: {options.launches} launches waited for, then a burst of {options.burst}, on each side.\n")
        print(f"{'':5} {'launch':>11} {'instant':>12} {'launches':>11} {'instant':>11} {'PJRT':>8} {'others':>8}")
        for number in range(1, options.rounds + 1):
            watch = OthersWatch()
            turns = [(figures.causeway, causeway), (figures.instant, instant)]
            for side, client in turns if number % 2 else reversed(turns):
                side.measure(client, options.launches, options.burst)
            figures.pjrt_us.append(float(pjrt.ask(str(options.burst))))
            figures.others.append(watch.busy_processors())
            print(
                f"{number:5} {figures.causeway.p50_us[-1]:8.1f} us {figures.instant.p50_us[-1]:9.1f} us "
                f"{figures.causeway.per_s[-1]:9.0f}/s {figures.instant.per_s[-1]:9.0f}/s "
                f"{figures.pjrt_us[-1]:5.2f} us {figures.others[-1]:4.2f} CPU",
                flush=True,
            )
    return figures


def say(figures: Figures):
    """Prints the table for people and the line for programs."""
    result = figures.result()
    noise = "" if result["quiet_rounds"] == result["rounds"] else "  THE MACHINE WAS NOT QUIET: run it again"
    rows = [
        ("no-op launch, p50", f"{result['launch_p50_us']:.1f} us", f"{result['instant_p50_us']:.1f} us"),
        ("no-op launch, p99", f"{result['launch_p99_us']:.1f} us", f"{result['instant_p99_us']:.1f} us"),
        ("sustained launches", f"{result['sustained_per_s']}/s", f"{result['instant_per_s']}/s"),
    ]
    print(f"\n{'':20} {'Causeway':>12} {'instant':>12}")
    for name, causeway, instant in rows:
        print(f"{name:20} {causeway:>12} {instant:>12}")
    print(f"{'PJRT, directly':20} {result['pjrt_us']:>9.2f} us")
    print(
        f"\nlatency above the instant server's: {result['launch_above_instant_us']:.1f} us "
        f"(budget {BUDGET_ABOVE_INSTANT_US:.0f} us); "
        f"rate, as a part of its: {result['sustained_ratio']:.2f} (budget {BUDGET_SUSTAINED_RATIO})"
    )
    one, five, _ = os.getloadavg()
    print(
        f"load average {one:.2f} (1 min) {five:.2f} (5 min) on {os.cpu_count()} processors; "
        f"others kept {max(figures.others):.2f} processors busy in the worst round{noise}"
    )
    print(f"RESULT {json.dumps(result)}", flush=True)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="bench/run.py"
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--launches", type=int, default=500, help="waited for one by one, a round and server")
    parser.add_argument("--burst", type=int, default=10000, help="launches in a row, a round and side")
    parser.add_argument("--build", type=Path, default=REPOSITORY / "build" / "release")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.burst) < 1 or options.launches < 2:
        parser.error("--rounds and --burst are at least 1, --launches at least 2")
    try:
        say(measure(options))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
