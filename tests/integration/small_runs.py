"""What makes a run of `spatia run` or `spatia demo` last seconds: for tests of what a run does, not of how good it is."""

import os

BUDGET = (
    "--generate", "64", "--set", "presentations.cells=400", "--set", "presentations.context=200", "--set", "batch_cells=64",
)  # fmt: skip
# One thread: beside other work on two cores, threads that wait for each other take most of the time.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
