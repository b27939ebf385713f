"""Tasks about labels: annotation, clustering, spatial domains."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import accuracy_score

from spatia.bench.cells import BenchCells
from spatia.bench.methods.method import BOTH, GENES, IMAGE, Method
from spatia.bench.protocols.trial import Score, Task, Trial
from spatia.bench.readout import LabelReader, fit_labels
from spatia.metrics.classification import expected_calibration_error, macro_f1
from spatia.metrics.clustering import (
    adjusted_rand,
    domain_adjusted_rand,
    normalised_mutual_information,
    told_by_groups,
)
from spatia.tasks.cluster import LEAST_DIFFERENT, ClusterSettings
from spatia.tasks.cluster import cluster as by_stability
from spatia.tasks.leiden import leiden, neighbour_graph
from spatia.tasks.recurrence import Tiles

RESOLUTION = 1.0  # Leiden's for types; fixed in advance, for every method and all data
DOMAIN_RESOLUTION = 0.3  # regions are fewer than types
DOMAINS_SOUGHT = 8  # of k-means
SUREST = 0.8  # of the test cells, when a method may abstain


def _labelled(trial: Trial, column: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.str_]]:
    """Return training and test rows that have a label (of a class with 5 training cells at least), and all labels."""
    labels = trial.cells.labels[column]
    text = labels.astype(str).to_numpy(str)
    known = labels.notna().to_numpy()
    train = trial.train[known[trial.train]]
    names, counts = np.unique(text[train], return_counts=True)
    learnable = np.isin(text, names[counts >= 5]) & known
    return train[learnable[train]], trial.test[learnable[trial.test]], text


def _annotate(trial: Trial, method: Method, column: str) -> list[Score]:
    train, test, labels = _labelled(trial, column)
    reader = fit_labels(method, trial.cells, trial.embedding(method.embed), labels, train)
    return [
        score
        for ends, z in trial.read_from(method.embed).items()
        for score in _told(reader, z[test], labels[test], len(train), ends)
    ]


def _told(
    reader: LabelReader, z: NDArray[np.floating], truth: NDArray[np.str_], n_train: int, ends: str
) -> list[Score]:
    """Compare what test cells are told with the truth; names of metrics end with ``ends``."""
    probability = reader.probability(z)
    told, sizes = reader.names[probability.argmax(axis=1)], (len(truth), n_train)
    scores = [
        Score(f"macro-F1{ends}", macro_f1(truth, told), *sizes, reader.held_out),
        Score(f"accuracy{ends}", float(accuracy_score(truth, told)), *sizes, reader.held_out),
    ]
    if ends:  # beside what is measured anyway
        return scores
    surest = np.argsort(-probability.max(axis=1), kind="stable")[: max(1, round(SUREST * len(truth)))]
    calibration = expected_calibration_error(np.searchsorted(reader.names, truth), probability)
    return [
        *scores,
        # how far a method's confidence can be believed, and what abstaining is worth
        Score("minus calibration-error", -calibration, *sizes),
        Score(
            f"accuracy surest-{SUREST:.0%}", float(accuracy_score(truth[surest], told[surest])), len(surest), n_train
        ),
    ]


def annotate(trial: Trial, method: Method) -> list[Score]:
    """Tell the type of test cells by logistic regression on training cells."""
    return _annotate(trial, method, str(trial.cells.data.cell_type))


def annotate_domains(trial: Trial, method: Method) -> list[Score]:
    """Tell the region of test cells by logistic regression on training cells."""
    return _annotate(trial, method, str(trial.cells.data.domain))


def _groups(z: NDArray[np.floating], resolution: float, seed: int) -> NDArray[np.int64]:
    return leiden(neighbour_graph(z, seed=seed), [resolution], seed=seed)[0]


def _own_groups(z: NDArray[np.floating], seed: int, tiles: Tiles | None = None) -> NDArray[np.int64]:
    """Return groups at the resolution that the cells themselves choose: by halves of them, or by tiles of the tissue."""
    if len(np.unique(z, axis=0)) < LEAST_DIFFERENT:  # of a few windows, say: there is nothing to choose from
        return np.zeros(len(z), np.int64)
    return by_stability(z, tiles=tiles, settings=ClusterSettings(seed=seed)).group


def cluster(trial: Trial, method: Method) -> list[Score]:
    """Cluster test cells without labels, and compare with their types: at one resolution for all, and at each method's own.

    Twice, as neither is neutral: an embedding in which the states of a large type show falls into more groups at one resolution than
    one that blurs them, and what halves of the cells agree on is coarse where cells are few.
    """
    _, test, labels = _labelled(trial, str(trial.cells.data.cell_type))
    z, types = trial.embedding(method.embed)[test], labels[test]
    own = _own_groups(z, trial.seed)
    expression = trial.cells.expression(trial.cells.shared_genes)[test]
    return [
        score
        for found, name in ((_groups(z, RESOLUTION, trial.seed), ""), (own, "stable-"))
        for score in _agreement(types, found, name, told_by_groups(expression, found, seed=trial.seed))
    ]


def zero_shot(trial: Trial, method: Method) -> list[Score]:
    """Cluster and annotate from genes alone with an embedding that has seen nothing of this data set."""
    # one view is asked, so none is chosen
    groups = (replace(score, held_out=float("nan")) for score in cluster(trial, method))
    return [*groups, *annotate(trial, method)]


def _agreement(types: NDArray[np.str_], found: NDArray[np.int64], name: str, told: float) -> list[Score]:
    return [
        Score(f"{name}ARI", adjusted_rand(types, found), len(types), 0, told),
        Score(f"{name}NMI", normalised_mutual_information(types, found), len(types), 0, told),
    ]


def find_domains(trial: Trial, method: Method) -> list[Score]:
    """Group test cells without labels, and compare with their regions, within each section.

    Three times, as no way is neutral: at one resolution Leiden falls apart into niches where the cells of one share nearly one embedding
    (then all 15 neighbours of a cell lie in its niche), k-means takes groups to be round, and the resolution at which each method's
    groups tell most of other places (``recurring``), as `spatia domains` chooses it, is coarse where cells are few.
    """
    _, test, labels = _labelled(trial, str(trial.cells.data.domain))
    z, sample = trial.embedding(method.embed)[test], trial.cells.sample[test]
    groups = {
        "ARI": _groups(z, DOMAIN_RESOLUTION, trial.seed),
        "k-means-ARI": KMeans(DOMAINS_SOUGHT, n_init=5, random_state=trial.seed).fit_predict(z),
        "recurring-ARI": _own_groups(z, trial.seed, Tiles.cut(trial.cells.position_um[test], sample)),
    }
    return [
        Score(name, domain_adjusted_rand(labels[test], found, sample), len(test), 0) for name, found in groups.items()
    ]


def _no_types(cells: BenchCells) -> str | None:
    return None if cells.data.cell_type else "no cell types are known"


def _no_domains(cells: BenchCells) -> str | None:
    return None if cells.data.domain else "no regions are known"


ANNOTATION = Task("annotation", "type of held-out cells", BOTH, annotate, _no_types)
ANNOTATION_BY_IMAGE = Task(
    "annotation from image",
    "type of held-out cells from their image",
    IMAGE,
    annotate,
    lambda cells: _no_types(cells) or (None if cells.has_images else "no image"),
)
ZERO_SHOT = Task(
    "gene-only zero-shot", "types from genes, nothing fitted here", GENES, zero_shot, _no_types, kind="zero-shot"
)
CLUSTERING = Task("clustering", "Leiden against types", BOTH, cluster, _no_types)
DOMAINS = Task("domains", "Leiden against regions", BOTH, find_domains, _no_domains)
DOMAIN_ANNOTATION = Task("domain annotation", "region of held-out cells", BOTH, annotate_domains, _no_domains)
