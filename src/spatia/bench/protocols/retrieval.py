"""Retrieval between image and expression: is a cell's own partner among the ten nearest of 500?"""

from spatia.bench.methods.method import BOTH, Method
from spatia.bench.protocols.trial import Score, Task, Trial
from spatia.bench.readout import in_common_space
from spatia.metrics.retrieval import cross_modal_retrieval

GALLERY = 500
TOP = 10


def retrieve(trial: Trial, method: Method) -> list[Score]:
    """Rank candidates by cosine similarity, both ways, in pools of 500 test cells (one pool of all, where there are fewer)."""
    image, genes = trial.embedding(method.image_side), trial.embedding(method.genes_side)
    n_train = 0
    if not method.common_space:
        image, genes = in_common_space(image, genes, trial.train)
        n_train = len(trial.train)
    test = trial.test
    size = min(GALLERY, len(test))
    found = cross_modal_retrieval(image[test], genes[test], n_candidates=size, seed=trial.seed)
    n = found.image_to_genes.n_queries
    return [
        Score("image→genes", found.image_to_genes.recall(TOP), n, n_train),
        Score("genes→image", found.genes_to_image.recall(TOP), n, n_train),
    ]


RETRIEVAL = Task(
    "retrieval",
    "recall@10: a cell's expression among 500 by its image, and back",
    BOTH,
    retrieve,
    lambda cells: None if cells.has_images else "no image",
    kind="retrieval",
)
