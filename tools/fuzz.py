#!/usr/bin/env python3
"""`make fuzz`: runs the fuzz targets and says what they found.

    tools/fuzz.py                                  a minute each, as many at a time as there are processors
    tools/fuzz.py --seconds 600 ifrt_session_fuzz  one target, ten minutes
    tools/fuzz.py --runs 10000000 --jobs 1         ten million inputs each
    tools/fuzz.py --merge                          makes tests/corpus of what is in build/fuzz/corpus, minimised
    tools/fuzz.py --list                           the targets

Each target starts from tests/corpus/TARGET and keeps what it learns in build/fuzz/corpus/TARGET. An input that crashes,
leaks, takes too long or too much memory is left in build/fuzz/found/TARGET-…; src/fuzz/README.md says what to do with
it. The last line is RESULT {json}; the exit status is 0 only if nothing was found, 130 after Ctrl-C, which ends the
targets in order and still shows what they did.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "fuzz"
BINARIES = BUILD / "fuzz"
WORK = BUILD / "corpus"
FOUND = BUILD / "found"
CORPUS = ROOT / "tests" / "corpus"

MAX_BYTES = 128  # longer inputs are slower, and what takes that many bytes to say has been seen
TIMEOUT_S = 20  # for one input
RSS_LIMIT_MB = 2048
PROGRESS_S = 15

# How libFuzzer names what it found, and what we count it as.
_KINDS = {"crash": "crashes", "leak": "leaks", "timeout": "timeouts", "oom": "ooms", "slow-unit": None}

_ENVIRONMENT = {
    # A small quarantine keeps memory warm: inputs are short, so what is used after its end is used soon. Stacks of
    # allocations are for whoever runs a finding again. Together that is 1.4 times the inputs a second.
    "ASAN_OPTIONS": "quarantine_size_mb=1:malloc_context_size=1:detect_leaks=1:allocator_may_return_null=1",
    "LSAN_OPTIONS": f"suppressions={ROOT}/tools/sanitizers/lsan.supp:print_suppressions=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "ASAN_SYMBOLIZER_PATH": "/usr/bin/llvm-symbolizer-14",
}


@dataclass
class Target:
    """One fuzz target and what became of its run."""

    name: str
    process: subprocess.Popen | None = None
    log: IO | None = None
    started: float = 0
    runs: int = 0
    seconds: float = 0
    coverage: int = 0
    found: list[Path] = field(default_factory=list)
    failed: bool = False

    @property
    def binary(self) -> Path:
        return BINARIES / self.name

    def counts(self) -> dict[str, int]:
        counts = dict.fromkeys(filter(None, _KINDS.values()), 0)
        for path in self.found:
            kind = _KINDS.get(path.name.removeprefix(f"{self.name}-").rsplit("-", 1)[0])
            if kind:
                counts[kind] += 1
        return counts

    def start(self, options: argparse.Namespace):
        work = WORK / self.name
        work.mkdir(parents=True, exist_ok=True)
        FOUND.mkdir(parents=True, exist_ok=True)
        seeds = CORPUS / self.name
        command = [
            str(self.binary),
            f"-max_len={MAX_BYTES}",
            f"-timeout={TIMEOUT_S}",
            f"-rss_limit_mb={RSS_LIMIT_MB}",
            "-detect_leaks=1",
            "-print_final_stats=1",
            "-print_funcs=0",  # naming functions takes longer than running them
            "-entropic=0",  # with our many small corpora it would take half of the time
            "-len_control=0",
            "-reload=0",
            f"-seed={options.seed}",
            f"-artifact_prefix={FOUND}/{self.name}-",
        ]
        command.append(f"-runs={options.runs}" if options.runs else f"-max_total_time={options.seconds}")
        command += [str(work)] + ([str(seeds)] if seeds.is_dir() else [])
        self.log = (BUILD / f"{self.name}.log").open("w+", encoding="utf-8", errors="replace")
        self.started = time.time()
        self.process = subprocess.Popen(
            command,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=os.environ | _ENVIRONMENT,
            start_new_session=True,  # Ctrl-C is ours to pass on
        )

    def look(self):
        """Takes the newest figures from the log."""
        path = Path(self.log.name)
        size = path.stat().st_size
        with path.open(encoding="utf-8", errors="replace") as log:
            log.seek(max(0, size - 16384))
            tail = log.read()
        for runs, coverage in re.findall(r"^#(\d+)\s.*?cov: (\d+)", tail, re.MULTILINE):
            self.runs, self.coverage = int(runs), int(coverage)
        if final := re.findall(r"^stat::number_of_executed_units: (\d+)", tail, re.MULTILINE):
            self.runs = int(final[-1])
        self.seconds = time.time() - self.started

    def ended(self) -> bool:
        """Whether it has; then what it found is known."""
        if self.process.poll() is None:
            return False
        self.look()
        self.log.close()
        self.found = sorted(p for p in FOUND.glob(f"{self.name}-*") if p.stat().st_mtime >= self.started - 1)
        # libFuzzer ends with 0 also when it was told to stop; anything else without a finding is a defect of the run.
        self.failed = self.process.returncode != 0 or any(self.counts().values())
        return True

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)


def all_targets() -> list[str]:
    """The names, from the files: src/FOLDER/foo_fuzz.cc is FOLDER_foo_fuzz."""
    return sorted(f"{path.parent.name}_{path.stem}" for path in (ROOT / "src").glob("*/*_fuzz.cc"))


def run(targets: Sequence[Target], options: argparse.Namespace) -> bool:
    """Runs all, `options.jobs` at a time. False: interrupted."""
    waiting = deque(targets)
    running: list[Target] = []
    interrupted = False
    said = time.time()
    while waiting or running:
        try:
            while waiting and len(running) < options.jobs:
                target = waiting.popleft()
                target.start(options)
                running.append(target)
                print(f"{target.name:34} started", flush=True)
            time.sleep(0.5)
        except KeyboardInterrupt:
            interrupted = True
            waiting.clear()
            for target in running:
                target.stop()
        for target in [t for t in running if t.ended()]:
            running.remove(target)
            state = "FOUND SOMETHING" if target.failed and not interrupted else "done"
            print(f"{target.name:34} {state} after {target.runs} inputs, {target.seconds:.0f} s", flush=True)
        if time.time() - said >= PROGRESS_S:
            said = time.time()
            for target in running:
                target.look()
                per_s = target.runs / max(target.seconds, 1e-9)
                print(f"{target.name:34} {target.runs:10} inputs {per_s:8.0f}/s  cov {target.coverage}", flush=True)
    return not interrupted


def say(targets: Sequence[Target]) -> bool:
    """Prints the table for people and the line for programs. True: nothing was found."""
    print(
        f"\n{'target':34} {'inputs':>12} {'seconds':>8} {'cov':>6} {'crashes':>8} {'leaks':>6} {'slow':>5} {'oom':>4}"
    )
    result = {}
    for target in targets:
        counts = target.counts()
        print(
            f"{target.name:34} {target.runs:12} {target.seconds:8.0f} {target.coverage:6} {counts['crashes']:8} "
            f"{counts['leaks']:6} {counts['timeouts']:5} {counts['ooms']:4}"
        )
        result[target.name] = {"runs": target.runs, "seconds": round(target.seconds), **counts}
    for target in targets:
        for path in target.found:
            print(f"found: {path.relative_to(ROOT)}")
        if target.failed and not target.found:
            print(f"failed: {target.name} ended with {target.process.returncode}; see {target.log.name}")
    print(f"RESULT {json.dumps(result)}", flush=True)
    return not any(target.failed for target in targets)


def merge(names: Sequence[str]):
    """Replaces what the committed corpus has by the fewest inputs that go the same ways; regressions stay."""
    for name in names:
        kept = CORPUS / name
        kept.mkdir(parents=True, exist_ok=True)
        (WORK / name).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILD) as folder:
            arguments = ["-merge=1", "-set_cover_merge=1", f"-max_len={MAX_BYTES}", folder, str(WORK / name), str(kept)]
            subprocess.run(
                [str(BINARIES / name), *arguments],
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | _ENVIRONMENT,
            )
            for old in kept.iterdir():
                if not old.name.startswith("regression-"):
                    old.unlink()
            regressions = {path.read_bytes() for path in kept.iterdir()}
            # Short names: what libFuzzer calls an input by is its hash.
            for new in sorted(Path(folder).iterdir()):
                if new.read_bytes() not in regressions:
                    shutil.copyfile(new, kept / new.name[:12])
        sizes = [path.stat().st_size for path in kept.iterdir()]
        print(f"{name:34} {len(sizes):5} inputs, {sum(sizes):7} bytes", flush=True)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="tools/fuzz.py"
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    parser.add_argument("--runs", type=int, default=0, help="inputs for each target, instead of a time")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="targets at a time (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations; 0: another one each time")
    parser.add_argument("--merge", action="store_true", help="minimise the corpus instead of fuzzing")
    parser.add_argument("--list", action="store_true", help="show the targets' names")
    options = parser.parse_args(arguments)
    known = all_targets()
    if options.list:
        print("\n".join(known))
        return 0
    if unknown := sorted(set(options.targets) - set(known)):
        parser.error(f"no such target: {', '.join(unknown)} (--list shows them)")
    if options.runs < 0 or options.seconds < 1 or options.jobs < 1:
        parser.error("--runs, --seconds and --jobs are positive")
    names = options.targets or known
    if subprocess.run([ROOT / "tools" / "build.sh", "fuzz", *names], check=False).returncode != 0:
        print("fuzz: the targets could not be built", file=sys.stderr)
        return 1
    if options.merge:
        merge(names)
        return 0
    targets = [Target(name) for name in names]
    completed = run(targets, options)
    clean = say([target for target in targets if target.process is not None])
    if not completed:
        print("fuzz: interrupted", file=sys.stderr)
        return 130
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
