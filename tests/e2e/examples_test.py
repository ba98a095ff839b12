"""The examples, small: they end well, give the same losses wherever they run, and wait for nothing in their loops."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import Cluster, clean_environment, short_folder
from request_log import WAITS_FOR_DEVICES, RequestLog

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


# ---------------------------------------------------------------- several meshes

TWO_BY_TWO = {"JAX_PLATFORMS": "causeway", "CAUSEWAY_ISLANDS": "2", "CAUSEWAY_HOSTS": "2", "CAUSEWAY_DEVICES": "2"}
STOCK = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}

PIPELINE = ["--steps", "4", "--layers", "4", "--width", "32", "--seq", "16", "--micro-batches", "4"]
MOE = ["--steps", "12", "--tokens", "128", "--width", "16", "--hidden", "32"]
MULTIMODAL = ["--steps", "8", "--rows", "16", "--width", "16", "--rate", "0.01"]


@pytest.fixture(scope="module")
def four_islands() -> Iterator[Cluster]:
    """Four islands of one worker with two devices."""
    with short_folder() as path, Cluster.up(path, islands=4, devices=2) as cluster:
        yield cluster


def figures(folder: Path, program: str, environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    """What the program writes to its --json."""
    run(folder, program, environment, *arguments, "--json", "out.json")
    return json.loads((folder / "out.json").read_text())


def figures_read_along(cluster: Cluster, folder: Path, program: str, *arguments: str) -> tuple[Any, RequestLog]:
    """The same on that cluster, and all that the client asked it for."""
    with RequestLog(cluster.client_address, folder) as log:
        environment = {"JAX_PLATFORMS": "causeway", "CAUSEWAY_ADDRESS": log.address}
        return figures(folder, program, environment, *arguments), log


def waits_before_the_last_launch(log: RequestLog) -> list[str]:
    """The requests with which the client waited for devices before all was dispatched."""
    kinds = log.kinds()
    last = max(number for number, kind in enumerate(kinds) if kind == "loaded_executable_execute")
    assert "copy_to_host_buffer" in kinds[last:], "its results are fetched in the end"
    waits = [kind for kind in kinds[:last] if kind in WAITS_FOR_DEVICES]
    # It asks once whether a program is compiled, in which no device has a part.
    for _ in range(kinds[:last].count("compile")):
        waits.remove("check_future")
    return waits


def copied_to(log: RequestLog) -> set[tuple[int, ...]]:
    """The groups of devices that arrays were sent to by other devices."""
    copies = (request.copy_arrays_request for request in log.requests if request.HasField("copy_arrays_request"))
    return {tuple(copy.device_ids) for copy in copies}


def assert_same_curve(*curves: list[float]) -> None:
    assert curves[0][-1] < 0.9 * curves[0][0], "something is learnt"
    for curve in curves[1:]:
        np.testing.assert_allclose(curve, curves[0], atol=1e-4)


def test_mpmd_is_seen_to_wait_where_it_does(folder: Path, four_islands: Cluster) -> None:
    """It waits for the first micro-batch, whose programs have to be compiled, before it dispatches the others."""
    _, log = figures_read_along(four_islands, folder, "mpmd.py", "--micro-batches", "4")
    assert "check_value_ready" in waits_before_the_last_launch(log)


def test_pipelines_agree_and_wait_for_nothing(folder: Path, four_islands: Cluster) -> None:
    ours, log = figures_read_along(four_islands, folder, "pipeline.py", *PIPELINE, "--schedule", "1f1b", "--no-check")
    assert waits_before_the_last_launch(log) == []
    assert copied_to(log) == {(0, 1), (2, 3), (4, 5), (6, 7)}
    assert ours["kept"] == [4, 3, 2, 1]

    # Four stages on two meshes of two workers each; then four on four in one process, which also checks itself.
    spread = figures(folder, "pipeline.py", TWO_BY_TWO, *PIPELINE, "--schedule", "interleaved", "--no-check")
    gpipe = ["--schedule", "gpipe", "--stages", "4", "--keep", "residuals", "--model-parallel", "2"]
    stock = figures(folder, "pipeline.py", STOCK, *PIPELINE, *gpipe)
    assert stock["matches"]
    assert stock["kept"] == [4] * 4
    assert (ours["meshes"], spread["meshes"]) == (4, 2)
    assert_same_curve(stock["losses"], ours["losses"], spread["losses"])
    for other in (ours, spread):
        np.testing.assert_allclose(other["gradient_norms"], stock["gradient_norms"], rtol=1e-3)


def test_mixture_of_experts_agrees_and_waits_for_nothing(folder: Path, four_islands: Cluster) -> None:
    ours, log = figures_read_along(four_islands, folder, "moe.py", *MOE, "--no-check")
    assert waits_before_the_last_launch(log) == []
    assert copied_to(log) == {(0, 1), (2, 3), (4, 5), (6, 7)}

    stock = figures(folder, "moe.py", STOCK, *MOE, "--groups", "4")
    assert stock["matches"]
    spread = figures(folder, "moe.py", TWO_BY_TWO, *MOE, "--no-check")
    assert_same_curve(stock["losses"], ours["losses"], spread["losses"])
    for each in (stock, ours, spread):
        np.testing.assert_allclose(np.sum(each["shares"], axis=1), 1, atol=1e-5)
        assert np.ptp(each["shares"][0]) > 0, "where tokens go depends on them"
        np.testing.assert_allclose(each["shares"], stock["shares"], atol=1e-6)


def test_two_encoders_agree_and_wait_for_nothing(folder: Path, four_islands: Cluster) -> None:
    ours, log = figures_read_along(four_islands, folder, "multimodal.py", *MULTIMODAL, "--no-check")
    assert waits_before_the_last_launch(log) == []
    assert copied_to(log) == {(0, 1), (2, 3), (4, 5)}

    stock = figures(folder, "multimodal.py", STOCK, *MULTIMODAL)
    assert stock["matches"]
    spread = figures(folder, "multimodal.py", TWO_BY_TWO, *MULTIMODAL, "--no-check")
    assert (ours["meshes"], spread["meshes"], stock["meshes"]) == (3, 2, 2)
    assert_same_curve(stock["losses"], ours["losses"], spread["losses"])


@pytest.mark.full
@pytest.mark.parametrize("keep", ["input", "residuals"])
@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "interleaved"])
def test_every_schedule_everywhere(folder: Path, four_islands: Cluster, schedule: str, keep: str) -> None:
    """Each checks itself against the model in one program."""
    arguments = [*PIPELINE, "--layers", "8", "--schedule", schedule, "--keep", keep]
    four = {"JAX_PLATFORMS": "causeway", "CAUSEWAY_ADDRESS": four_islands.client_address}
    results = [
        figures(folder, "pipeline.py", four, *arguments),
        figures(folder, "pipeline.py", TWO_BY_TWO, *arguments, "--model-parallel", "2"),
        figures(folder, "pipeline.py", STOCK, *arguments, "--stages", "4"),
    ]
    assert all(result["matches"] for result in results)
    assert_same_curve(*(result["losses"] for result in results))
