"""What a program wishes of the cluster when it connects: name, share, devices.

    wishes = {**from_environment(), **checked(weight=2, memory="16GiB")}
    options.initialization_data = initialization_data(wishes)   # {"causeway_session_weight": b"2.0", ...}

Mistakes are found here, at the line that makes them; the cluster looks again. The ranges are those of
src/controller/wishes.h, the names on the wire those of src/ifrt/introduction.h. Nothing here needs JAX.
"""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

_VARIABLE = "CAUSEWAY_SESSION_"
_ATTRIBUTE = "causeway_session_"

_WEIGHTS = (0.001, 1000)
_CAPS = (0.001, 1)
_MOST_DEVICES = 1 << 28
_MOST_MEMORY = 1 << 50
_MOST_NAME_BYTES = 256
_MOST_PLATFORM_BYTES = 64

_UNITS = {"": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
_MEMORY = re.compile(r"(\d{1,20}(?:\.\d{1,20})?)\s*([KMGT]iB|)", re.IGNORECASE)
_FLAGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    return float(value)


def _weight(value: Any) -> float:
    weight = _number(value)
    if not _WEIGHTS[0] <= weight <= _WEIGHTS[1]:
        raise ValueError
    return weight


def _cap(value: Any) -> float:
    cap = _number(value)
    if not _CAPS[0] <= cap <= _CAPS[1]:
        raise ValueError
    return cap


def _whole(value: Any, most: int) -> int:
    if isinstance(value, bool):
        raise TypeError
    number = int(value) if isinstance(value, str) else operator.index(value)
    if not 0 <= number <= most:
        raise ValueError
    return number


def _devices(value: Any) -> int:
    return _whole(value, _MOST_DEVICES)


def _memory(value: Any) -> int:
    if isinstance(value, str):
        if (written := _MEMORY.fullmatch(value.strip())) is None:
            raise ValueError
        size = Decimal(written[1]) * _UNITS[written[2].upper()]
        if size != int(size):
            raise ValueError
        value = int(size)
    return _whole(value, _MOST_MEMORY)


def _flag(value: Any) -> bool:
    if isinstance(value, str):
        return _FLAGS[value.strip().lower()]
    if not isinstance(value, bool):
        raise TypeError
    return value


def _text(most_bytes: int) -> Callable[[Any], str]:
    def text(value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError
        if not value.isprintable() or not 0 < len(value.encode()) <= most_bytes:
            raise ValueError
        return value

    return text


# Each wish: how its value is read, and what it has to be.
_WISHES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "name": (_text(_MOST_NAME_BYTES), f"a text of 1 to {_MOST_NAME_BYTES} bytes, without control characters"),
    "weight": (_weight, f"a number from {_WEIGHTS[0]:g} to {_WEIGHTS[1]:g}"),
    "devices": (_devices, f"a whole number from 0 (all of them) to {_MOST_DEVICES}"),
    "one_island": (_flag, "true or false"),
    "platform": (_text(_MOST_PLATFORM_BYTES), f"a name such as cpu or cuda, of 1 to {_MOST_PLATFORM_BYTES} bytes"),
    "memory": (_memory, f"a number of bytes from 0 (no cap) to {_MOST_MEMORY}, such as 536870912, 512MiB or 16GiB"),
    "cap": (_cap, f"a number from {_CAPS[0]:g} to {_CAPS[1]:g} (all of a device's time)"),
    "exclusive": (_flag, "true or false"),
}


def _read(wish: str, value: Any, shown_as: str) -> Any:
    read, range_text = _WISHES[wish]
    try:
        return read(value)
    except (ValueError, TypeError, KeyError, OverflowError):
        raise ValueError(f"{shown_as}={value!r}: a session's {wish} is {range_text}") from None


def checked(**wishes: Any) -> dict[str, Any]:
    """Those of `wishes` that are not None, as the cluster takes them. Raises ValueError, with the range."""
    return {wish: _read(wish, value, wish) for wish, value in wishes.items() if value is not None}


def from_environment() -> dict[str, Any]:
    """What CAUSEWAY_SESSION_NAME, CAUSEWAY_SESSION_WEIGHT and so on wish. Raises ValueError, with the range."""
    names = {wish: _VARIABLE + wish.upper() for wish in _WISHES}
    unknown = sorted(name for name in os.environ if name.startswith(_VARIABLE) and name not in names.values())
    if unknown:
        raise ValueError(f"{unknown[0]} is not known; there are {', '.join(names.values())}")
    return {wish: _read(wish, os.environ[name], name) for wish, name in names.items() if os.environ.get(name)}


def initialization_data(wishes: dict[str, Any]) -> dict[str, bytes | bool | int]:
    """As the stock client carries it: it has bytes, flags and whole numbers."""
    return {_ATTRIBUTE + wish: _on_the_wire(value) for wish, value in wishes.items()}


def _on_the_wire(value: Any) -> bytes | bool | int:
    if isinstance(value, float):
        return repr(value).encode()
    # A program's file may have any name.
    return value.encode(errors="replace") if isinstance(value, str) else value
