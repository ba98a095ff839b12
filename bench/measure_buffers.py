"""Section `buffers`: thousands of small host buffers, as putting a model's parameters on a mesh sends them."""

from figures import Figures, Report, Rounds, Row, in_turn, per_s
from scale import Scale
from stage import Stage

_CLIENTS = ("causeway", "instant", "jax")
_PEERS = {"instant": "a server that answers at once", "jax": "stock JAX, one process"}


class Buffers:
    name = "buffers"
    about = "4,000 small host buffers: 500 arrays of 8 shards, put in one call"
    sides = _CLIENTS
    rounds = 5

    def round(self, stage: Stage, scale: Scale, number: int) -> Figures:
        figures: Figures = {}
        for name in in_turn(_CLIENTS, number):
            put = stage.client(name).do("small_buffers", arguments=scale.small_arguments)
            figures[name] = put["buffers"] / put["seconds"]
        return figures

    def line(self, figures: Figures) -> str:
        return "; ".join(f"{name} {per_s(figures[name])}" for name in _CLIENTS)

    def report(self, rounds: Rounds) -> Report:
        rate = {name: rounds.median(name) for name in _CLIENTS}
        ratio = {peer: rounds.ratio(("causeway",), (peer,)) for peer in _PEERS}
        result = {
            "buffers_per_s": round(rate["causeway"]),
            "buffers_instant_per_s": round(rate["instant"]),
            "buffers_jax_per_s": round(rate["jax"]),
            "buffers_ratio_instant": round(ratio["instant"], 3),
        }
        rows = [
            Row("small host buffers", per_s(rate["causeway"]), name, per_s(rate[peer]), f"{ratio[peer]:.2f}")
            for peer, name in _PEERS.items()
        ]
        return Report(result, rows)
