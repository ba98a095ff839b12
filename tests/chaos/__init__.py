"""Chaos: real processes that are killed, stopped and started again under load. See README.md here."""

import sys
from pathlib import Path

# The harness of the end-to-end tests starts clusters and clients here too.
sys.path.append(str(Path(__file__).resolve().parents[1] / "e2e"))
