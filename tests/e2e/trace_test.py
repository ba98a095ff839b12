"""`causeway trace` and `causeway top` on real clusters with stock JAX programs."""

from __future__ import annotations

import itertools
import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
from harness import Client, Cluster, Process, clean_environment, eventually
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from causeway.binary import find_binary

STEPS = 12
LIMIT_S = 60


def tool(cluster: Cluster, *arguments: str) -> list[str]:
    return [str(find_binary()), arguments[0], "--controller", cluster.control_address, *arguments[1:]]


def run(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        tool(cluster, *arguments),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env=clean_environment(),
        check=False,
        stdin=subprocess.DEVNULL,
    )


def start_trace(cluster: Cluster, output: Path, log: str = "trace.log") -> Process:
    """A `causeway trace` that records by now."""
    trace = Process(tool(cluster, "trace", "--seconds", "300", "-o", str(output)), cluster.folder / log)
    try:
        eventually(lambda: "recording for" in trace.log.read_text() or trace.popen.poll(), "the trace begins")
        assert trace.popen.poll() is None, trace.log_tail()
    except BaseException:
        trace.kill()
        raise
    return trace


def finish_trace(trace: Process, output: Path) -> Trace:
    trace.popen.send_signal(signal.SIGINT)
    assert trace.popen.wait(LIMIT_S) == 0, trace.log_tail()
    return Trace(json.loads(output.read_text()))


class Trace:
    """A trace event file, with its tracks by name: `worker host00 of island00 / device 0, cpu`."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.about = content["otherData"]
        self.events = content["traceEvents"]
        processes = {e["pid"]: e["args"]["name"] for e in self.events if e["name"] == "process_name"}
        self._tracks = {
            (e["pid"], e["tid"]): f"{processes[e['pid']]} / {e['args']['name']}"
            for e in self.events
            if e["name"] == "thread_name"
        }

    def track(self, event: dict[str, Any]) -> str:
        return self._tracks[event["pid"], event["tid"]]

    def device(self, event: dict[str, Any]) -> int | None:
        found = re.search(r"/ device (\d+),", self.track(event))
        return int(found[1]) if found else None

    def slices(self, category: str) -> list[dict[str, Any]]:
        return [e for e in self.events if e["ph"] == "X" and e["cat"] == category]

    def arrows(self, category: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Of each arrow, the slices that it leads from and to."""
        by_track = defaultdict(list)
        for event in self.events:
            if event["ph"] == "X" and event["cat"] in ("request", "launch"):
                by_track[event["pid"], event["tid"]].append(event)

        def slice_at(end: dict[str, Any]) -> dict[str, Any]:
            # Where one ends the next may begin: the later one is meant.
            begun = [s for s in by_track[end["pid"], end["tid"]] if s["ts"] <= end["ts"]]
            found = max(begun, key=lambda s: s["ts"])
            assert end["ts"] <= found["ts"] + found["dur"] + 0.001
            return found

        begins = {e["id"]: e for e in self.events if e["ph"] == "s" and e["cat"] == category}
        ends = {e["id"]: e for e in self.events if e["ph"] == "f" and e["cat"] == category}
        assert begins.keys() == ends.keys()
        for number, begin in begins.items():
            assert begin["ts"] <= ends[number]["ts"]
        return [(slice_at(begin), slice_at(ends[number])) for number, begin in begins.items()]


def pipeline(steps: int) -> float:
    """Two stages on the devices of two workers; nothing is waited for but the end."""
    stages = [NamedSharding(Mesh(jax.devices()[i : i + 2], "rows"), P("rows")) for i in (0, 2)]

    def first(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 20, lambda _, x: jax.numpy.sin(x) + 1, x)

    def second(x: jax.Array) -> jax.Array:
        return x * 2

    forward, finish = jax.jit(first), jax.jit(second)
    x = jax.device_put(np.ones((512, 64), np.float32), stages[0])
    total = 0.0
    for result in [finish(jax.device_put(forward(x + i), stages[1])) for i in range(steps)]:
        total += float(np.asarray(result)[0, 0])
    return total


def test_a_trace_holds_every_launch_on_its_devices_with_arrows(two_workers: Cluster) -> None:
    output = two_workers.folder / "trace.json"
    with Client(two_workers.client_address, two_workers.folder, "traced") as client:
        client.call(pipeline, 1)
        with start_trace(two_workers, output) as process:
            client.call(pipeline, STEPS)
            top = run(two_workers, "top", "--once", "--json", "--interval", "0.2")
            trace = finish_trace(process, output)
    assert trace.about["complete"]
    assert trace.about["events_dropped_by_controller"] == 0
    assert [worker["events_dropped"] for worker in trace.about["workers"]] == [0, 0]
    assert [worker["missing"] for worker in trace.about["workers"]] == ["", ""]

    launches = trace.slices("launch")
    assert all(launch["name"].startswith("traced.py (session ") for launch in launches)
    assert not any(launch["args"]["failed"] for launch in launches)
    assert len({launch["cname"] for launch in launches}) == 1
    where = Counter((launch["args"]["program"], trace.device(launch)) for launch in launches)
    (first,) = {name for name, _ in where if "first" in name}
    (second,) = {name for name, _ in where if "second" in name}
    assert [where[first, device] for device in range(4)] == [STEPS, STEPS, 0, 0]
    assert [where[second, device] for device in range(4)] == [0, 0, STEPS, STEPS]
    by_device = defaultdict(list)
    for launch in launches:
        by_device[trace.device(launch)].append((launch["ts"], launch["ts"] + launch["dur"]))
    for spans in by_device.values():
        spans.sort()
        assert all(before[1] <= after[0] + 0.0005 for before, after in itertools.pairwise(spans))

    # Every request leads to each part of its launch, and no other.
    requests = trace.arrows("request")
    assert len(requests) == len(launches)
    for request, launch in requests:
        assert trace.track(request).startswith("controller / requests of traced.py")
        assert request["args"]["launch"] == launch["args"]["launch"]
        assert request["name"] == launch["args"]["program"]

    # And what `first` makes is taken by one `second` each, on two devices.
    data = Counter((start["args"]["program"], end["args"]["program"]) for start, end in trace.arrows("data"))
    assert data[first, second] == 2 * STEPS
    assert data[second, first] == 0

    # Between the stages the data cross from one worker to the other: half of 512 x 64 floats from each device.
    crossing = [t for t in trace.slices("transfer") if re.search(r"host00 to .*host01$", trace.track(t))]
    assert sum(t["args"]["bytes"] for t in crossing) == STEPS * 512 * 64 * 4
    assert any(s["name"] == "LaunchProgram" for s in trace.slices("controller"))

    assert top.returncode == 0, top.stderr
    page = json.loads(top.stdout)
    (session,) = (s for s in page["sessions"] if s["name"] == "traced.py")
    assert session["weight"] > 0
    assert session["device_us"] > 0
    assert session["launches"] >= 2 * STEPS
    assert len(page["devices"]) == 4
    assert all(device["credits"] > 0 and device["credits_in_flight"] == 0 for device in page["devices"])


def test_a_trace_ends_after_its_time_and_may_go_to_stdout(two_workers: Cluster) -> None:
    done = run(two_workers, "trace", "--seconds", "0.3", "-o", "-")
    assert done.returncode == 0, done.stderr
    trace = Trace(json.loads(done.stdout))
    assert trace.about["complete"]
    assert trace.about["ended"] == ""
    assert trace.slices("launch") == []


def test_one_trace_at_a_time_and_a_killed_one_makes_room(two_workers: Cluster) -> None:
    output = two_workers.folder / "killed.json"
    with start_trace(two_workers, output, "killed.log") as trace:
        refused = run(two_workers, "trace", "--seconds", "0.1", "-o", str(output))
        assert refused.returncode != 0
        assert "a trace is being recorded" in refused.stderr
        trace.kill()
    eventually(
        lambda: run(two_workers, "trace", "--seconds", "0.1", "-o", str(output)).returncode == 0,
        "the recording of a killed tool is over",
    )
    assert Trace(json.loads(output.read_text())).about["complete"]


def test_a_worker_that_dies_meanwhile_costs_only_what_it_had(folder: Path) -> None:
    output = folder / "loss.json"
    with (
        Cluster.up(folder, "--no-restart", hosts=2, devices=2) as cluster,
        Client(cluster.client_address, folder, "lossy") as client,
    ):
        client.call(pipeline, 1)
        with start_trace(cluster, output) as process:
            client.call(pipeline, STEPS)
            lost = cluster.workers()[1]["name"]
            cluster.kill_worker(1)
            eventually(lambda: not cluster.workers()[1]["alive"], "the loss is noticed")
            trace = finish_trace(process, output)
    missing = {worker["name"]: worker["missing"] for worker in trace.about["workers"]}
    assert "lost" in missing.pop(lost)
    assert list(missing.values()) == [""]
    assert sum("first" in launch["args"]["program"] for launch in trace.slices("launch")) == 2 * STEPS


def test_what_cannot_be_done_is_said_with_the_cure(folder: Path, two_workers: Cluster) -> None:
    binary = str(find_binary())
    nobody = [binary, "trace", "--controller", f"unix:{folder}/nobody", "-o", str(folder / "t.json")]
    done = subprocess.run(nobody, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode != 0
    assert "--controller says where it is" in done.stderr
    assert list(folder.iterdir()) == [], "nothing is left"
    done = run(two_workers, "trace", "-o", str(folder / "missing" / "t.json"))
    assert done.returncode != 0
    assert "-o names the file" in done.stderr
    top = subprocess.run(
        [binary, "top", "--controller", f"unix:{folder}/nobody"],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert top.returncode != 0
    assert "causeway up" in top.stderr


def test_top_on_a_terminal_is_refreshed_and_leaves_it_as_it_was(two_workers: Cluster) -> None:
    with Client(two_workers.client_address, two_workers.folder, "watched") as client:
        client.call(pipeline, 2)
        ours, theirs = pty.openpty()
        top = subprocess.Popen(
            tool(two_workers, "top", "--interval", "0.1"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=clean_environment({"TERM": "xterm"}),
        )
        os.close(theirs)
        shown = b""

        def read() -> None:
            nonlocal shown
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    shown += os.read(ours, 1 << 16)
                except OSError:  # it has left
                    time.sleep(0.05)

        try:
            deadline = time.monotonic() + LIMIT_S
            while shown.count(b"4 devices") < 3 and time.monotonic() < deadline:
                read()
            assert shown.count(b"4 devices") >= 3, shown
            assert b"watched.py" in shown
            os.write(ours, b"q")
            while top.poll() is None and time.monotonic() < deadline:
                read()
            assert top.wait(1) == 0
            read()
        finally:
            top.kill()
            top.wait(10)
            os.close(ours)
    assert shown.startswith(b"\x1b[?1049h"), "a screen of its own"
    assert shown.endswith(b"\x1b[?1049l"), "and the first one is back"


def test_top_once_is_a_page_for_people(two_workers: Cluster) -> None:
    with Client(two_workers.client_address, two_workers.folder, "paged") as client:
        client.call(pipeline, 1)
        page = run(two_workers, "top", "--once", "--interval", "0.1")
    assert page.returncode == 0, page.stderr
    assert "paged.py" in page.stdout
    assert "\x1b" not in page.stdout
