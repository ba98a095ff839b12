"""Which releases of jax a cluster serves, and what to say about others.

A cluster and a client agree on a version of their protocol by themselves, and a cluster that cannot serve a client says
so. But a release that nobody has tried may connect, and fail later in ways that do not point here.
"""

from __future__ import annotations

import jax

# The ends of CLIENT_VERSIONS in tools/versions.env; a test compares them.
OLDEST = "0.8.3"
NEWEST = "0.10.2"

CURE = f"install one of jax {OLDEST} to {NEWEST}, for example: pip install jax=={NEWEST} jaxlib=={NEWEST}"


def _parsed(version: str) -> tuple[int, ...]:
    """The leading numbers: (0, 9, 0, 1) for "0.9.0.1", (0, 11, 0) for "0.11.0.dev20260101"."""
    numbers = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)


def problem(version: str = jax.__version__) -> str | None:
    """A sentence with the cure where jax `version` is outside the window; None where it is served."""
    if _parsed(version) < _parsed(OLDEST):
        return f"jax {version} is older than the clients that Causeway serves: {CURE}"
    if _parsed(version) > _parsed(NEWEST):
        return f"jax {version} is newer than the clients that this Causeway has been tried with: {CURE}"
    return None
