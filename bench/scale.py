"""How much is measured in a round: enough for figures, or just enough to see that all works."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Copy:
    """Copies of one size: so many waited for one by one, and so many in a row."""

    kilobytes: int
    waited: int
    ahead: int


@dataclass(frozen=True)
class Transfer:
    """Arrays of one size put on a device and fetched."""

    megabytes: int
    count: int


@dataclass(frozen=True)
class Scale:
    launches: int = 500  # waited for, a client
    burst: int = 10000
    core_seconds: float = 0.1  # a size
    fetches: int = 500
    transfers: tuple[Transfer, ...] = (Transfer(64, 4), Transfer(1024, 1))
    small_arguments: int = 500  # arrays of 8 shards
    copies: tuple[Copy, ...] = (
        Copy(64, 50, 400),
        Copy(1 << 10, 50, 200),
        Copy(16 << 10, 10, 20),
        Copy(256 << 10, 2, 3),
    )
    iperf_seconds: int = 1
    plane_seconds: float = 0.2  # a size


QUICK = Scale(
    launches=5,
    burst=20,
    core_seconds=0.01,
    fetches=5,
    transfers=(Transfer(8, 1), Transfer(16, 1)),
    small_arguments=5,
    copies=(Copy(64, 2, 4), Copy(256, 1, 2)),
    plane_seconds=0.01,
)
