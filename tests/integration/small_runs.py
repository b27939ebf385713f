"""What makes a run of `spatia run` or `spatia demo` last seconds: for tests of what a run does, not of how good it is."""

import os

BUDGET = (
    "--generate", "64", "--set", "presentations.cells=400", "--set", "presentations.context=200", "--set", "batch_cells=64",
)  # fmt: skip
# A generator that trains in seconds on a tiny corpus; lines of `spatia train-generator`.
TINY_GENERATOR = [
    "accelerator=cpu",
    "weights.morphology=0",
    "network.kind=transformer",
    "network.width=16",
    "network.layers=2",
    "network.heads=2",
    "network.patch_px=2",
    "network.stem=4",
]
# One thread: beside other work on two cores, threads that wait for each other take most of the time.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
