"""House rules that no formatter keeps. One test a rule; a failure lists every place."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_WIDTH = 120
MAX_LINES = 1000

_NAMES = {"CMakeLists.txt", "Makefile"}
_SUFFIXES = {".cc", ".h", ".proto", ".py", ".sh", ".cmake", ".env"}
_MARKER = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")


def _source_files() -> Iterator[Path]:
    """Everything of ours that is tracked, or would be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.is_file() and (path.suffix in _SUFFIXES or path.name in _NAMES):
            yield path


FILES = sorted(_source_files())


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _expect_none(findings: list[str]) -> None:
    if findings:
        pytest.fail("\n".join(findings), pytrace=False)


def test_lines_are_no_wider_than_the_limit() -> None:
    _expect_none(
        [
            f"{path.relative_to(ROOT)}:{number}: {len(line)} columns, the limit is {MAX_WIDTH}"
            for path in FILES
            for number, line in enumerate(_lines(path), start=1)
            if len(line) > MAX_WIDTH
        ]
    )


def test_files_are_no_longer_than_the_limit() -> None:
    _expect_none(
        [
            f"{path.relative_to(ROOT)}: {length} lines, the limit is {MAX_LINES}: split it"
            for path in FILES
            if (length := len(_lines(path))) > MAX_LINES
        ]
    )


def test_nothing_is_left_for_later_in_a_comment() -> None:
    _expect_none(
        [
            f"{path.relative_to(ROOT)}:{number}: do it, or open an issue: {line.strip()}"
            for path in FILES
            for number, line in enumerate(_lines(path), start=1)
            if _MARKER.search(line)
        ]
    )


def test_no_trailing_space_and_a_newline_at_the_end() -> None:
    findings = []
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        if text and not text.endswith("\n"):
            findings.append(f"{path.relative_to(ROOT)}: no newline at the end")
        findings += [
            f"{path.relative_to(ROOT)}:{number}: trailing space"
            for number, line in enumerate(text.split("\n"), start=1)
            if line != line.rstrip()
        ]
    _expect_none(findings)


def test_every_source_folder_has_a_readme() -> None:
    _expect_none(
        [
            f"src/{folder.name}/README.md: missing (what it is, its threads, its lifetimes, why not the obvious way)"
            for folder in sorted((ROOT / "src").iterdir())
            if folder.is_dir() and not (folder / "README.md").is_file()
        ]
    )


def test_every_cpp_test_checks_something() -> None:
    _expect_none(
        [
            f"{path.relative_to(ROOT)}: no EXPECT_ or ASSERT_"
            for path in FILES
            if path.name.endswith("_test.cc") and not re.search(r"\b(EXPECT|ASSERT)_", path.read_text(encoding="utf-8"))
        ]
    )


def test_headers_are_guarded_by_their_path() -> None:
    findings = []
    for path in FILES:
        if path.suffix != ".h":
            continue
        relative = path.relative_to(ROOT / "src")
        guard = "CAUSEWAY_" + re.sub(r"[^A-Z0-9]", "_", str(relative).upper()) + "_"
        text = path.read_text(encoding="utf-8")
        if not re.search(rf"^#ifndef {guard}\n#define {guard}\n", text, re.MULTILINE):
            findings.append(f"src/{relative}: wants the guard {guard}")
        elif not text.rstrip().endswith(f"#endif  // {guard}"):
            findings.append(f"src/{relative}: wants to end with '#endif  // {guard}'")
    _expect_none(findings)


def test_includes_of_ours_are_written_from_src() -> None:
    include = re.compile(r'^#include "(\.{1,2}/|src/|[^/"]+\.h")')
    _expect_none(
        [
            f'{path.relative_to(ROOT)}:{number}: write #include "folder/file.h": {line}'
            for path in FILES
            if path.suffix in {".cc", ".h"}
            for number, line in enumerate(_lines(path), start=1)
            if include.match(line) and line != '#include "pjrt_c_api.h"'
        ]
    )


def test_locks_are_visible_to_the_thread_sanitizer() -> None:
    _expect_none(
        [
            f"{path.relative_to(ROOT)}:{number}: use std::mutex; docs/DEPENDENCIES.md says why: {line}"
            for path in FILES
            if path.suffix in {".cc", ".h"}
            for number, line in enumerate(_lines(path), start=1)
            if line.startswith('#include "absl/synchronization/')
        ]
    )
