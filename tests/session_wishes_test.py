"""What programs may wish of a cluster, as the Python package takes it. What clusters make of it: tests/e2e."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import causeway
from causeway import jax_plugin, session


@pytest.mark.parametrize(
    ("wish", "value", "taken"),
    [
        ("name", "train", "train"),
        ("weight", 2, 2.0),
        ("weight", "0.001", 0.001),
        ("weight", np.float32(0.5), 0.5),
        ("devices", 8, 8),
        ("devices", np.int64(8), 8),
        ("devices", "8", 8),
        ("devices", 0, 0),
        ("one_island", True, True),
        ("one_island", "no", False),
        ("exclusive", "ON", True),
        ("exclusive", "0", False),
        ("platform", "cuda", "cuda"),
        ("memory", 4096, 4096),
        ("memory", "4096", 4096),
        ("memory", "4KiB", 4096),
        ("memory", "512 MiB", 512 << 20),
        ("memory", "1.5GiB", 3 << 29),
        ("memory", "1024tib", 1 << 50),
        ("cap", 1, 1.0),
        ("cap", "0.25", 0.25),
    ],
)
def test_wishes_are_taken_as_people_write_them(wish: str, value: Any, taken: Any) -> None:
    (got,) = session.checked(**{wish: value}).values()
    assert (got, type(got)) == (taken, type(taken))


@pytest.mark.parametrize(
    ("wish", "values", "range_text"),
    [
        ("name", ["", "x" * 257, "a\nb", 7], "1 to 256 bytes"),
        ("weight", [0, -1, 1001, float("nan"), float("inf"), "heavy", True, [1]], "a number from 0.001 to 1000"),
        ("devices", [-1, 1.5, "2.0", "", (1 << 28) + 1, True], "a whole number from 0 .all of them. to 268435456"),
        ("one_island", [1, "maybe"], "true or false"),
        ("exclusive", [0, "2"], "true or false"),
        ("platform", ["", "x" * 65, b"cpu"], "a name such as cpu or cuda"),
        ("memory", [-1, "16GB", "GiB", "1.5", "-1KiB", "1e9", 1 << 51, 1.0, "9" * 99], "from 0 .no cap. to 1125899906"),
        ("cap", [0, -0.1, 1e-9, 1.01, float("nan"), "all"], "a number from 0.001 to 1"),
    ],
)
def test_what_cannot_be_wished_is_refused_with_the_range(wish: str, values: list[Any], range_text: str) -> None:
    for value in values:
        with pytest.raises(ValueError, match=rf"^{wish}=.*: a session's {wish} is .*{range_text}"):
            session.checked(**{wish: value})


def test_wishes_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"NAME": "n", "WEIGHT": "2", "DEVICES": "4", "ONE_ISLAND": "true", "PLATFORM": "cpu", "MEMORY": "1GiB"}
    for name, value in {**said, "CAP": "0.5", "EXCLUSIVE": ""}.items():
        monkeypatch.setenv(f"CAUSEWAY_SESSION_{name}", value)
    assert session.from_environment() == {
        "name": "n",
        "weight": 2.0,
        "devices": 4,
        "one_island": True,
        "platform": "cpu",
        "memory": 1 << 30,
        "cap": 0.5,
    }


def test_mistakes_in_the_environment_are_told_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAUSEWAY_SESSION_CAP", "2")
    with pytest.raises(ValueError, match=r"^CAUSEWAY_SESSION_CAP='2': a session's cap is a number from 0.001 to 1"):
        session.from_environment()
    monkeypatch.delenv("CAUSEWAY_SESSION_CAP")
    monkeypatch.setenv("CAUSEWAY_SESSION_WEIGTH", "2")
    with pytest.raises(ValueError, match=r"CAUSEWAY_SESSION_WEIGTH is not known; there are .*CAUSEWAY_SESSION_WEIGHT,"):
        session.from_environment()


def test_on_the_wire_there_are_bytes_flags_and_whole_numbers() -> None:
    wishes = session.checked(name="tünnel", weight=0.001, devices=2, one_island=True, memory="1KiB", cap=1 / 3)
    assert session.initialization_data(wishes) == {
        "causeway_session_name": "tünnel".encode(),
        "causeway_session_weight": b"0.001",
        "causeway_session_devices": 2,
        "causeway_session_one_island": True,
        "causeway_session_memory": 1024,
        "causeway_session_cap": b"0.3333333333333333",
    }
    for weight in (1e-3, 999.9999999999999, 1000):
        assert len(session.initialization_data(session.checked(weight=weight))["causeway_session_weight"]) <= 32


def test_connect_remembers_the_last_call_and_refuses_mistakes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax_plugin, "_wishes", {})
    monkeypatch.setattr(jax_plugin.xla_bridge, "backends_are_initialized", lambda: False)
    causeway.connect(weight=2, devices=3)
    causeway.connect(devices=2)
    assert jax_plugin._wishes == {"devices": 2}
    with pytest.raises(ValueError, match="weight=0: a session's weight is"):
        causeway.connect(weight=0)
    assert jax_plugin._wishes == {"devices": 2}
    monkeypatch.setattr(jax_plugin.xla_bridge, "backends_are_initialized", lambda: True)
    with pytest.raises(RuntimeError, match=r"too late.*clear_backends\(\)"):
        causeway.connect(devices=1)
    assert jax_plugin._wishes == {"devices": 2}
