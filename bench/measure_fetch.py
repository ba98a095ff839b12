"""Section `fetch`: scalars to the host, alone and while another client moves bulk data."""

import json

from figures import Figures, Report, Rounds, Row, bytes_per_s, in_turn, median, us
from scale import Scale
from sides import Client
from stage import Stage

_CLIENTS = ("causeway", "instant", "jax")
_PEERS = {"instant": "a server that answers at once", "jax": "stock JAX, one process"}
# What is timed: alone, alone with a launch before it, and beside bulk transfers.
_KINDS = {"fetch": "fetch of a scalar", "launch_fetch": "launch and fetch", "fetch_bulk": "fetch beside bulk"}


class _Bulk:
    """Bulk transfers of a client, while in the context."""

    def __init__(self, client: Client, *, copy: bool):
        self._client = client
        self._copy = copy
        self.bytes_per_s = 0.0

    def __enter__(self) -> "_Bulk":
        self._client.do("bulk", copy=self._copy)  # answers when it has begun
        return self

    def __exit__(self, failure: type | None, *_):
        if failure is None:
            moved = json.loads(self._client.ask("stop"))
            self.bytes_per_s = moved["bytes"] / moved["seconds"]


class Fetch:
    name = "fetch"
    about = "scalars to the host, alone, after a launch, and beside bulk transfers of a second client"
    sides = (*_CLIENTS, "other", "other_jax")
    rounds = 6

    def round(self, stage: Stage, scale: Scale, number: int) -> Figures:
        figures: Figures = {name: {} for name in _CLIENTS}
        for name in in_turn(_CLIENTS, number):
            for kind in ("fetch", "launch_fetch"):
                figures[name][kind] = stage.client(name).times_us(kind, scale.fetches)
        # The instant server's client beside the bulk transfers of Causeway's: what it waits for is the machine alone.
        with _Bulk(stage.client("other"), copy=False) as bulk:
            for name in in_turn(("causeway", "instant"), number):
                figures[name]["fetch_bulk"] = stage.client(name).times_us("fetch", scale.fetches)
        figures["causeway"]["bulk_bytes_per_s"] = bulk.bytes_per_s
        with _Bulk(stage.client("other_jax"), copy=True) as bulk:
            figures["jax"]["fetch_bulk"] = stage.client("jax").times_us("fetch", scale.fetches)
        figures["jax"]["bulk_bytes_per_s"] = bulk.bytes_per_s
        return figures

    def line(self, figures: Figures) -> str:
        texts = [f"{name} {' / '.join(us(median(figures[name][kind])) for kind in _KINDS)}" for name in _CLIENTS]
        return f"alone / with launch / beside bulk: {'; '.join(texts)}"

    def report(self, rounds: Rounds) -> Report:
        result = {}
        rows = []
        for kind, what in _KINDS.items():
            p50 = {name: rounds.median(name, kind) for name in _CLIENTS}
            p99 = {name: rounds.percentile(99, name, kind) for name in _CLIENTS}
            for name in _CLIENTS:
                key = kind if name == "causeway" else f"{kind}_{name}"
                result |= {f"{key}_p50_us": round(p50[name], 1), f"{key}_p99_us": round(p99[name], 1)}
            rows += [
                Row(f"{what}, p50", us(p50["causeway"]), peer, us(p50[name]), f"{p50['causeway'] - p50[name]:+.1f} us")
                for name, peer in _PEERS.items()
            ]
            rows += [Row(f"{what}, p99", us(p99["causeway"]), peer, us(p99[name])) for name, peer in _PEERS.items()]
        above = rounds.difference(("causeway", "fetch"), ("instant", "fetch"))
        bulk = {name: rounds.median(name, "bulk_bytes_per_s") for name in ("causeway", "jax")}
        result |= {
            "fetch_above_instant_us": round(above, 1),
            "bulk_beside_bytes_per_s": round(bulk["causeway"]),
            "bulk_beside_jax_bytes_per_s": round(bulk["jax"]),
        }
        rows.append(
            Row("the bulk beside it", bytes_per_s(bulk["causeway"]), "stock JAX, by itself", bytes_per_s(bulk["jax"]))
        )
        return Report(result, rows)
