"""The embedded cluster: `JAX_PLATFORMS=causeway python prog.py` with no address given."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Process, alive, clean_environment, descendants, eventually

# Shows where its cluster is, then does what its arguments say.
PROGRAM = """
import os, sys, time
import jax, causeway
print(len(jax.devices()), causeway.address(), flush=True)
if "wait" in sys.argv:
    time.sleep(60)
if "fork" in sys.argv:
    input()
    print("child", os.fork(), flush=True)
    time.sleep(60)
"""


class Program(Process):
    """PROGRAM, running."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        log = folder / "program.log"
        changes = {"JAX_PLATFORMS": "causeway", "TMPDIR": str(folder), "CAUSEWAY_DEVICES": "3", **environment}
        super().__init__([sys.executable, "-c", PROGRAM, *arguments], log, changes, stdin=subprocess.PIPE)
        eventually(lambda: "grpc://" in log.read_text() or self.popen.poll() is not None, "the cluster runs", 60)
        assert "grpc://" in log.read_text(), self.log_tail()
        line = next(line for line in log.read_text().splitlines() if "grpc://" in line)
        self.devices = int(line.split()[0])
        self.socket = Path(line.split()[1].removeprefix("grpc://unix:"))
        self.cluster = descendants(self.pid)

    def expect_no_trace(self) -> None:
        eventually(lambda: not any(map(alive, self.cluster)), "no process of the cluster is left")
        eventually(lambda: not self.socket.parent.exists(), "the cluster's folder is gone")


def run(folder: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment({"TMPDIR": str(folder), **environment}),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture
def broken_binary(folder: Path) -> Iterator[Path]:
    """A `causeway` that does not start: it complains, and waits if SLEEP is set."""
    binary = folder / "broken"
    binary.write_text('#!/bin/sh\necho "it has no luck" >&2\n[ -n "$SLEEP" ] && exec sleep 60\nexit 3\n')
    binary.chmod(0o700)
    yield binary
    assert not list(folder.glob("causeway-*")), "a folder was left behind"


def test_a_cluster_of_the_wanted_size_runs_and_goes_with_the_program(folder: Path) -> None:
    with Program(folder, "wait") as program:
        assert program.devices == 3
        assert stat.S_IMODE(program.socket.parent.stat().st_mode) == 0o700
        assert len(program.cluster) >= 2
        assert all(map(alive, program.cluster))
        program.popen.send_signal(signal.SIGINT)
        program.popen.wait(30)
        program.expect_no_trace()


def test_a_program_that_ends_by_itself_says_nothing_and_leaves_nothing(folder: Path) -> None:
    done = run(folder, "import jax; print(jax.jit(lambda x: x + 1)(1.0))", JAX_PLATFORMS="causeway")
    assert (done.returncode, done.stdout, done.stderr) == (0, "2.0\n", "")
    eventually(lambda: not list(folder.glob("causeway-*")), "the cluster's folder is gone")


def test_a_killed_program_leaves_nothing(folder: Path) -> None:
    with Program(folder, "wait") as program:
        program.kill()
        program.expect_no_trace()


def test_a_forked_child_does_not_keep_the_cluster(folder: Path) -> None:
    with Program(folder, "fork") as program:
        program.popen.stdin.write(b"\n")
        program.popen.stdin.close()
        eventually(lambda: "child 0" in program.log.read_text(), "the child runs")
        (child,) = descendants(program.pid) - program.cluster
        try:
            program.kill()
            program.expect_no_trace()
            assert alive(child)
        finally:
            os.kill(child, signal.SIGKILL)


def test_logs_stay_where_they_were_asked_for(folder: Path) -> None:
    logs = folder / "logs"
    with Program(folder, CAUSEWAY_LOG_DIR=str(logs)) as program:
        program.popen.wait(30)
        program.expect_no_trace()
    assert any(log.stat().st_size for log in logs.glob("*/*.log"))


def test_without_a_platform_named_no_cluster_is_started(folder: Path) -> None:
    done = run(folder, "import jax; print(jax.devices()[0].client.runtime_type); jax.devices('causeway')")
    assert "proxy" not in done.stdout
    assert "set JAX_PLATFORMS=causeway" in done.stderr


def test_the_local_cpu_can_be_used_beside_the_cluster(folder: Path) -> None:
    code = (
        "import jax; print(len(jax.devices()), jax.devices()[0] in jax.devices('causeway'), "
        "jax.devices()[0] in jax.devices('cpu'))"
    )
    done = run(folder, code, JAX_PLATFORMS="causeway,cpu", CAUSEWAY_DEVICES="3", JAX_NUM_CPU_DEVICES="2")
    assert done.stdout == "3 True False\n", done.stderr


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"CAUSEWAY_BINARY": "/nowhere/causeway"}, "CAUSEWAY_BINARY=/nowhere/causeway is no program"),
        ({"CAUSEWAY_HOSTS": "many"}, "CAUSEWAY_HOSTS='many' is not a positive whole number"),
        ({"CAUSEWAY_ADDRESS": "somewhere"}, "'somewhere' is no address of a cluster; write HOST:PORT"),
        (
            {"CAUSEWAY_ADDRESS": "unix:/nowhere/socket", "CAUSEWAY_CONNECT_TIMEOUT": "1"},
            "no connection to the Causeway cluster at grpc://unix:/nowhere/socket",
        ),
    ],
)
def test_errors_say_what_is_wrong(folder: Path, environment: dict[str, str], expected: str) -> None:
    done = run(folder, "import jax; jax.devices()", JAX_PLATFORMS="causeway", **environment)
    assert done.returncode != 0
    assert expected in done.stderr


def test_who_waits_for_a_cluster_is_told_so(folder: Path) -> None:
    environment = {"CAUSEWAY_ADDRESS": f"unix:{folder}/none.sock", "CAUSEWAY_CONNECT_TIMEOUT": "3"}
    done = run(folder, "import jax; jax.devices()", JAX_PLATFORMS="causeway", **environment)
    assert f"causeway: the cluster at grpc://unix:{folder}/none.sock does not answer so far: UNAVAILABLE" in done.stderr
    assert "trying for 1 s more" in done.stderr


def test_a_cluster_that_ends_while_it_starts_is_an_error_with_its_log(folder: Path, broken_binary: Path) -> None:
    done = run(folder, "import jax; jax.devices()", JAX_PLATFORMS="causeway", CAUSEWAY_BINARY=str(broken_binary))
    assert "ended while it started (exit status 3); the end of its log:\nit has no luck" in done.stderr


def test_a_cluster_that_takes_too_long_is_an_error_with_its_log(folder: Path, broken_binary: Path) -> None:
    environment = {"CAUSEWAY_BINARY": str(broken_binary), "SLEEP": "1", "CAUSEWAY_START_TIMEOUT": "1"}
    done = run(folder, "import jax; jax.devices()", JAX_PLATFORMS="causeway", **environment)
    assert (
        "not ready after 6 s (CAUSEWAY_START_TIMEOUT allows more); the end of its log:\nit has no luck" in done.stderr
    )
