"""Section `copy`: arrays from one worker to another, beside iperf3 on the same path."""

import json
import socket
from dataclasses import replace

from figures import Figures, Report, Rounds, Row, bytes_per_s, in_turn, median, us
from scale import Copy, Scale
from sides import BenchError, Process, output_of
from stage import Stage

BUDGET_RATIO = 0.8  # DESIGN.md, section 7
_CLIENTS = ("over_tcp", "causeway")
_LISTEN_S = 20


def _label(kilobytes: int) -> str:
    return f"{kilobytes}KiB" if kilobytes < 1024 else f"{kilobytes >> 10}MiB"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _iperf(stage: Stage, seconds: int) -> float:
    """Bytes a second of one TCP stream over the loopback, by iperf3."""
    port = str(_free_port())
    server = Process(
        "iperf3 server",
        ["iperf3", "--server", "--one-off", "--bind", "127.0.0.1", "--port", port, "--forceflush"],
        stage.folder / "iperf.log",
        ends_with_stdin=False,
    )
    try:
        while "listening" not in server.read(_LISTEN_S):
            pass
        output = output_of(
            "iperf3", ["iperf3", "--client", "127.0.0.1", "--port", port, "--time", str(seconds), "--json"]
        )
    finally:
        server.stop()
    answer = json.loads(output)
    if "error" in answer:
        raise BenchError(f"iperf3: {answer['error']}")
    return answer["end"]["sum_received"]["bits_per_second"] / 8


def _plane(stage: Stage, seconds: float) -> dict[str, float]:
    """Bytes a second of the bare data plane, within one process: "PlaneOverTcp 64KiB" and so on."""
    program = stage.build / "benchmarks" / "net_socket_data_plane_benchmark"
    command = [
        program,
        "--benchmark_format=json",
        f"--benchmark_min_time={seconds}",
        "--benchmark_filter=^Plane|^PlainTcp/",
    ]
    runs = json.loads(output_of("socket_data_plane_benchmark", command))["benchmarks"]
    figures = {}
    for run in runs:
        kind, *arguments = run["name"].split("/")
        kilobytes = [argument.removeprefix("KiB:") for argument in arguments if argument.startswith("KiB:")]
        figures[f"{kind} {_label(int(kilobytes[0]))}" if kilobytes else kind] = run["bytes_per_second"]
    return figures


class Copies:
    name = "copy"
    about = "arrays from worker to worker, by TCP (beside iperf3) and by unix sockets, and the bare data plane"
    sides = _CLIENTS
    rounds = 5

    def round(self, stage: Stage, scale: Scale, number: int) -> Figures:
        figures: Figures = {}
        for side in in_turn(("iperf", *_CLIENTS, "plane"), number):
            if side == "iperf":
                figures[side] = _iperf(stage, scale.iperf_seconds)
            elif side == "plane":
                figures[side] = _plane(stage, scale.plane_seconds)
            else:
                figures[side] = {_label(size.kilobytes): self._copies(stage, side, size) for size in scale.copies}
        return figures

    @staticmethod
    def _copies(stage: Stage, side: str, size: Copy) -> Figures:
        times = stage.client(side).do("copies", kilobytes=size.kilobytes, count=size.waited, ahead=size.ahead)
        return {
            "us": median(times["seconds"]) * 1e6,
            "bytes_per_s": (size.kilobytes << 10) * size.ahead / times["ahead_seconds"],
        }

    def line(self, figures: Figures) -> str:
        texts = [
            f"{label} {us(of['us'])} {bytes_per_s(of['bytes_per_s'])}" for label, of in figures["over_tcp"].items()
        ]
        return f"iperf3 {bytes_per_s(figures['iperf'])}; by TCP {', '.join(texts)}"

    def report(self, rounds: Rounds) -> Report:
        iperf = rounds.median("iperf")
        peer = ("iperf3, one stream", bytes_per_s(iperf))
        result: Figures = {"iperf_bytes_per_s": round(iperf)}
        rows = []
        for side, key, path in (("over_tcp", "worker_copy", "TCP"), ("causeway", "worker_copy_unix", "unix")):
            ratios = {}
            for label in rounds.figures[0][side]:
                alone = rounds.median(side, label, "us")
                speed = rounds.median(side, label, "bytes_per_s")
                ratio = rounds.ratio((side, label, "bytes_per_s"), ("iperf",))
                ratios[label] = round(ratio, 4)
                result[f"{key}_{label}_us"] = round(alone, 1)
                result[f"{key}_{label}_bytes_per_s"] = round(speed)
                what = f"worker to worker, {label}, {path}"
                rows += [
                    Row(f"{what}, one", us(alone)),
                    Row(f"{what}, many", bytes_per_s(speed), *peer, f"{ratio:.2f}"),
                ]
            result[f"{key}_ratio_iperf"] = ratio
            result[f"{key}_ratio_iperf_by_size"] = ratios
            if side == "over_tcp":
                rows[-1] = replace(rows[-1], budget=f">= {BUDGET_RATIO}", met=ratio >= BUDGET_RATIO)
        result["data_plane_ratio_iperf"] = {
            name: round(rounds.ratio(("plane", name), ("iperf",)), 3) for name in rounds.figures[0]["plane"]
        }
        rows += [
            Row(f"bare: {name}", bytes_per_s(rounds.median("plane", name)), *peer, f"{ratio:.2f}")
            for name, ratio in result["data_plane_ratio_iperf"].items()
        ]
        return Report(result, rows)
