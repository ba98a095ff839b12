"""The parts of the Python package that need no cluster."""

from __future__ import annotations

from pathlib import Path

import jax
import pytest

from causeway import jax_plugin, jax_versions
from causeway.binary import BinaryNotFound, find_binary
from causeway.embedded import ClusterStartError, Sizes, client_url


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1:29000", "grpc://127.0.0.1:29000"),
        ("grpc://head.cluster:1", "grpc://head.cluster:1"),
        ("[::1]:29000", "grpc://[::1]:29000"),
        ("unix:/run/causeway.sock", "grpc://unix:/run/causeway.sock"),
        ("grpc://unix:relative.sock", "grpc://unix:relative.sock"),
    ],
)
def test_addresses_are_taken_as_people_write_them(address: str, url: str) -> None:
    assert client_url(address) == url


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":29000", "host:http", "host:0", "host:65536", "unix:", "http://host:1"]
)
def test_what_is_no_address_is_refused_with_examples(address: str) -> None:
    with pytest.raises(ValueError, match="write HOST:PORT, grpc://HOST:PORT or unix:PATH"):
        client_url(address)


def test_sizes_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ISLANDS", "2"), ("HOSTS", "3"), ("DEVICES", "")):
        monkeypatch.setenv(f"CAUSEWAY_{name}", value)
    assert Sizes.from_environment() == Sizes(islands=2, hosts=3, devices=Sizes.devices)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "two", " "])
def test_sizes_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CAUSEWAY_ISLANDS", value)
    with pytest.raises(ClusterStartError, match=r"CAUSEWAY_ISLANDS=.* is not a positive whole number"):
        Sizes.from_environment()


def test_the_named_binary_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    binary = tmp_path / "mine"
    binary.write_text("")
    monkeypatch.setenv("CAUSEWAY_BINARY", str(binary))
    with pytest.raises(BinaryNotFound, match="no program that can be run"):
        find_binary()
    binary.chmod(0o700)
    assert find_binary() == binary


@pytest.mark.parametrize(
    ("version", "complaint"),
    [
        ("0.8.2", "older"),
        ("0.4.35", "older"),
        ("0.8.3", None),
        ("0.9.0.1", None),
        ("0.10.1.dev20260101", None),
        ("0.10.2", None),
        ("0.10.3", "newer"),
        ("0.11.0.dev20260801", "newer"),
        ("1.0", "newer"),
    ],
)
def test_a_jax_outside_the_window_is_told_from_one_inside(
    monkeypatch: pytest.MonkeyPatch, version: str, complaint: str | None
) -> None:
    monkeypatch.setattr(jax_versions, "OLDEST", "0.8.3")
    monkeypatch.setattr(jax_versions, "NEWEST", "0.10.2")
    problem = jax_versions.problem(version)
    assert (problem is None) == (complaint is None)
    if problem is not None:
        assert f"jax {version} is {complaint} than" in problem
        assert "pip install jax==" in problem


def test_a_jax_outside_the_window_is_warned_of_before_anything_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax_versions, "NEWEST", "0.1")
    monkeypatch.setenv("CAUSEWAY_ADDRESS", "nowhere")
    platforms = jax.config.jax_platforms
    jax.config.update("jax_platforms", "causeway")
    try:
        with pytest.warns(RuntimeWarning, match="newer than"), pytest.raises(RuntimeError, match="CAUSEWAY_ADDRESS"):
            jax_plugin._make_client()
    finally:
        jax.config.update("jax_platforms", platforms)
