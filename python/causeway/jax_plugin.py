"""Makes `JAX_PLATFORMS=causeway` work: registers the backend `causeway` with stock JAX.

JAX imports this module through the `jax_plugins` entry point and calls initialize() when it first looks for devices.
The backend is the client of the IFRT proxy protocol that jaxlib itself carries, connected to a Causeway cluster:
CAUSEWAY_ADDRESS names one, otherwise an embedded one is started for this process.

The client reports the platform of the cluster's devices ("cpu", "cuda", "tpu"), because that is what JAX lowers for.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import sys
import time
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax._src import xla_bridge
from jax.extend import backend
from jaxlib import utils as jaxlib_utils

from causeway import jax_versions, session
from causeway.embedded import START_TIMEOUT_S, EmbeddedCluster, Sizes, client_url, positive_number

PLATFORM = "causeway"
_CONNECT_TIMEOUT_S = 60
_FIRST_TRY_S = 2  # then the user hears why there is no session yet
_NEXT_TRIES_S = 5  # each; also the longest that Ctrl-C takes
_SLACK_S = 0.5  # by which a try may end late

# In every error of a session that has ended, whoever ended it.
_SESSION_LOST = "Connection to IFRT proxy server was terminated"
_WHAT_TO_DO = (
    "\n(The session on the Causeway cluster is over: its controller has died, or has given this client up. Its arrays "
    "and programs are gone. To go on in this process call jax.extend.backend.clear_backends() and make the arrays "
    "again; JAX connects anew when it next needs a device. `causeway status` shows whether the cluster is up.)"
)

# What the cluster answers when there is nothing wrong with the connection: it has said what to do. The first of these
# does not change with time.
_SENSELESS = "INVALID_ARGUMENT"
_REFUSALS = (_SENSELESS, "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED")

_cluster: EmbeddedCluster | None = None
_wishes: dict[str, Any] = {}  # of causeway.connect
_address: str | None = None
_client: weakref.ref[Any] | None = None  # of the newest session
_client_log_level = 1


def address() -> str | None:
    """See causeway.address."""
    return _address


def connect(**wishes: Any) -> None:
    """See causeway.connect."""
    global _wishes
    checked = session.checked(**wishes)
    if xla_bridge.backends_are_initialized():
        raise RuntimeError(
            "causeway.connect() comes too late: JAX has connected to its devices already, and a session's wishes count "
            "from its beginning on. Call it before anything that needs a device (jax.devices(), jnp.zeros(), a jitted "
            "function); or call jax.extend.backend.clear_backends() first, and make the arrays again afterwards"
        )
    _wishes = checked


def initialize() -> None:
    """Called by JAX. Only registers: nothing is started before JAX wants devices."""
    backend.register_backend_factory(PLATFORM, _make_client, priority=-1, fail_quietly=True)


def _make_client() -> Any:
    """Connects to the cluster. Called by JAX, under its lock, once for each set of backends."""
    # With no platform named JAX tries every factory. That must not start a cluster.
    if PLATFORM not in (jax.config.jax_platforms or "").split(","):
        raise RuntimeError("Causeway is used only where it is asked for: set JAX_PLATFORMS=causeway")
    problem = jax_versions.problem()
    if not hasattr(backend, "ifrt_proxy"):
        raise RuntimeError(problem or f"this jaxlib carries no IFRT proxy client: {jax_versions.CURE}")
    if problem:
        warnings.warn(problem, RuntimeWarning, stacklevel=2)
    try:
        # What `causeway status` calls this session, unless it says so itself.
        name = Path(sys.argv[0]).name or "python"
        wishes = {"name": name, **session.from_environment(), **_wishes}
    except ValueError as error:
        raise RuntimeError(str(error)) from None
    if named := os.environ.get("CAUSEWAY_ADDRESS"):
        try:
            url = client_url(named)
        except ValueError as error:
            raise RuntimeError(f"CAUSEWAY_ADDRESS: {error}") from None
    else:
        url = _embedded(positive_number("CAUSEWAY_START_TIMEOUT", START_TIMEOUT_S)).address

    # The client's default is ALTS, which exists only inside one cloud; its one alternative is plaintext.
    os.environ["IFRT_PROXY_USE_INSECURE_GRPC_CREDENTIALS"] = "true"
    options = backend.ifrt_proxy.ClientConnectionOptions()
    options.initialization_data = session.initialization_data(wishes)
    limit_s = positive_number("CAUSEWAY_CONNECT_TIMEOUT", _CONNECT_TIMEOUT_S)
    try:
        # It warns that the connection is in plaintext; there is no other kind.
        with quiet_client():
            client = _session(url, options, limit_s)
    except Exception as error:
        if str(error).startswith(_REFUSALS):
            raise RuntimeError(f"the Causeway cluster at {url} refuses this session: {_told(error)}") from error
        cure = "is a cluster running there?" if named else "CAUSEWAY_LOG_DIR=DIR keeps the cluster's logs"
        raise RuntimeError(f"no connection to the Causeway cluster at {url}: {error} ({problem or cure})") from error

    if getattr(client, "supports_executable_serialization", True):
        # The client cannot serialise executables, which the cache would ask it to.
        jax.config.update("jax_enable_compilation_cache", False)
    # jax.devices("cpu"), jit(backend="cpu") and the like look for the backend by the name of its platform. Where the
    # program asked for the local one as well (JAX_PLATFORMS=causeway,cpu), that one has the name.
    if client.platform not in (jax.config.jax_platforms or "").split(","):
        xla_bridge._backends.setdefault(client.platform, client)
    _begin(client, url)
    return client


def _session(url: str, options: Any, limit_s: int) -> Any:
    """The stock client, connected.

    It tries for as long as it may in silence, deaf to Ctrl-C: so it is asked again and again, and the user hears after
    the first time. (Its own callback, options.on_connection_update, is called while Python ends too, which aborts the
    process.)
    """
    deadline = time.monotonic() + limit_s
    try_s = min(limit_s, _FIRST_TRY_S)
    told = False
    while True:
        options.connection_timeout_in_seconds = try_s
        try:
            return backend.ifrt_proxy.get_client(url, options)
        except Exception as error:
            text = str(error)
            rest_s = math.ceil(deadline - time.monotonic() - _SLACK_S)
            if rest_s <= 0 or text.startswith(_SENSELESS):
                raise
            if not told:
                told = True
                state = "does not answer"
                if text.startswith(_REFUSALS):
                    state = "refuses this session"
                elif text.startswith("UNAVAILABLE") and "failed to connect" not in text:
                    state = "is not ready"
                print(
                    f"causeway: the cluster at {url} {state} so far: {_told(error)}\n"
                    f"causeway: trying for {rest_s} s more (CAUSEWAY_CONNECT_TIMEOUT={limit_s}); Ctrl-C ends it",
                    file=sys.stderr,
                    flush=True,
                )
            try_s = min(rest_s, _NEXT_TRIES_S)


def _told(error: Exception) -> str:
    """What the cluster has said, without what the stock client puts before it."""
    code, _, text = str(error).partition(": ")
    return f"{code}: {text.partition('; detailed error: ')[2] or text}"


def _begin(client: Any, url: str) -> None:
    """A session is there: what this process does for its first one, and with what an earlier one has left."""
    global _address, _client, _client_log_level
    if _address is None:
        # The client logs its own leaving as a lost connection, and as an error for every program it still holds.
        atexit.register(_set_client_log_level, 3)
        _explain_lost_sessions()
    elif (earlier := _client and _client()) is not None:
        # The client does not see that an array is of another session: it would send its number, under which this one
        # has another array, or none. A deleted array is refused before that.
        for array in earlier.live_arrays():
            with contextlib.suppress(Exception):
                array.delete()
        # What goes with the earlier session would be logged one by one, at great length.
        _client_log_level = 3
        _set_client_log_level(_client_log_level)
    _address = url
    _client = weakref.ref(client)


def _explain_lost_sessions() -> None:
    """Lets the client's error say what to do when its session is over."""
    plain = jax.errors.JaxRuntimeError.__str__

    def explained(self: jax.errors.JaxRuntimeError) -> str:
        text = plain(self)
        return text + _WHAT_TO_DO if _SESSION_LOST in text else text

    jax.errors.JaxRuntimeError.__str__ = explained


def _embedded(timeout_s: float) -> EmbeddedCluster:
    """This process's own cluster: started by the first call, and again when it is gone."""
    global _cluster
    # Where only its controller has died, that is being started again.
    if _cluster is None or not _cluster.wait_until_reachable(timeout_s):
        if _cluster is not None:
            _cluster.stop()
        _cluster = EmbeddedCluster.start(Sizes.from_environment(), timeout_s)
    return _cluster


def _set_client_log_level(level: int) -> None:
    """0 information, 1 warnings, 2 errors, 3 what kills the process. TF_CPP_MIN_LOG_LEVEL=0 still shows everything."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") != "0":
        jaxlib_utils.absl_set_min_log_level(level)


@contextlib.contextmanager
def quiet_client() -> Iterator[None]:
    """Without the client's warnings, where they are of something that is meant so."""
    _set_client_log_level(2)
    try:
        yield
    finally:
        _set_client_log_level(_client_log_level)
