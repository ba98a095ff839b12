"""Section `launch`: a no-op launch, waited for, and bursts of them."""

from figures import Figures, Report, Rounds, Row, in_turn, median, per_s, us
from scale import Scale
from stage import Stage

BUDGET_ABOVE_INSTANT_US = 150.0  # DESIGN.md, section 7
BUDGET_SUSTAINED_RATIO = 0.6
_CLIENTS = ("causeway", "instant", "jax")


class Launch:
    name = "launch"
    about = "no-op launches, waited for one by one and in bursts"
    sides = (*_CLIENTS, "pjrt")
    rounds = 10

    def round(self, stage: Stage, scale: Scale, number: int) -> Figures:
        figures: Figures = {}
        for name in in_turn(_CLIENTS, number):
            client = stage.client(name)
            latencies = client.times_us("latency", scale.launches)
            seconds = client.do("burst", count=scale.burst)["seconds"]
            figures[name] = {"us": latencies, "per_s": scale.burst / seconds}
        figures["pjrt"] = {"us": float(stage.pjrt.ask(str(scale.burst)))}
        return figures

    def line(self, figures: Figures) -> str:
        texts = [f"{name} {us(median(figures[name]['us']))} {per_s(figures[name]['per_s'])}" for name in _CLIENTS]
        return "; ".join([*texts, f"PJRT {figures['pjrt']['us']:.2f} us"])

    def report(self, rounds: Rounds) -> Report:
        p50 = {name: rounds.median(name, "us") for name in _CLIENTS}
        p99 = {name: rounds.percentile(99, name, "us") for name in _CLIENTS}
        rate = {name: rounds.median(name, "per_s") for name in _CLIENTS}
        above = rounds.difference(("causeway", "us"), ("instant", "us"))
        ratio = {peer: rounds.ratio(("causeway", "per_s"), (peer, "per_s")) for peer in ("instant", "jax")}
        pjrt = rounds.median("pjrt", "us")
        result = {
            "launch_p50_us": round(p50["causeway"], 1),
            "launch_p99_us": round(p99["causeway"], 1),
            "instant_p50_us": round(p50["instant"], 1),
            "instant_p99_us": round(p99["instant"], 1),
            "jax_p50_us": round(p50["jax"], 1),
            "jax_p99_us": round(p99["jax"], 1),
            "launch_above_instant_us": round(above, 1),
            "sustained_per_s": round(rate["causeway"]),
            "instant_per_s": round(rate["instant"]),
            "jax_per_s": round(rate["jax"]),
            "sustained_ratio": round(ratio["instant"], 3),
            "sustained_ratio_jax": round(ratio["jax"], 3),
            "pjrt_us": round(pjrt, 2),
        }
        instant_server, stock_jax = "a server that answers at once", "stock JAX, one process"
        rows = [
            Row(
                "no-op launch, p50",
                us(p50["causeway"]),
                instant_server,
                us(p50["instant"]),
                f"{above:+.1f} us",
                f"<= +{BUDGET_ABOVE_INSTANT_US:.0f} us",
                above <= BUDGET_ABOVE_INSTANT_US,
            ),
            Row("no-op launch, p99", us(p99["causeway"]), instant_server, us(p99["instant"])),
            Row("no-op launch, p50", us(p50["causeway"]), stock_jax, us(p50["jax"])),
            Row("no-op launch, p99", us(p99["causeway"]), stock_jax, us(p99["jax"])),
            Row(
                "launches in a burst",
                per_s(rate["causeway"]),
                instant_server,
                per_s(rate["instant"]),
                f"{ratio['instant']:.2f}",
                f">= {BUDGET_SUSTAINED_RATIO}",
                ratio["instant"] >= BUDGET_SUSTAINED_RATIO,
            ),
            Row("launches in a burst", per_s(rate["causeway"]), stock_jax, per_s(rate["jax"]), f"{ratio['jax']:.2f}"),
            Row("one launch of a burst", us(1e6 / rate["causeway"]), "PJRT, called directly", f"{pjrt:.2f} us"),
        ]
        return Report(result, rows)
