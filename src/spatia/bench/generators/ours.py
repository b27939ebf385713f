"""Our generator with its defaults, the same told what is known of another cell, and other ways to a transition."""

from spatia.bench.generators.flow import Flow
from spatia.bench.generators.generator import EXPRESSION, TRANSITION, Generator
from spatia.inference.drawing import Drawing

_TRANSITIONS = frozenset((TRANSITION,))

OURS = Generator("ours", Flow(), "spatia train-generator as it comes; a transition edits the cell itself", learns=True)
# What it draws must get worse: what does not change with the conditions does not know the cell.
OURS_SHUFFLED = Generator(
    "ours, conditions shuffled",
    Flow(shuffle=True),
    "the same, each cell told what is known of another one",
    learns=True,
)
# What another donor's cells gain by being told as if they were of the donors that training saw.
OURS_UNALIGNED = Generator(
    "ours, sections as they are",
    Flow(align=False),
    "the same, what is told of sections that training did not see left as it is",
    tasks=frozenset((EXPRESSION,)),
    learns=True,
)
# The cell that ours takes for the most alike, as it is: what the next gains over it is gained by drawing.
OURS_CHOSEN = Generator(
    "real cell that ours chooses",
    Flow(keep=1.0),
    "the training cell of whose picture expression and surroundings say the most alike, as it is",
    tasks=frozenset((EXPRESSION,)),
    learns=True,
)
OURS_FROM_REAL = Generator(
    "ours, from a real cell",
    Flow(keep=Drawing().keep),
    "the same cell, with what differs between the drawings of both redrawn",
    tasks=frozenset((EXPRESSION,)),
    learns=True,
)
OURS_FROM_REAL_SHUFFLED = Generator(
    "ours, from a real cell, conditions shuffled",
    Flow(keep=Drawing().keep, shuffle=True),
    "the same, each cell told what is known of another one",
    tasks=frozenset((EXPRESSION,)),
    learns=True,
)
OURS_FLOW = Generator(
    "ours, flow",
    Flow(("coupling=ot-confidence",)),
    "flow from a cell to its partners, weighted by confidence, told all that the task has",
    tasks=_TRANSITIONS,
    learns=True,
)
OURS_FROM_EXPRESSION = Generator(
    "ours, flow from expression",
    Flow(("coupling=ot-confidence",), from_expression=True),
    "the same flow, started from a generator of images from expression, which saw every training cell",
    tasks=_TRANSITIONS,
    learns=True,
)
# What it loses to the flow above is what the pairs of the plan were worth.
OURS_WRONG_PARTNERS = Generator(
    "ours, flow, wrong partners",
    Flow(("coupling=ot-confidence",), wrong_partners=True),
    "the same flow, taught by pairs whose sources have swapped their partners",
    tasks=_TRANSITIONS,
    learns=True,
)
