"""JAX's own tests as Causeway runs them: where they come from, the sides they run on, what a result depends on."""

import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ARCHIVE = REPOSITORY.parent / "shared" / "conformance" / "jax-tests-v0.10.2.tar.gz"
BUILD = REPOSITORY / "build" / "conformance"
DEVICES = 8


class SuiteError(Exception):
    """The suite cannot run; the message says why and what cures it."""


@dataclass(frozen=True)
class Side:
    """An environment that the tests run in. `settings` are added to the caller's own variables."""

    name: str
    settings: Mapping[str, str]

    def environment(self) -> dict[str, str]:
        """Returns all variables of a process on this side."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "PYTEST_"))}
        inherited.pop("XLA_FLAGS", None)
        # One case of each family of generated tests, on both sides.
        shared = {"JAX_NUM_GENERATED_CASES": "1", "PYTHONUNBUFFERED": "1"}
        return inherited | shared | self.settings


STOCK = Side("stock", {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}"})


def causeway(islands: int = 1, hosts: int = 1, devices: int = DEVICES) -> Side:
    """An embedded cluster, which the package's JAX plugin starts: by default one worker with all devices; with more of
    them most programs lie on several.

    JAX's tests choose what to run by the name of the devices' platform: it is "cpu" here too, so both sides choose the
    same. SuiteError if the cluster would not have as many devices as the yardstick.
    """
    if islands * hosts * devices != DEVICES:
        raise SuiteError(
            f"{islands} islands x {hosts} hosts x {devices} devices are not {DEVICES} devices, which the yardstick has"
        )
    size = {"CAUSEWAY_ISLANDS": islands, "CAUSEWAY_HOSTS": hosts, "CAUSEWAY_DEVICES": devices}
    name = "causeway" if islands * hosts == 1 else f"causeway-{islands}x{hosts}x{devices}"
    # Nothing compiled by an earlier run.
    settings = {"JAX_PLATFORMS": "causeway", "CAUSEWAY_PROGRAM_CACHE": "none"}
    return Side(name, settings | {variable: str(number) for variable, number in size.items()})


CAUSEWAY = causeway()


def unpack(archive: Path = ARCHIVE, build: Path = BUILD) -> Path:
    """Unpacks the archive, once for each version of it, and returns the folder that holds `tests/`."""
    if not archive.exists():
        raise SuiteError(
            f"JAX's tests are not there: no {archive}. It holds `tests/` and `conftest.py` of jax-ml/jax at tag "
            "jax-v0.10.2; put it there."
        )
    root = build / f"jax-{hashlib.sha256(archive.read_bytes()).hexdigest()[:16]}"
    if root.is_dir():
        return root
    build.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=build))
    try:
        with tarfile.open(archive) as tar:
            # Debian's Python 3.11.2 has no filters yet; the archive is the project's own.
            safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            tar.extractall(scratch, **safely)
        # Settings of its own, and none: else pytest finds the repository's, which are not for these tests.
        (scratch / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        scratch.rename(root)  # whole or not at all, also when two of us unpack at once
    except OSError:
        if not root.is_dir():
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return root


def fingerprint(root: Path) -> str:
    """Names everything that the yardstick's results depend on: tests, versions, and the code that records."""
    versions = [f"{name}=={metadata.version(name)}" for name in ("jax", "jaxlib", "numpy", "scipy", "pytest")]
    recorder = Path(__file__).with_name("recorder.py").read_bytes()
    parts = [root.name, hashlib.sha256(recorder).hexdigest(), str(STOCK), *versions]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
