"""`pip install ./python` brings the binary along."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from causeway.binary import find_binary

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.full
def test_the_wheel_carries_the_binary_and_the_entry_points(tmp_path: Path) -> None:
    source = tmp_path / "python"
    shutil.copytree(ROOT / "python", source, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__", "build"))
    binary = tmp_path / "build" / "release" / "causeway"
    binary.parent.mkdir(parents=True)
    shutil.copy2(find_binary(), binary)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-w", str(tmp_path), str(source)],
        check=True,
        capture_output=True,
        timeout=120,
    )
    (wheel,) = tmp_path.glob("causeway-*-py3-none-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (carried,) = (info for info in archive.infolist() if info.filename.endswith("causeway/bin/causeway"))
        assert carried.file_size == os.stat(binary).st_size
        assert carried.external_attr >> 16 & 0o111, "pip would install it without the right to run it"
        (entry_points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "[jax_plugins]\ncauseway = causeway.jax_plugin" in archive.read(entry_points).decode()
