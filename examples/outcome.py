"""How the examples that train end: what took how long, whether it is what one program would have come to, the figures.

show_times(options.steps, result)
matches = not options.check or is_close(result, error)
finish(options, result, matches, meshes=len(meshes))
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def add_outcome_options(parser: argparse.ArgumentParser) -> None:
    """--check and --json, which the functions below look at."""
    parser.add_argument(
        "--check", action=argparse.BooleanOptionalAction, default=True, help="train in one program, too"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")


def show_times(steps: int, result: dict[str, Any]) -> None:
    print(
        f"{steps} steps dispatched in {result['dispatched_s']:.2f} s, done after {result['total_s']:.2f} s, "
        f"compilation included"
    )


def is_close(result: dict[str, Any], error: float, limit: float = 1e-3) -> bool:
    """Whether the largest difference from the same model in one program is small enough. Says so, and keeps it."""
    matches = error < limit
    verdict = "as it should be" if matches else "TOO LARGE"
    print(f"largest difference from the model in one program: {error:.1e}, {verdict}")
    result["error"] = error
    return matches


def finish(options: argparse.Namespace, result: dict[str, Any], matches: bool, **facts: Any) -> None:
    """Writes the figures where --json says. Exits with 0 if all is well."""
    if options.json:
        options.json.write_text(json.dumps({**result, "matches": matches, **facts}))
    sys.exit(0 if matches and all(np.isfinite(result["losses"])) else 1)
