"""Our generator with its defaults, told everything, and the same told what is known of another cell."""

from spatia.bench.generators.flow import Flow
from spatia.bench.generators.generator import Generator

OURS = Generator("ours", Flow(), "spatia train-generator, told all that the task has", learns=True)
# What it draws must get worse: what does not change with the conditions does not know the cell.
OURS_SHUFFLED = Generator(
    "ours, conditions shuffled",
    Flow(shuffle=True),
    "the same, each cell told what is known of another one",
    learns=True,
)
