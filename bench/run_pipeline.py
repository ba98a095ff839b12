"""Pipelines over many workers, against the ideal of their schedule: `make bench-pipeline`.

One stock JAX client loops over micro-batches and stages, moves activations with device_put and waits only at the end;
every stage has a worker of its own. With the timed runtime a stage takes its device for a set time and no core. The
ideal is (stages + micro-batches - 1) times that. Clusters with parallel and with sequential dispatch take turns. The
last line is RESULT {json}; bench/README.md says what is in it.
"""

import sys

from command import Command
from measure_pipeline import QUICK, SECTIONS, PipelineScale
from timed_sides import TimedStage

EXAMPLES = """examples:
  python bench/run_pipeline.py                         all sections, about three minutes
  python bench/run_pipeline.py --only 16x64            this pipeline only
  python bench/run_pipeline.py --only 4x16 --rounds 15 for a machine that is not quiet
  python bench/run_pipeline.py --quick                 does it all work? (its figures mean nothing)
"""

if __name__ == "__main__":
    command = Command(
        "pipeline",
        about=__doc__,
        examples=EXAMPLES,
        sections=SECTIONS,
        scale=PipelineScale(),
        quick=QUICK,
        stage=TimedStage,
    )
    sys.exit(command.main(sys.argv[1:]))
