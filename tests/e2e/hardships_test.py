"""What an operator gets wrong, or finds taken: it is refused with the cure in the text, and harms nobody who runs."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
from pathlib import Path

import jax.numpy as jnp
import pytest
from harness import Client, Cluster, Process, alive, clean_environment, eventually, status_if_any, workers_of

from causeway.binary import find_binary


def start(folder: Path, name: str, *arguments: str, **environment: str) -> Process:
    return Process([str(find_binary()), *arguments], folder / f"{name}.log", environment)


def with_flags(flags: dict[str, str], more: tuple[str, ...]) -> list[str]:
    """The flags as arguments, where those in `more` win."""
    flags = {**flags, **dict(zip(more[::2], more[1::2], strict=True))}
    return [text for flag in flags.items() for text in flag]


def controller(folder: Path, name: str, *more: str, **environment: str) -> Process:
    """A controller whose sockets have names of their own."""
    flags = {
        "--client-address": f"unix:{folder}/{name}.client",
        "--control-address": f"unix:{folder}/{name}.control",
        "--data-address": f"unix:{folder}/{name}.data",
    }
    return start(folder, name, "controller", *with_flags(flags, more), **environment)


def worker(folder: Path, log: str, control: str, *more: str, **environment: str) -> Process:
    flags = {"--controller": control, "--devices": "1", "--data-address": f"unix:{folder}/{log}.data"}
    return start(folder, log, "worker", *with_flags(flags, more), **environment)


def expect_refused(process: Process, *texts: str) -> None:
    with process:
        assert process.popen.wait(30) == 1, process.log_tail()
        for text in texts:
            assert text in process.log.read_text()


def test_a_second_controller_does_not_take_over_a_live_client_socket(folder: Path) -> None:
    with Cluster.up(folder) as cluster:
        second = controller(folder, "second", "--client-address", cluster.client_address)
        expect_refused(second, f"cannot listen on {cluster.client_address}: another process listens there")
        with Client(cluster.client_address, folder) as client:
            assert client.call(lambda: float(jnp.arange(4.0).sum())) == 6


def test_a_port_that_is_taken_is_said_whoever_wants_it(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for flag in ("--client-address", "--control-address", "--data-address"):
            expect_refused(controller(folder, f"c{flag}", flag, address), f"cannot listen on {address}", "in use")
        expect_refused(
            worker(folder, "w", f"unix:{folder}/none", "--data-address", address), f"cannot listen on {address}"
        )
        up = start(folder, "up", "up", "--client-address", address, "--dir", str(folder))
        expect_refused(up, "the controller has ended (exit status 1)", f"cannot listen on {address}")


def write_token(folder: Path, name: str, token: str) -> str:
    path = folder / name
    path.write_text(token)
    path.chmod(0o600)
    return str(path)


def test_a_worker_with_the_wrong_token_says_so_and_stays_outside(folder: Path) -> None:
    good = write_token(folder, "good", "sesame\n")
    bad = write_token(folder, "bad", "simsala\n")
    control = f"unix:{folder}/c.control"

    def status(token: str) -> subprocess.CompletedProcess[str]:
        command = [str(find_binary()), "status", "--controller", control, "--token-file", token]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, env=clean_environment(), check=False)

    with controller(folder, "c", "--token-file", good):
        with worker(folder, "wrong", control, "--name", "w", "--token-file", bad) as wrong:
            eventually(lambda: "the worker's token is not the cluster's" in wrong.log.read_text(), "it is told")
            assert wrong.popen.poll() is None, "it keeps trying: the mistake may be the controller's"
            assert "--token-file" in status(bad).stderr
            assert "0 of 1 workers up" in status(good).stdout
        with worker(folder, "right", control, "--name", "w", "--token-file", good):
            eventually(lambda: "1 of 1 workers up" in status(good).stdout, "the right one joins", 30)


def frame(body: bytes) -> bytes:
    return struct.pack("<I", len(body)) + body


def test_a_worker_of_another_protocol_version_is_sent_away_with_the_cure(folder: Path) -> None:
    """Spoken by hand: the Hello of a release that does not exist."""
    with Cluster.up(folder) as cluster:
        hello = b"\x08\x63" + b"\x12\x03old"  # version = 99, name = "old"
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(10)
            link.connect(cluster.control_address.removeprefix("unix:"))
            link.sendall(b"CWLINK\x01\x00" + frame(b"\x0a" + bytes([len(hello)]) + hello))
            answer = b""
            while chunk := link.recv(4096):
                answer += chunk
        assert b"the worker speaks control protocol 99" in answer
        assert b"run the same Causeway release on both" in answer
        assert [w["name"] for w in cluster.workers()] == ["island00-host00"]


def test_of_two_workers_with_one_name_the_second_waits_until_the_first_is_gone(folder: Path) -> None:
    control = f"unix:{folder}/c.control"
    with (
        controller(folder, "c", "--heartbeat", "0.2", "--heartbeat-timeout", "2"),
        worker(folder, "first", control, "--name", "w") as first,
    ):
        eventually(lambda: "joined the cluster" in first.log.read_text(), "the first joins", 30)
        with worker(folder, "second", control, "--name", "w") as second:
            eventually(lambda: "a worker named w is connected" in second.log.read_text(), "the second is told")
            assert "give each worker its own --name" in second.log.read_text()
            # Somebody's mistake; or it replaces a host that stands still, and then it comes in when that is lost.
            os.kill(first.pid, signal.SIGSTOP)
            eventually(lambda: "joined the cluster" in second.log.read_text(), "the second takes its place", 30)
            os.kill(first.pid, signal.SIGCONT)
            eventually(lambda: "a worker named w is connected" in first.log.read_text(), "the first is kept out", 30)
            (only,) = workers_of(eventually(lambda: status_if_any(control), "the controller answers"))
            assert (only["alive"], only["pid"]) == (True, second.pid)
            assert alive(first.pid)


def test_a_token_file_that_others_can_read_is_refused(folder: Path) -> None:
    token = Path(write_token(folder, "token", "sesame"))
    token.chmod(0o644)
    expect_refused(controller(folder, "c", "--token-file", str(token)), f"chmod 600 {token}")


@pytest.mark.parametrize("command", ["controller", "up"])
def test_a_heartbeat_that_is_not_shorter_than_its_timeout_is_refused(folder: Path, command: str) -> None:
    process = start(folder, command, command, "--heartbeat", "5", "--heartbeat-timeout", "5")
    expect_refused(process, "--heartbeat-timeout must be longer than --heartbeat")
