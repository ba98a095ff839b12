"""Section `transfer`: large arrays from the host to a device and back, beside memcpy, and what the controller holds."""

from cluster import Memory
from figures import Figures, Report, Rounds, Row, bytes_per_s, in_turn, median
from scale import Scale, Transfer
from stage import Stage

_CLIENTS = ("causeway", "jax")
_WAYS = {"up": "h2d", "down": "d2h"}
_MIB = 1 << 20

# What the controller may hold for one session that moves one array: half of what is staged, a window each way, and what
# gRPC has in hand (src/ifrt/host_memory.h, src/base/limits.h).
BUDGET_HELD_MIB = 320


def _label(size: Transfer) -> str:
    return f"{size.megabytes}MiB" if size.megabytes % 1024 else f"{size.megabytes // 1024}GiB"


class Transfers:
    name = "transfer"
    about = "large arrays to a device and back, beside memcpy and stock JAX, and the controller's memory"
    sides = _CLIENTS
    rounds = 4

    def round(self, stage: Stage, scale: Scale, number: int) -> Figures:
        """By size: bytes a second of each side, up and down, of memcpy, and how the controller grew."""
        figures: Figures = {}
        for size in scale.transfers:
            of_size = figures[_label(size)] = {}
            copied = stage.client("jax").do("memcpy", megabytes=size.megabytes, count=size.count + 1)["seconds"]
            of_size["memcpy"] = size.megabytes * _MIB / median(copied)
            for name in in_turn(_CLIENTS, number):
                memory = Memory(stage.clusters["local"].controller.pid)
                before = memory.begin()
                times = stage.client(name).do(
                    "transfer", megabytes=size.megabytes, count=size.count, copy=name == "jax"
                )
                of_size[name] = {way: size.megabytes * _MIB / median(times[way]) for way in _WAYS}
                if name == "causeway":
                    peak = memory.peak()
                    of_size["controller_grew_mib"] = round((peak - before) / _MIB, 1)
                    of_size["controller_peak_mib"] = round(peak / _MIB, 1)
        return figures

    def line(self, figures: Figures) -> str:
        texts = []
        for label, of_size in figures.items():
            if label == "others":
                continue
            sides = [f"{name} {' / '.join(bytes_per_s(of_size[name][way]) for way in _WAYS)}" for name in _CLIENTS]
            texts.append(f"{label}: memcpy {bytes_per_s(of_size['memcpy'])}, {', '.join(sides)}")
        return "; ".join(texts)

    def report(self, rounds: Rounds) -> Report:
        labels = [label for label in rounds.figures[0] if label != "others"]
        result = {f"memcpy_{label}_bytes_per_s": round(rounds.median(label, "memcpy")) for label in labels}
        rows = []
        for way, key in _WAYS.items():
            ratios = {}
            for label in labels:
                ours, jax, memcpy = (label, "causeway", way), (label, "jax", way), (label, "memcpy")
                speed = bytes_per_s(rounds.median(*ours))
                of_memcpy, of_jax = rounds.ratio(ours, memcpy), rounds.ratio(ours, jax)
                ratios[label] = round(of_memcpy, 4)
                result[f"{key}_{label}_bytes_per_s"] = round(rounds.median(*ours))
                result[f"{key}_{label}_ratio_jax"] = round(of_jax, 4)
                what = f"{'host to device' if way == 'up' else 'device to host'}, {label}"
                rows += [
                    Row(what, speed, "memcpy, one thread", bytes_per_s(rounds.median(*memcpy)), f"{of_memcpy:.2f}"),
                    Row(what, speed, "stock JAX, made to copy", bytes_per_s(rounds.median(*jax)), f"{of_jax:.2f}"),
                ]
            result[f"{key}_ratio_memcpy"] = ratios[labels[-1]]
            result[f"{key}_ratio_memcpy_by_size"] = ratios
        held = max(rounds.most(label, "controller_grew_mib") for label in labels)
        result["controller_grew_mib"] = held
        result["controller_peak_mib"] = max(rounds.most(label, "controller_peak_mib") for label in labels)
        budget = f"<= {BUDGET_HELD_MIB} MiB"
        rows.append(
            Row("the controller grew by", f"{held:.0f} MiB", "array", labels[-1], "", budget, held <= BUDGET_HELD_MIB)
        )
        return Report(result, rows)
