"""The benchmark runs and says what it promises to say. How fast anything is, is not asked here."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "release"

pytestmark = pytest.mark.skipif(not BUILD.is_dir(), reason="needs the release build: make build")


def _run(*arguments: str | Path, program: str = "run.py") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "bench" / program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)


def _numbers(value: Any) -> Iterator[float]:
    """All numbers in a piece of JSON."""
    if isinstance(value, dict):
        for part in value.values():
            yield from _numbers(part)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def _quick_result(program: str, file: Path) -> dict[str, Any]:
    """RESULT of a quick run, which is what its file has as well."""
    ran = _run("--quick", "--json", file, program=program)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    word, _, text = ran.stdout.splitlines()[-1].partition(" ")
    assert word == "RESULT"
    result = json.loads(text)
    assert json.loads(file.read_text(encoding="utf-8"))["result"] == result
    return result


def test_a_quick_benchmark_of_everything_ends_with_a_well_formed_result(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    ran = _run("--quick", "--json", file)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    word, _, text = ran.stdout.splitlines()[-1].partition(" ")
    assert word == "RESULT"
    result = json.loads(text)
    for name in (
        *("launch_p50_us", "launch_p99_us", "instant_p50_us", "sustained_per_s", "instant_per_s", "sustained_ratio"),
        *("jax_p50_us", "sustained_ratio_jax", "pjrt_us", "core_us_per_launch", "core_us_per_launch_by_gang"),
        *("fetch_p50_us", "fetch_p99_us", "fetch_instant_p50_us", "fetch_bulk_p50_us", "fetch_bulk_p99_us"),
        *("launch_fetch_p50_us", "h2d_ratio_memcpy", "d2h_ratio_memcpy", "controller_peak_mib", "buffers_per_s"),
        *("buffers_ratio_instant", "iperf_bytes_per_s", "worker_copy_ratio_iperf", "worker_copy_ratio_iperf_by_size"),
        *("data_plane_ratio_iperf",),
    ):
        numbers = list(_numbers(result[name]))
        assert numbers, name
        assert all(math.isfinite(number) and number > 0 for number in numbers), (name, result[name])
    assert set(result["core_us_per_launch"]) == {"1", "8", "64", "512"}
    assert result["fetch_p50_us"] <= result["fetch_p99_us"]
    written = json.loads(file.read_text(encoding="utf-8"))
    assert written["result"] == result
    assert sum(len(rounds) for rounds in written["sections"].values()) == result["rounds"] == 6


def test_a_side_that_fails_fails_the_benchmark(tmp_path: Path) -> None:
    program = tmp_path / "benchmarks" / "controller_core_benchmark"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho the core is broken >&2\nexit 3\n", encoding="utf-8")
    program.chmod(0o755)
    ran = _run("--only", "core", "--build", tmp_path, "--json", tmp_path / "result.json")
    assert ran.returncode == 1
    assert "controller_core_benchmark" in ran.stderr
    assert "the core is broken" in ran.stderr
    assert "RESULT" not in ran.stdout


def test_a_missing_build_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    ran = _run("--build", tmp_path, "--json", tmp_path / "result.json")
    assert ran.returncode == 1
    assert "make build" in ran.stderr
    assert "RESULT" not in ran.stdout


def test_a_quick_benchmark_of_programs_over_processes_ends_with_a_well_formed_result(tmp_path: Path) -> None:
    result = _quick_result("run_spmd.py", tmp_path / "result.json")
    for name in (
        *(
            f"psum{how}_{what}_{shape}"
            for how in ("", "_wait", "_fused")
            for what in ("ratio", "us", "peer_us")
            for shape in ("2x2", "4x2")
        ),
        *("allreduce64m_ratio", "allreduce64m_bytes_per_s", "step_ratio", "step_s", "step_peer_s"),
        *("compile_cold_ratio", "compile_cold_s", "compile_warm_s", "compile_peer_s"),
    ):
        assert math.isfinite(result[name]), name
        assert result[name] > 0, name


def test_a_quick_benchmark_of_tenants_ends_with_a_well_formed_result(tmp_path: Path) -> None:
    result = _quick_result("run_tenants.py", tmp_path / "result.json")
    for name in ("aggregate_ratio", "one_tenant_used", "idle_others_before", "idle_others_after", "mixed_cpu"):
        assert result[name] > 0, name
    for name in ("shares_error", "shares_error_of_total", "mixed_share_error", "mixed_idle", "idle_takeover_ms"):
        assert math.isfinite(result[name]), name
    for way in ("fill", "fill_ahead"):
        # No device does more than there is time for; the rest is the counts' grain in so short a time.
        assert all(0 < result[f"{way}_{clients}"] < 2 for clients in (1, 2, 4, 8))
    assert result["shares_error_of_total"] <= result["shares_error"]


def test_a_quick_benchmark_of_pipelines_ends_with_a_well_formed_result(tmp_path: Path) -> None:
    result = _quick_result("run_pipeline.py", tmp_path / "result.json")
    for dispatch in ("pipeline", "sequential"):
        for pipeline in ("4x16", "16x64"):
            for stage in ("", "_5ms"):
                # Never faster than its schedule allows.
                assert 0 < result[f"{dispatch}_{pipeline}{stage}_ratio"] <= 1.01
        assert 0 < result[f"{dispatch}_16x1_1ms_ratio"] <= 1.01
    assert result["sequential_ratio"] == result["sequential_16x64_5ms_ratio"]


@pytest.mark.parametrize("program", ["run_tenants.py", "run_pipeline.py"])
def test_benchmarks_of_the_scheduler_say_what_they_can_do_and_refuse_nonsense(program: str) -> None:
    assert "--quick" in _run("--help", program=program).stdout
    for nonsense in (("--only", "lunch"), ("--rounds", "0")):
        assert _run(*nonsense, program=program).returncode == 2
    without_a_build = _run("--quick", "--build", "/nowhere", program=program)
    assert without_a_build.returncode == 1
    assert "make build" in without_a_build.stderr
    assert "RESULT" not in without_a_build.stdout


def test_a_section_that_does_not_exist_is_a_usage_error() -> None:
    ran = _run("--only", "launch,lunch")
    assert ran.returncode == 2
    assert "lunch" in ran.stderr
