#!/usr/bin/env python3
"""`make run`: trains examples/train_lm.py on an embedded Causeway cluster and on stock JAX, and compares the losses.

Both runs are the same program with the same arguments; only the environment differs. The cluster is one of several
islands and workers, and every step of the training is one program over all of them; stock JAX has as many devices in
one process. Then examples/mpmd.py runs on two
workers. What they leave is in build/run. The last line is `RESULT {json}`; the exit status is 0 only if all holds.
Arguments that this script does not know go to train_lm.py: tools/run_main_job.py --steps 50
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "build" / "run"

# The two compilers may add up floating-point numbers in different orders, and training amplifies the difference. So:
# all but equal at first, and the same curve to the end.
FIRST_STEPS = 10
FIRST_STEPS_TOLERANCE = 1e-4
EVERY_STEP_TOLERANCE = 0.02
FINAL_TOLERANCE = 0.005
LAST_STEPS = 10


@dataclass(frozen=True)
class Comparison:
    """How far two curves of losses are apart, in nats a byte."""

    first: float
    largest: float
    final: float

    @classmethod
    def of(cls, ours: np.ndarray, reference: np.ndarray) -> Comparison:
        apart = np.abs(ours - reference)
        final = abs(ours[-LAST_STEPS:].mean() - reference[-LAST_STEPS:].mean())
        return cls(float(apart[:FIRST_STEPS].max()), float(apart.max()), float(final))

    @property
    def close(self) -> bool:
        # A NaN on either side makes every comparison false.
        return (
            self.first <= FIRST_STEPS_TOLERANCE
            and self.largest <= EVERY_STEP_TOLERANCE
            and self.final <= FINAL_TOLERANCE
        )


def heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


def run_example(name: str, environment: Mapping[str, str], *arguments: str) -> bool:
    """Runs an example, its output going to the terminal. False if it failed."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("JAX_", "CAUSEWAY_", "XLA_FLAGS"))}
    kept = {key: os.environ[key] for key in ("CAUSEWAY_BINARY", "CAUSEWAY_LOG_DIR") if key in os.environ}
    command = [sys.executable, str(ROOT / "examples" / name), *arguments]
    status = subprocess.run(command, env={**clean, **kept, **environment}, check=False).returncode
    if status:
        print(f"{name} failed with exit status {status}", file=sys.stderr)
    return status == 0


def train(label: str, environment: Mapping[str, str], arguments: list[str]) -> dict[str, Any] | None:
    """Trains; returns what train_lm.py wrote, or None if it failed."""
    losses = RESULTS / f"{label}.json"
    losses.unlink(missing_ok=True)
    plot = RESULTS / f"{label}.png"
    ok = run_example("train_lm.py", environment, *arguments, "--losses", str(losses), "--plot", str(plot))
    return json.loads(losses.read_text()) if ok else None


def show(ours: np.ndarray, reference: np.ndarray, comparison: Comparison) -> None:
    """Prints both curves side by side and draws them."""
    print(f"{'step':>6} {'causeway':>10} {'stock cpu':>10} {'apart':>10}")
    for step in sorted({0, *np.linspace(0, len(ours) - 1, 9).astype(int)}):
        print(f"{step + 1:6} {ours[step]:10.5f} {reference[step]:10.5f} {abs(ours[step] - reference[step]):10.1e}")
    print(
        f"apart: at most {comparison.first:.1e} in the first {FIRST_STEPS} steps (allowed {FIRST_STEPS_TOLERANCE:g}), "
        f"{comparison.largest:.1e} anywhere ({EVERY_STEP_TOLERANCE:g}), "
        f"{comparison.final:.1e} in the mean of the last {LAST_STEPS} ({FINAL_TOLERANCE:g})"
    )
    figure, axes = plt.subplots(figsize=(8, 4.5))
    steps = np.arange(1, len(ours) + 1)
    axes.plot(steps, reference, lw=3, alpha=0.4, label="stock JAX, CPU")
    axes.plot(steps, ours, lw=1, label="Causeway")
    axes.set(xlabel="step", ylabel="loss (nats a byte)", title="The same program on both")
    axes.legend()
    figure.tight_layout()
    path = RESULTS / "comparison.png"
    figure.savefig(path, dpi=120)
    print(f"plot: {path.relative_to(ROOT)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--islands", type=int, default=2, help="of the cluster that trains (default: 2)")
    parser.add_argument("--hosts", type=int, default=2, help="workers in each island (default: 2)")
    parser.add_argument("--devices", type=int, default=2, help="of each worker (default: 2)")
    options, train_arguments = parser.parse_known_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    devices = options.islands * options.hosts * options.devices
    size = f"{options.islands} islands x {options.hosts} workers x {options.devices} devices"

    heading(f"1 of 3: examples/train_lm.py on an embedded Causeway cluster, {size}")
    cluster = {
        "JAX_PLATFORMS": "causeway",
        "CAUSEWAY_ISLANDS": str(options.islands),
        "CAUSEWAY_HOSTS": str(options.hosts),
        "CAUSEWAY_DEVICES": str(options.devices),
    }
    ours = train("causeway", cluster, train_arguments)

    heading(f"2 of 3: the same program on stock JAX, {devices} CPU devices in one process")
    stock = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    reference = train("stock", stock, [*train_arguments, "--sample", "0"])

    heading("3 of 3: examples/mpmd.py on an embedded Causeway cluster, 2 workers x 2 devices")
    two_workers = {"JAX_PLATFORMS": "causeway", "CAUSEWAY_HOSTS": "2", "CAUSEWAY_DEVICES": "2"}
    mpmd_matches = run_example("mpmd.py", two_workers)

    result: dict[str, Any] = {
        "devices": devices,
        "workers": options.islands * options.hosts,
        "islands": options.islands,
    }
    losses_match = False
    if ours and reference:
        heading("the losses of both")
        curves = np.array(ours["losses"]), np.array(reference["losses"])
        comparison = Comparison.of(*curves)
        show(*curves, comparison)
        losses_match = comparison.close and ours["devices"] == reference["devices"] == devices
        verdict = "the same curve" if losses_match else "NOT THE SAME"
        print(f"losses on {size}, and in one process: {verdict}")
        print(
            f"tokens a second: {ours['tokens_per_s']:,.0f} on Causeway, {reference['tokens_per_s']:,.0f} on stock JAX"
        )
        result |= {
            "devices": ours["devices"],
            "tokens_per_s": round(ours["tokens_per_s"], 1),
            "reference_tokens_per_s": round(reference["tokens_per_s"], 1),
            "final_loss": float(np.mean(curves[0][-LAST_STEPS:])),
            "reference_final_loss": float(np.mean(curves[1][-LAST_STEPS:])),
            "largest_difference": comparison.largest,
        }
    result |= {"losses_match": losses_match, "mpmd_matches": mpmd_matches}
    print(f"RESULT {json.dumps(result)}", flush=True)
    return 0 if losses_match and mpmd_matches else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
