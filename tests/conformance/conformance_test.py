"""The runner itself: what it counts, what it excuses, and that a test which kills the interpreter costs no other."""

import json
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from conformance import limits, report, runs, session
from conformance.limits import Limit
from conformance.progress import Board
from conformance.run import FILES
from conformance.session import Outcome, Selection, Stopped, run
from conformance.suite import CAUSEWAY, REPOSITORY, Side, SuiteError, causeway, unpack

PASSED = Outcome("passed")
FAILED = Outcome("failed", error="ValueError: no such thing")
SKIPPED = Outcome("skipped", error="not on this platform")
NO_SUCH_THING = Limit(("a_test.py::T::x*",), "no such thing", "the client has none")


def test_what_does_not_pass_on_stock_counts_nowhere():
    counts = report.compare({"a_test.py::T::x": FAILED, "a_test.py::T::y": SKIPPED}, {}, [])
    assert report.total(counts) == report.Count()


def test_a_test_that_is_skipped_or_missing_here_has_failed():
    stock = dict.fromkeys(["a_test.py::T::x", "a_test.py::T::y", "b_test.py::T::z"], PASSED)
    counts = report.compare(stock, {"a_test.py::T::x": PASSED, "a_test.py::T::y": SKIPPED}, [])
    assert (counts["a_test"].passed_here, counts["a_test"].ratio) == (1, 0.5)
    assert list(report.total(counts).failed) == ["a_test.py::T::y", "b_test.py::T::z"]


def test_an_excused_test_leaves_the_ratio_alone():
    stock = {"a_test.py::T::x1": PASSED, "a_test.py::T::y": PASSED}
    counts = report.compare(stock, {"a_test.py::T::x1": FAILED, "a_test.py::T::y": PASSED}, [NO_SUCH_THING])
    assert list(counts["a_test"].excused) == ["a_test.py::T::x1"]
    assert counts["a_test"].ratio == 1.0


def test_an_excuse_holds_only_for_the_failure_it_names():
    assert NO_SUCH_THING.excuses("a_test.py::T::x1", FAILED)
    assert not NO_SUCH_THING.excuses("a_test.py::T::y", FAILED)
    assert not NO_SUCH_THING.excuses("a_test.py::T::x1", Outcome("failed", error="Segmentation fault"))
    assert not NO_SUCH_THING.excuses("a_test.py::T::x1", PASSED)


def test_excuses_for_what_passes_or_does_not_exist_are_reported():
    x, y = "a_test.py::T::x", "a_test.py::T::y"
    assert limits.stale([NO_SUCH_THING], {x: FAILED}, [x]) == []
    assert "passes" in limits.stale([NO_SUCH_THING], {x: PASSED}, [x])[0]
    assert "no such test" in limits.stale([NO_SUCH_THING], {y: PASSED}, [y])[0]
    assert limits.stale([NO_SUCH_THING], {"b_test.py::T::x": PASSED}, ["b_test.py::T::x"]) == []


def test_a_limit_without_a_reason_is_refused(tmp_path):
    file = tmp_path / "limits.toml"
    file.write_text('[[limit]]\ntests = ["a_test.py::T::x"]\nerror = "e"\n', encoding="utf-8")
    with pytest.raises(SuiteError, match="limit 1"):
        limits.load(file)


def test_the_files_limits_are_well_formed():
    assert limits.load()


def test_a_missing_archive_is_an_error_that_names_it(tmp_path):
    with pytest.raises(SuiteError, match=r"nowhere\.tar\.gz"):
        unpack(tmp_path / "nowhere.tar.gz", tmp_path)


@pytest.fixture
def suite(tmp_path):
    """A suite of one file, in which the second test takes the interpreter with it."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "a_test.py").write_text(
        textwrap.dedent(
            """
            import os
            import pytest

            def test_before(): pass
            def test_deadly(): os._exit(3)
            def test_failing(): raise ValueError("first line\\nsecond line")
            def test_lost():
                raise RuntimeError("UNAVAILABLE: Connection to IFRT proxy server was terminated: CANCELLED")
            def test_skipped(): pytest.skip("because")
            def test_after(): pass
            """
        ),
        encoding="utf-8",
    )
    return tmp_path


def test_a_crash_or_a_lost_connection_costs_one_test_only(suite):
    seen = []
    results = run(
        Side("stock", {"JAX_PLATFORMS": "cpu"}),
        suite,
        Selection("crash", ["tests/a_test.py"]),
        lambda settled, planned, failed: seen.append((settled, planned, failed)),
    )
    outcomes = {name.removeprefix("a_test.py::test_"): outcome.outcome for name, outcome in results.items()}
    assert outcomes == {
        "before": "passed",
        "deadly": "failed",
        "failing": "failed",
        "lost": "failed",
        "skipped": "skipped",
        "after": "passed",
    }
    assert "status 3" in results["a_test.py::test_deadly"].error
    assert results["a_test.py::test_failing"].error == "ValueError: first line"
    assert "because" in results["a_test.py::test_skipped"].error
    assert seen[-1] == (6, 6, 3)


def test_what_pytest_cannot_collect_is_an_error_with_its_output(suite):
    (suite / "tests" / "a_test.py").write_text("import no_such_module_anywhere\n", encoding="utf-8")
    with pytest.raises(SuiteError, match="no_such_module_anywhere"):
        run(Side("stock", {"JAX_PLATFORMS": "cpu"}), suite, Selection("broken", ["tests/a_test.py"]), lambda *_: None)


def test_a_run_that_is_told_to_stop_does(suite):
    (suite / "tests" / "a_test.py").write_text("import time\ndef test_long(): time.sleep(600)\n", encoding="utf-8")
    stop = threading.Event()
    with pytest.raises(Stopped):
        run(
            Side("stock", {"JAX_PLATFORMS": "cpu"}),
            suite,
            Selection("stopped", ["tests/a_test.py"]),
            lambda settled, planned, failed: stop.set(),
            stop,
        )


def test_only_failed_runs_again_what_did_not_pass_and_keeps_the_rest(suite, monkeypatch):
    """Two files of tests that note each run; one test fails where it should be compared, until it is mended."""
    monkeypatch.setattr(session, "BUILD", suite / "build")
    monkeypatch.setattr(runs, "STOCK", Side("stock", {"JAX_PLATFORMS": "cpu", "SUITE_SIDE": "stock"}))
    monkeypatch.setattr(runs, "CAUSEWAY", Side("causeway", {"JAX_PLATFORMS": "cpu", "SUITE_SIDE": "causeway"}))
    (suite / "tests" / "a_test.py").write_text(
        textwrap.dedent(
            """
            import os
            import pathlib

            def note(name):
                with open("ran", "a") as ran: ran.write(f"{os.environ['SUITE_SIDE']} {name}\\n")

            def test_good(): note("good")
            def test_broken():
                note("broken")
                assert os.environ["SUITE_SIDE"] == "stock" or pathlib.Path("mended").exists()
            def test_limited():
                note("limited")
                assert os.environ["SUITE_SIDE"] == "stock", "no such thing"
            """
        ),
        encoding="utf-8",
    )
    (suite / "tests" / "b_test.py").write_text("def test_good(): pass\n", encoding="utf-8")
    selections = [Selection(stem, [f"tests/{stem}.py"]) for stem in ("a_test", "b_test")]
    known = [Limit(("a_test.py::test_limited",), "no such thing", "the client has none")]

    def both(**how):
        (suite / "ran").unlink(missing_ok=True)
        stock, here = runs.Runs(suite, Board(), jobs=2).both(selections, known, **how)
        counts = report.compare(stock, here, known)
        return (suite / "ran").read_text(encoding="utf-8").splitlines(), list(report.total(counts).failed)

    names = ["good", "broken", "limited"]
    assert both() == (
        [f"{side} {name}" for side in ("stock", "causeway") for name in names],
        ["a_test.py::test_broken"],
    )
    (suite / "mended").touch()
    assert both(only_failed=True) == (["causeway broken"], [])
    assert both() == ([f"causeway {name}" for name in names], [])  # the yardstick was kept


def test_a_cluster_of_another_size_keeps_results_of_its_own():
    assert causeway().name == CAUSEWAY.name == "causeway"
    wide = causeway(hosts=4, devices=2)
    assert wide.name == "causeway-1x4x2"
    assert wide.settings["CAUSEWAY_HOSTS"] == "4"
    with pytest.raises(SuiteError, match="are not 8 devices"):
        causeway(hosts=4)


SPMD_FILES = ("shard_map_test", "pjit_test", "pmap_test", "array_test", "multi_device_test")


@pytest.mark.skipif(not (REPOSITORY / "build/release").is_dir(), reason="needs the release build: make build")
@pytest.mark.parametrize(
    ("cluster", "files"),
    [((), FILES), (("--hosts", "4", "--devices", "2"), SPMD_FILES)],
    ids=["one worker", "four workers"],
)
def test_a_few_of_jaxs_own_tests_pass_through_causeway(cluster, files):
    command = [sys.executable, Path(__file__).with_name("run.py"), "--quick", *cluster, "--files", *files]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
    word, _, result = ran.stdout.splitlines()[-1].partition(" ")
    assert word == "RESULT"
    result = json.loads(result)
    assert result["failed"] == 0, ran.stdout[-4000:]
    assert set(result["files"]) == set(files)
