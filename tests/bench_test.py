"""The benchmark runs and says what it promises to say. How fast anything is, is not asked here."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "release"


def _run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "bench" / "run.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.skipif(not BUILD.is_dir(), reason="needs the release build: make build")
def test_a_tiny_benchmark_ends_with_a_well_formed_result() -> None:
    ran = _run("--rounds", "2", "--launches", "5", "--burst", "20")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    word, _, text = ran.stdout.splitlines()[-1].partition(" ")
    assert word == "RESULT"
    result = json.loads(text)
    for name in ("launch_p50_us", "instant_p50_us", "sustained_per_s", "instant_per_s", "sustained_ratio", "pjrt_us"):
        assert math.isfinite(result[name]), name
        assert result[name] > 0, name
    assert result["rounds"] == 2


def test_a_missing_build_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    ran = _run("--build", tmp_path)
    assert ran.returncode == 1
    assert "make build" in ran.stderr
    assert "RESULT" not in ran.stdout
