"""The examples, small: they end well, and give the same losses wherever they run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from harness import clean_environment

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(folder: Path, program: str, environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / program), *arguments],
        env=clean_environment(environment),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "environment",
    [
        {"JAX_PLATFORMS": "causeway", "CAUSEWAY_HOSTS": "2", "CAUSEWAY_DEVICES": "2"},
        {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "4"},
    ],
    ids=["causeway", "stock"],
)
def test_mpmd(folder: Path, environment: dict[str, str]) -> None:
    printed = run(folder, "mpmd.py", environment, "--micro-batches", "8", "--json", "out.json")
    assert "as it should be" in printed
    assert json.loads((folder / "out.json").read_text())["matches"]


@pytest.mark.full
def test_train_lm_gives_the_same_losses_everywhere(folder: Path) -> None:
    losses = {}
    for name, environment in (
        ("causeway", {"JAX_PLATFORMS": "causeway", "CAUSEWAY_DEVICES": "4"}),
        ("stock 4", {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "4"}),
        ("stock 1", {"JAX_PLATFORMS": "cpu"}),
    ):
        size = [
            "--steps",
            "12",
            "--layers",
            "1",
            "--width",
            "32",
            "--seq",
            "32",
            "--max-bytes",
            "300000",
            "--sample",
            "20",
        ]
        run(folder, "train_lm.py", environment, *size, "--losses", "losses.json", "--plot", "plot.png")
        losses[name] = json.loads((folder / "losses.json").read_text())["losses"]
        assert (folder / "plot.png").read_bytes().startswith(b"\x89PNG")
    np.testing.assert_allclose(losses["causeway"], losses["stock 4"], atol=1e-4)
    np.testing.assert_allclose(losses["causeway"], losses["stock 1"], atol=1e-3)
    assert losses["causeway"][-1] < losses["causeway"][0]


@pytest.mark.full
def test_train_lm_reads_a_folder_of_ones_own(folder: Path) -> None:
    data = folder / "data"
    data.mkdir()
    (data / "a.txt").write_text("the quick brown fox jumps over the lazy dog. " * 200)
    (data / "b.bin").write_bytes(b"\xff\xfe\x00" * 1000)
    size = ["--steps", "3", "--layers", "1", "--width", "32", "--seq", "32", "--sample", "0"]
    printed = run(folder, "train_lm.py", {"JAX_PLATFORMS": "cpu"}, "--data", str(data), *size)
    assert f"{45 * 200 + 1:,} bytes of text" in printed
