"""Everything that runs while the benchmark does, started before the first round and ended after the last."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from cluster import Cluster
from sides import BenchError, Client, Process

_CLIENT_SIDES = ("causeway", "other", "over_tcp", "instant", "jax", "other_jax")
_JAX_CPU = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"}


class Stage:
    """The sides by name:

    causeway    stock JAX on a cluster of two workers with eight devices each, over unix sockets
    other       a second client of the same cluster
    over_tcp    stock JAX on a cluster of two workers whose bulk data go by TCP
    instant     stock JAX on a server that answers at once (instant_server.cc)
    jax         stock JAX with eight CPU devices in its own process
    other_jax   a second such process
    pjrt        a launch through the plugin's C API (pjrt_direct.cc)
    """

    def __init__(self, build: Path, folder: Path):
        self.build = build
        self.folder = folder
        self.clusters: dict[str, Cluster] = {}
        self._clients: dict[str, Client] = {}
        self._running = ExitStack()

    def client(self, name: str) -> Client:
        return self._clients[name]

    def start(self, names: Iterable[str]):
        """Starts these sides, all at once, and waits until they are warm."""
        wanted = set(names)
        if wanted & {"causeway", "other"}:
            self._start_cluster("local", devices=8, over_tcp=False)
        if "over_tcp" in wanted:
            self._start_cluster("tcp", devices=1, over_tcp=True)
        if "instant" in wanted:
            server = Process(
                "instant_server",
                [self.build / "bench" / "instant_server", self._instant_address],
                self.folder / "server.log",
            )
            self._running.callback(server.stop)
            server.read()
        if "pjrt" in wanted:
            self.pjrt = Process("pjrt_direct", [self.build / "bench" / "pjrt_direct"], self.folder / "pjrt.log")
            self._running.callback(self.pjrt.stop)
        for cluster in self.clusters.values():
            cluster.await_ready()
        for name in filter(wanted.__contains__, _CLIENT_SIDES):
            self._clients[name] = Client(f"client {name}", self._environment(name), self.folder / f"{name}.log")
            self._running.callback(self._clients[name].stop)
        for name, client in self._clients.items():
            client.await_ready()
            if (client.server == "instant") != (name == "instant"):
                raise BenchError(f"the sides are mixed up: {name} talks to {client.server!r}")

    def stop(self):
        self._running.close()

    @property
    def _instant_address(self) -> str:
        return f"unix:{self.folder}/instant.sock"

    def _start_cluster(self, name: str, *, devices: int, over_tcp: bool):
        folder = self.folder / name
        cluster = Cluster(name, self.build / "causeway", folder, workers=2, devices=devices, over_tcp=over_tcp)
        self._running.callback(cluster.stop)
        self.clusters[name] = cluster

    def _environment(self, side: str) -> dict[str, str]:
        if side in ("jax", "other_jax"):
            return _JAX_CPU
        if side == "instant":
            address = self._instant_address
        else:
            address = self.clusters["tcp" if side == "over_tcp" else "local"].client_address
        return {"JAX_PLATFORMS": "causeway", "CAUSEWAY_ADDRESS": address}
