"""What all tests share."""

import os

# Compiled programs of other runs must not decide what a test sees, nor tests fill the user's cache. Tests of the cache
# name a folder of their own.
os.environ.setdefault("CAUSEWAY_PROGRAM_CACHE", "none")
