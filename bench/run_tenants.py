"""Several tenants on the same devices: `make bench-tenants`.

Stock JAX clients, each a process of its own, share a cluster with the timed runtime, where a launch takes its device
for a set time and no core. Shares and idleness come from the controller's counts of device time, over an interval in
which all have work. Beside each round stands how many cores all of it kept busy, and how many others did. The last
line is RESULT {json}; bench/README.md says what is in it.
"""

import sys

from command import Command
from measure_tenants import SECTIONS
from tenants import QUICK, TenantsScale, TenantsStage

EXAMPLES = """examples:
  python bench/run_tenants.py                        all sections, about five minutes
  python bench/run_tenants.py --only shares,mixed    these sections only
  python bench/run_tenants.py --only fill --rounds 9 for a machine that is not quiet
  python bench/run_tenants.py --quick                does it all work? (its figures mean nothing)
"""

if __name__ == "__main__":
    command = Command(
        "tenants",
        about=__doc__,
        examples=EXAMPLES,
        sections=SECTIONS,
        scale=TenantsScale(),
        quick=QUICK,
        stage=TenantsStage,
    )
    sys.exit(command.main(sys.argv[1:]))
