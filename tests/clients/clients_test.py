"""The window of clients: what the page, the pins and the package say of it agree, and (full) each client is run."""

from __future__ import annotations

import subprocess
import tomllib

import pytest

from causeway import jax_versions
from clients import matrix
from clients.matrix import Limit, Outcome, Versions
from clients.smoke import CASES

CLIENTS = matrix.pinned_clients()
NONE = Versions("1", "1")
LIMIT = Limit(("jit",), ("1.0",), "no such thing", "The client has none.")


# ---------------------------------------------------------------- the same everywhere


def test_the_page_has_the_pinned_clients_this_servers_window_every_case_and_every_limit() -> None:
    limits = matrix.load_limits()
    said = matrix.versions_on_page()
    assert list(said) == CLIENTS
    assert matrix.page_table() == matrix.render(matrix.server_versions(), matrix.as_limits_say(said, limits), limits), (
        "run tests/clients/matrix.py --write"
    )


def test_the_page_says_that_each_client_and_the_server_agreed_on_the_newest_that_both_offer() -> None:
    def newest(text: str) -> int:
        return int(text.rpartition(" ")[2])

    server = matrix.server_versions()
    for client, said in matrix.versions_on_page().items():
        assert said.agreed == (
            min(newest(server.protocol), newest(said.protocol)),
            min(newest(server.serdes), newest(said.serdes)),
        ), client


def test_the_version_command_names_the_pinned_clients() -> None:
    text = subprocess.run([matrix.find_binary(), "version"], capture_output=True, text=True, check=True).stdout
    assert f"jax {CLIENTS[0]} to {CLIENTS[-1]}; tried: {', '.join(CLIENTS)}" in text


def test_the_package_asks_for_the_pinned_clients() -> None:
    project = tomllib.loads((matrix.ROOT / "python" / "pyproject.toml").read_text())["project"]
    assert f"jax>={CLIENTS[0]},<={CLIENTS[-1]}" in project["dependencies"]
    assert (CLIENTS[0], CLIENTS[-1]) == (jax_versions.OLDEST, jax_versions.NEWEST)


def test_the_readmes_name_the_pinned_clients() -> None:
    window = f"jax {CLIENTS[0]} to {CLIENTS[-1]}"
    readme = (matrix.ROOT / "README.md").read_text()
    assert window in readme
    assert f"run {', '.join(CLIENTS[:-1])} and {CLIENTS[-1]}" in readme
    assert window in (matrix.ROOT / "python" / "README.md").read_text()


def test_limits_name_cases_and_clients_that_there_are() -> None:
    for limit in matrix.load_limits():
        assert set(limit.cases) <= set(CASES), limit
        assert set(limit.clients) <= set(CLIENTS), limit
        assert limit.error, limit
        assert limit.reason, limit


# ---------------------------------------------------------------- the judge


@pytest.mark.parametrize(
    ("client", "error", "complaint"),
    [
        ("1.0", "ValueError: no such thing", None),
        ("1.0", "Segmentation fault", "jit fails"),
        ("1.0", None, "jit passes"),
        ("2.0", "ValueError: no such thing", "jit fails"),
        ("2.0", None, None),
    ],
)
def test_a_limit_excuses_the_failure_that_it_names_in_its_clients_only(
    client: str, error: str | None, complaint: str | None
) -> None:
    wrong = matrix.judge(client, Outcome(NONE, {"jit": error}), [LIMIT])
    assert len(wrong) == (complaint is not None)
    assert complaint is None or complaint in wrong[0]


def test_the_table_says_what_came_out_and_why() -> None:
    errors = dict.fromkeys(CASES)
    outcomes = {"1.0": Outcome(NONE, errors | {"jit": "no such thing"}), "2.0": Outcome(NONE, errors)}
    table = matrix.render(Versions("1 to 2", "1"), outcomes, [LIMIT])
    assert "| no (1) | yes |\n" in table
    assert table.endswith("\n\n1. The client has none.\n")


# ---------------------------------------------------------------- the clients themselves


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    """Filled by the tests below."""
    return {}


@pytest.mark.full
@pytest.mark.timeout(2 * matrix.CLIENT_S + matrix.INSTALL_S)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_does_all_that_is_not_excused(client: str, outcomes: dict[str, Outcome]) -> None:
    outcomes[client] = matrix.run_client(client)
    wrong = matrix.judge(client, outcomes[client], matrix.load_limits())
    assert not wrong, "\n".join(wrong)


@pytest.mark.full
def test_the_page_has_the_table_that_came_out(outcomes: dict[str, Outcome]) -> None:
    if list(outcomes) != CLIENTS:
        pytest.skip("not all clients were run")
    table = matrix.render(matrix.server_versions(), outcomes, matrix.load_limits())
    assert matrix.page_table() == table, "run tests/clients/matrix.py --write"
