"""Runs the smoke suite in the clients of the window, and keeps their table in docs/COMPATIBILITY.md.

    python tests/clients/matrix.py                    all clients; fails where the page's table is not what came out
    python tests/clients/matrix.py --write            … and writes that table
    python tests/clients/matrix.py 0.8.3 --case jit   one client, one case (the page is left alone)

Exit status: 0 if every client does what tests/clients/limits.toml does not excuse, and the page says so; 1 if not; 2 if
a client could not be installed or run.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from e2e.harness import Cluster, clean_environment, short_folder

from causeway.binary import find_binary
from clients.smoke import CASES

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "COMPATIBILITY.md"
BEGIN = "<!-- clients: begin (written by tests/clients/matrix.py --write) -->\n"
END = "<!-- clients: end -->\n"
SMOKE = Path(__file__).with_name("smoke.py")
LIMITS = Path(__file__).with_name("limits.toml")
CLIENT_S = 900  # for all cases of one client
INSTALL_S = 1200

_OFFER = re.compile(r"offers protocol (\d+(?: to \d+)?), SerDes (\d+(?: to \d+)?); agreed on (\d+) and (\d+)")


class ClientError(Exception):
    """A client could not be installed or run."""


@dataclass(frozen=True)
class Versions:
    """What a side speaks, as people write it ("16 to 25"), and what the two agreed on."""

    protocol: str
    serdes: str
    agreed: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Limit:
    """One entry of limits.toml."""

    cases: tuple[str, ...]
    clients: tuple[str, ...]  # none: all
    error: str
    reason: str

    def covers(self, client: str, case: str) -> bool:
        return case in self.cases and (not self.clients or client in self.clients)


@dataclass
class Outcome:
    """What came out for one client. A case's error is None where it passed."""

    versions: Versions
    errors: dict[str, str | None] = field(default_factory=dict)


def pinned_clients() -> list[str]:
    """CLIENT_VERSIONS of tools/versions.env."""
    found = re.search(r'^CLIENT_VERSIONS="([^"]*)"', (ROOT / "tools" / "versions.env").read_text(), re.MULTILINE)
    assert found, "tools/versions.env has no CLIENT_VERSIONS"
    return found[1].split()


def load_limits() -> list[Limit]:
    entries = tomllib.loads(LIMITS.read_text(encoding="utf-8"))["limit"]
    return [
        Limit(tuple(e["cases"]), tuple(e.get("clients", ())), e["error"], " ".join(e["reason"].split()))
        for e in entries
    ]


def server_versions() -> Versions:
    """What `causeway version` says."""
    text = subprocess.run([str(find_binary()), "version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"protocol (\d+ to \d+), SerDes (\d+ to \d+)", text)
    assert found, text
    return Versions(found[1], found[2])


# ---------------------------------------------------------------- running


def install(client: str) -> Path:
    """The client's interpreter; installed first where it is not."""
    try:
        made = subprocess.run(
            [str(ROOT / "tools" / "clients.sh"), client],
            stderr=subprocess.PIPE,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ClientError(f"jax {client} was not installed within {INSTALL_S} s") from None
    if made.returncode:
        raise ClientError(made.stderr.strip())
    return ROOT / "build" / "clients" / client / "bin" / "python"


def run_client(client: str, cases: Iterable[str] = CASES) -> Outcome:
    """Runs the cases in a client, against a cluster of its own with two workers of four devices."""
    python = install(client)
    with short_folder() as folder, Cluster.up(folder, hosts=2, devices=4) as cluster:
        environment = clean_environment({"JAX_PLATFORMS": "causeway", "CAUSEWAY_ADDRESS": cluster.client_address})
        errors: dict[str, str | None] = {}
        left = list(cases)
        while left:
            finished = _run_cases(python, left, environment, folder / "client.log")
            errors |= finished
            left = [case for case in left if case not in finished]
        logs = "".join(log.read_text(errors="replace") for log in folder.glob("*.log"))
    seen = {match.groups() for match in _OFFER.finditer(logs)}
    if len(seen) != 1:
        raise ClientError(f"jax {client} has not agreed on one pair of versions: {seen}\n{logs[-2000:]}")
    protocol, serdes, *agreed = seen.pop()
    return Outcome(Versions(protocol, serdes, (int(agreed[0]), int(agreed[1]))), errors)


def _run_cases(python: Path, cases: Sequence[str], environment: Mapping[str, str], log: Path) -> dict[str, str | None]:
    """Runs cases in one process; returns those that ended, and the one in which the process did."""
    command = [str(python), str(SMOKE), *cases]
    with log.open("ab") as stderr:
        try:
            ran = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=stderr, env=environment, timeout=CLIENT_S, check=False
            )
            output, well, how = ran.stdout, ran.returncode == 0, f"the process ended with status {ran.returncode}"
        except subprocess.TimeoutExpired as error:
            output, well, how = error.stdout or b"", False, f"the process was killed after {CLIENT_S} s"
    errors: dict[str, str | None] = {}
    began = None
    for line in output.decode(errors="replace").splitlines():
        if line.startswith('{"begin"'):
            began = json.loads(line)["begin"]
        elif line.startswith('{"end"'):
            errors[json.loads(line)["end"]] = json.loads(line)["error"]
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
    if began is None:
        raise ClientError(f"{how} before its first case:\n{tail}")
    if began not in errors or not well:  # in the middle of a case, or on its way out after the last
        errors[began] = f"{how}:\n{tail}"
    return errors


def judge(client: str, outcome: Outcome, limits: Iterable[Limit]) -> list[str]:
    """A sentence for every case that should have gone the other way."""
    limits = list(limits)
    wrong = []
    for case, error in outcome.errors.items():
        limit = next((limit for limit in limits if limit.covers(client, case)), None)
        if error is None and limit:
            wrong.append(f"jax {client}: {case} passes, but limits.toml says that it cannot: take the entry out")
        elif error is not None and not (limit and limit.error in error):
            wrong.append(f"jax {client}: {case} fails:\n{error}")
    return wrong


# ---------------------------------------------------------------- the table


def as_limits_say(clients: Mapping[str, Versions], limits: Iterable[Limit]) -> dict[str, Outcome]:
    """The outcomes of clients that do everything but what the limits name."""
    limits = list(limits)
    return {
        client: Outcome(
            versions, {case: "no" if any(limit.covers(client, case) for limit in limits) else None for case in CASES}
        )
        for client, versions in clients.items()
    }


def render(server: Versions, outcomes: Mapping[str, Outcome], limits: Iterable[Limit]) -> str:
    """The table for docs/COMPATIBILITY.md, with its notes."""
    limits = list(limits)
    notes: list[str] = []
    rows = [
        ["", "this server", *(f"jax {client}" for client in outcomes)],
        ["---"] * (len(outcomes) + 2),
        ["offers protocol", server.protocol, *(o.versions.protocol for o in outcomes.values())],
        ["offers SerDes", server.serdes, *(o.versions.serdes for o in outcomes.values())],
        ["agreed on", "", *("{} and {}".format(*o.versions.agreed) for o in outcomes.values())],
    ]
    for case, function in CASES.items():
        row = [" ".join((function.__doc__ or "").split()), ""]
        for client, outcome in outcomes.items():
            if outcome.errors[case] is None:
                row.append("yes")
                continue
            reason = next((limit.reason for limit in limits if limit.covers(client, case)), "Not excused.")
            if reason not in notes:
                notes.append(reason)
            row.append(f"no ({notes.index(reason) + 1})")
        rows.append(row)
    table = "".join("| " + " | ".join(row) + " |\n" for row in rows)
    return table + "\n" + "".join(f"{number}. {note}\n" for number, note in enumerate(notes, start=1))


def page_table() -> str:
    """What stands on the page between the markers."""
    text = PAGE.read_text(encoding="utf-8")
    assert 0 <= text.find(BEGIN) < text.find(END), f"{PAGE} has lost its markers:\n{BEGIN}{END}"
    return text.partition(BEGIN)[2].partition(END)[0]


def write_page(table: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text.replace(BEGIN + page_table() + END, BEGIN + table + END), encoding="utf-8")


def versions_on_page() -> dict[str, Versions]:
    """The clients of the page's table with what they offer and agreed on, by its first rows."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page_table().splitlines()[:5]]
    assert len(rows) == 5, f"{PAGE}: no table between the markers"
    header, _, protocol, serdes, agreed = rows
    found = {}
    for column in range(2, len(header)):
        first, _, second = agreed[column].partition(" and ")
        found[header[column].removeprefix("jax ")] = Versions(
            protocol[column], serdes[column], (int(first), int(second))
        )
    return found


# ---------------------------------------------------------------- the command


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="tests/clients/matrix.py"
    )
    parser.add_argument("clients", nargs="*", metavar="VERSION", help=f"default: {' '.join(pinned_clients())}")
    parser.add_argument("--case", nargs="+", choices=list(CASES), metavar="CASE", help="only these cases")
    parser.add_argument("--write", action="store_true", help="write the table in docs/COMPATIBILITY.md")
    options = parser.parse_args(arguments)
    whole = not options.clients and not options.case
    if options.write and not whole:
        parser.error("--write needs all clients and all cases")
    limits = load_limits()
    outcomes: dict[str, Outcome] = {}
    wrong: list[str] = []
    try:
        for client in options.clients or pinned_clients():
            print(f"jax {client}: …", flush=True)
            outcomes[client] = outcome = run_client(client, options.case or CASES)
            passed = sum(error is None for error in outcome.errors.values())
            print(f"jax {client}: agreed on {outcome.versions.agreed}, {passed} of {len(outcome.errors)} cases pass")
            wrong += judge(client, outcome, limits)
    except ClientError as error:
        print(f"matrix: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nmatrix: interrupted", file=sys.stderr)
        return 130
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return 1
    if not whole:
        return 0
    table = render(server_versions(), outcomes, limits)
    if options.write:
        write_page(table)
    elif table != page_table():
        print(f"{PAGE} differs; matrix.py --write writes:\n{table}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
