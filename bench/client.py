"""One client of the benchmark: stock JAX, told on stdin what to time. The environment says which server it talks to.

    {"latency": 500}   launches one no-op at a time and waits for each; answers {"seconds": [s, ...]}
    {"burst": 5000}    launches so many in a chain, waits for the last; answers {"seconds": s}

One JSON object a line, either way; the first one names the server and says that all is warm. What goes into a launch
came out of the one before, so launches depend on each other as a training loop's steps do.
"""

import json
import sys
import time

import jax
import jax.extend.backend
import numpy as np

WARM_UP_LAUNCHES = 200


def main():
    def say(**answer):
        print(json.dumps(answer), flush=True)

    launch = jax.jit(lambda x: x + 1)
    # From the host: a server that computes nothing must not be asked to make it.
    x = jax.device_put(np.float32(0), jax.devices()[0])
    for _ in range(WARM_UP_LAUNCHES):
        x = launch(x)
    x.block_until_ready()
    say(server=jax.extend.backend.get_backend().platform_version)

    for line in sys.stdin:
        request = json.loads(line)
        if "latency" in request:
            seconds = []
            for _ in range(request["latency"]):
                began = time.perf_counter()
                x = launch(x)
                x.block_until_ready()
                seconds.append(time.perf_counter() - began)
            say(seconds=seconds)
        else:
            began = time.perf_counter()
            for _ in range(request["burst"]):
                x = launch(x)
            x.block_until_ready()
            say(seconds=time.perf_counter() - began)


if __name__ == "__main__":
    main()
