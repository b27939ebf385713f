"""Harmony (Korsunsky et al., Nat. Methods 2019): PCA of counts with what tells sections apart taken out.

Axes are fitted on training cells. The correction is transductive: it reads the scores of all cells, test cells too, and which
section each lies in, never a label. With a single section there is nothing to correct, and the method refuses.
"""

import logging

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia.bench.methods import pca
from spatia.bench.methods.method import GENES, Method, Problem
from spatia.errors import NotApplicableError
from spatia.extras import require


def embed(problem: Problem) -> NDArray[np.floating]:
    """Return PCA scores corrected for the section, (n, 50)."""
    harmonypy = require("harmonypy", "rivals")
    cells = problem.cells
    sections = np.unique(cells.sample.astype(str))
    if len(sections) < 2:
        raise NotApplicableError(
            f"{cells.data.name}: Harmony takes out what tells sections apart, and this data set has one. Its row would be that of pca."
        )
    logging.getLogger("harmonypy").setLevel(logging.WARNING)
    scores = pca.embed(problem)
    # one thread: the result is the same for any number, and a benchmark shares its machine
    found = harmonypy.run_harmony(
        scores,
        pd.DataFrame({"section": cells.sample.astype(str)}),
        "section",
        random_state=problem.seed,
        ncores=1,
        verbose=False,
    )
    return np.asarray(found.Z_corr)


HARMONY = Method("harmony", GENES, embed, "PCA corrected for the section (Harmony)", genes_side=embed)
