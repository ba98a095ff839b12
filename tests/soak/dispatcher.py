"""A client that dispatches and does little else: answers each line `N` on stdin when N launches are done.

Every launch takes what the one before made. For a part of them it deletes that at once; the others leave it to the
garbage collector, as programs do.
"""

import gc
import sys

import jax
import numpy as np

_WAIT_EVERY = 100  # launches; as a training loop looks at its loss now and then
_AT_ONCE = 5000  # at the beginning: the stock client takes a thread for each answer under way, and keeps it


def main():
    step = jax.jit(lambda x: x + 1)
    x = jax.device_put(np.zeros(16, np.float32), jax.devices()[0])
    for _ in range(2):
        for _ in range(_AT_ONCE):
            x = step(x)
        x.block_until_ready()
    for line in sys.stdin:
        for number in range(int(line)):
            y = step(x)
            if number % 4 == 0:
                x.delete()
            x = y
            if number % _WAIT_EVERY == 0:
                x.block_until_ready()
        x.block_until_ready()
        gc.collect()
        print("done", flush=True)


if __name__ == "__main__":
    main()
