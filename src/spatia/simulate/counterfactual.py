"""What the same cell would look like, and express, in another state.

Only one cell changes, and only what its state changes: its programme expression, hence its driver genes, hence its
latent morphology. Its own noise (gamma, features, unevenness), the noise of texture and camera, the lines to its neighbours
and the neighbours themselves stay. Counts are coupled to the factual ones: where the mean falls they are thinned, where
it rises counts are added, which is exact for the Poisson and changes as few as can be.
"""

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, csr_matrix
from scipy.spatial import cKDTree

from spatia.errors import SettingsError
from spatia.simulate.celltypes import CHANNELS, CODE, STATES, TYPE_NAMES
from spatia.simulate.expression import BlockCounts, draw_counts, driver_scores, latent_expression, own_noise
from spatia.simulate.morphology import explained_features
from spatia.simulate.outlines import area_and_centroid, shape, vertices_um
from spatia.simulate.randomness import CELLS_PER_BLOCK, Stream, generator
from spatia.simulate.raster import (
    Microscope,
    Window,
    label_windows,
    local_cells,
    render_local,
    section_microscope,
)
from spatia.simulate.section import Cells, irregularity
from spatia.simulate.states import TYPES_WITH
from spatia.simulate.tables import cell_ids, section_features
from spatia.simulate.truth import Truth, read_truth

NEAR = 0.35  # a cell belongs to the source of a transition when its state is this close to it


@dataclass(frozen=True)
class Transition:
    """Set ``state`` from near ``source`` to ``target``.

    Examples
    --------
    >>> Transition.parse("emt: 0→1")
    Transition(state='emt', source=0.0, target=1.0)
    >>> Transition.parse("activation").name
    'activation_0_to_1'
    """

    state: str
    source: float = 0.0
    target: float = 1.0

    @property
    def name(self) -> str:
        """The transition as part of a file name."""
        return f"{self.state}_{self.source:g}_to_{self.target:g}"

    @classmethod
    def parse(cls, text: str) -> "Transition":
        """Read ``"emt"``, ``"emt: 0→1"`` or ``"emt: 0.2 -> 0.8"``."""
        number = r"(\d*\.?\d+)"
        match = re.fullmatch(rf"\s*(\w+)\s*(?::\s*{number}\s*(?:→|->)\s*{number}\s*)?", text)
        if match is None or match[1] not in STATES:
            raise SettingsError(
                f"transition {text!r}: not understood. Expected one of {', '.join(STATES)}, alone (0→1) or with its ends, "
                "as 'emt: 0→1' or 'emt: 0.2 -> 0.8'."
            )
        transition = cls(match[1]) if match[2] is None else cls(match[1], float(match[2]), float(match[3]))
        if max(transition.source, transition.target) > 1 or transition.source == transition.target:
            raise SettingsError(f"transition {text!r}: both ends must lie in [0, 1] and differ.")
        return transition


def counterfactual(
    bundle: Path,
    transition: str | Transition,
    cell_ids_wanted: list[str] | None = None,
    *,
    n_cells: int = 500,
    size_um: float = 27.2,
    size_px: int = 64,
) -> ad.AnnData:
    """Draw cells of a simulated slide as they are, and as they would be after a transition.

    Parameters
    ----------
    bundle
        Folder written by ``spatia simulate``.
    transition
        For example ``"emt: 0→1"``.
    cell_ids_wanted
        Cells to change; by default ``n_cells`` at random among those whose state is near the source.
    size_um, size_px
        Side of the crops, centred on the centroid of the factual outline to less than half a pixel, so that crops are whole pixels, as
        those of a corpus are.

    Returns
    -------
    One row per cell. ``X`` counterfactual counts as the segmentation would see them, ``layers["factual"]`` those in the bundle;
    ``obsm["images_factual"]``, ``obsm["images_counterfactual"]`` (n, 4, size_px, size_px) uint16;
    ``obsm["mask_factual"]``, ``obsm["mask_counterfactual"]`` (n, size_px, size_px), the share of the pixel in the cell × 255.
    ``obs`` has the type and the state before and after; ``uns`` the settings.

    Raises
    ------
    SettingsError
        For an unknown transition or cell, and when no cell is eligible.
    """
    wanted = Transition.parse(transition) if isinstance(transition, str) else transition
    truth = read_truth(Path(bundle))
    ids = cell_ids(truth.settings.seed, truth.section.number, len(truth.section.cells))
    rows = _rows(truth, ids, wanted, cell_ids_wanted, n_cells)
    states = truth.section.cells.states[rows].copy()
    states[:, STATES.index(wanted.state)] = wanted.target
    changed = change_cells(truth, rows, states, {})
    result = _as_anndata(truth, rows, wanted, _change_counts(Path(bundle), truth, rows, changed))
    crops = draw_crops(truth, rows, changed, size_um, size_px)
    result.obsm["images_factual"], result.obsm["images_counterfactual"] = crops.factual, crops.changed
    result.obsm["mask_factual"], result.obsm["mask_counterfactual"] = crops.mask_factual, crops.mask_changed
    result.uns["um_per_px"] = size_um / size_px
    return result


def write_counterfactual(bundle: Path, transition: str, *, n_cells: int) -> Path:
    """Write ``truth/counterfactual_<name>.h5ad`` into a bundle."""
    path = Path(bundle) / "truth" / f"counterfactual_{Transition.parse(transition).name}.h5ad"
    counterfactual(bundle, transition, n_cells=n_cells).write_h5ad(path, compression="gzip")
    return path


def _rows(
    truth: Truth, ids: NDArray[np.str_], transition: Transition, wanted: list[str] | None, n_cells: int
) -> NDArray[np.int64]:
    """Return the rows of the cells to change, ascending."""
    cells = truth.section.cells
    capable = np.isin(cells.kind, [CODE[name] for name in TYPES_WITH[transition.state]])
    state = STATES.index(transition.state)
    if wanted is not None:
        position = {name: row for row, name in enumerate(ids.tolist())}
        unknown = [name for name in wanted if name not in position]
        if unknown:
            raise SettingsError(f"cell {unknown[0]!r}: not among the {len(ids):,} cells of the slide, e.g. {ids[0]!r}.")
        rows = np.unique([position[name] for name in wanted])
        unable = rows[~capable[rows]]
        if len(unable):
            raise SettingsError(
                f"cell {ids[unable[0]]!r} is of type {TYPE_NAMES[cells.kind[unable[0]]]}, which has no state "
                f"{transition.state!r}; only {', '.join(TYPES_WITH[transition.state])} have it."
            )
        return rows
    eligible = np.flatnonzero(capable & (np.abs(cells.states[:, state] - transition.source) <= NEAR))
    if not len(eligible):
        raise SettingsError(
            f"transition {transition.name}: no cell has {transition.state} within {NEAR} of {transition.source}. "
            "Simulate more cells, or start the transition elsewhere."
        )
    rng = generator(truth.settings.seed, Stream.COUNTERFACTUAL, truth.section.number, state)
    return np.sort(rng.permutation(eligible)[:n_cells])


@dataclass(frozen=True)
class Changed:
    """The chosen cells after a change, and their counts' noise before and after."""

    cells: Cells
    before: list[BlockCounts]  # one block at a time holds rows of several chosen cells
    rate: NDArray[np.float64]


def change_cells(
    truth: Truth, rows: NDArray[np.int64], states: NDArray[np.float32], factors: Mapping[str, float]
) -> Changed:
    """Return cells in other states, or with other genes, and all that follows from it.

    Parameters
    ----------
    rows
        Of the cells, ascending.
    states
        (rows, states) after the change.
    factors
        Symbol -> what the latent expression of that gene is multiplied by; a driver gene then moves its feature.
    """
    section, settings = truth.section, truth.settings
    all_cells, expression = section.cells, section.expression
    cells = all_cells.take(rows)
    genes = expression.panel.columns(tuple(factors))
    before, latents, shapes = [], [], []
    for block in np.unique(rows // CELLS_PER_BLOCK).tolist():
        span = slice(block * CELLS_PER_BLOCK, min((block + 1) * CELLS_PER_BLOCK, len(all_cells)))
        mine = rows // CELLS_PER_BLOCK == block
        local = rows[mine] - span.start
        drawn = draw_counts(expression, block, all_cells.kind[span], all_cells.states[span], all_cells.library[span])
        before.append(BlockCounts(*(part[local] for part in (drawn.latent, drawn.rate, drawn.kept, drawn.moved))))
        latents.append(
            latent_expression(
                expression,
                cells.kind[mine],
                states[mine],
                own_noise(expression, block, span.stop - span.start).take(local),
            )
        )
        own = irregularity(settings, section.number, block, all_cells.kind[span])
        shapes.append(replace(own, wobble=own.wobble[local], shift=own.shift[local]))
    latent = np.concatenate(latents)
    latent[:, genes] *= np.array(list(factors.values()))
    scores = driver_scores(expression.panel, latent)
    shift = explained_features(cells.kind, states, scores) - explained_features(cells.kind, cells.states, cells.scores)
    features = (cells.features + shift).astype(np.float32)
    own = replace(
        shapes[0],
        wobble=np.concatenate([part.wobble for part in shapes]),
        shift=np.concatenate([part.shift for part in shapes]),
    )
    outline, nucleus = shape(features, cells.axis, cells.outlines.limit, own)
    outlines = replace(cells.outlines, cell=outline, nucleus=nucleus)
    after = replace(cells, states=states, features=features, scores=scores, outlines=outlines)
    return Changed(after, before, latent * expression.effect * expression.scale * cells.library[:, None])


def _change_counts(
    bundle: Path, truth: Truth, rows: NDArray[np.int64], changed: Changed
) -> tuple[csr_matrix, csr_matrix]:
    """Return observed counts (cells, genes) before and after.

    What a cell lost to neighbours is thinned off its rate; what it received from them stays.
    """
    gene = section_features(truth.section).gene
    factual = read_counts(bundle, rows)[:, : len(gene)].toarray().astype(np.int64)
    kept = np.concatenate([part.kept for part in changed.before])[:, gene]
    share = 1 - truth.section.expression.spill_share
    rate = np.concatenate([part.rate for part in changed.before])[:, gene] * share
    new_rate = changed.rate[:, gene] * share
    new = np.empty_like(kept)
    for i, row in enumerate(rows.tolist()):  # a stream per cell: asking for other cells too changes nothing
        rng = generator(truth.settings.seed, Stream.COUNTERFACTUAL, truth.section.number, 1000, row)
        thinned = rng.binomial(kept[i], np.minimum(new_rate[i] / np.maximum(rate[i], 1e-12), 1))
        added = rng.poisson(np.maximum(new_rate[i] - rate[i], 0))
        new[i] = np.where(new_rate[i] < rate[i], thinned, kept[i] + added)
    return csr_matrix(factual), csr_matrix(factual - kept + new)


def read_counts(bundle: Path, rows: NDArray[np.int64]) -> csr_matrix:
    """Read the counts of some cells from the matrix of a bundle, (cells, features)."""
    with h5py.File(bundle / "cell_feature_matrix.h5") as file:
        group = file["matrix"]
        parts = (group["data"][:], group["indices"][:], group["indptr"][:])
        counts = csc_matrix(parts, shape=tuple(group["shape"][:]))
    return counts[:, rows].T.tocsr()


@dataclass(frozen=True)
class _Resampling:
    """The whole pixels under a crop, and the matrices (size_px, window) that average them by area."""

    window: Window
    across: NDArray[np.float64]
    down: NDArray[np.float64]


@dataclass(frozen=True)
class Crops:
    """Images (n, 4, px, px) uint16 and masks (n, px, px) uint8, before and after."""

    factual: NDArray[np.uint16]
    changed: NDArray[np.uint16]
    mask_factual: NDArray[np.uint8]
    mask_changed: NDArray[np.uint8]


def draw_crops(truth: Truth, rows: NDArray[np.int64], changed: Changed, size_um: float, size_px: int) -> Crops:
    """Draw cells before and after a change, each by itself among unchanged neighbours."""
    cells = truth.section.cells
    tree = cKDTree(cells.centre_um)
    microscope = section_microscope(truth.settings, truth.section.number)
    um_per_px = size_um / size_px
    _, centroid = area_and_centroid(vertices_um(cells.centre_um[rows], cells.outlines.cell[rows]))

    def pair_of(i: int) -> tuple[tuple[NDArray[np.uint16], NDArray[np.uint8]], ...]:
        # on the grid of whole pixels, as a corpus cuts its crops: a window that starts in between would blur what it shows
        corner = (np.rint(centroid[i] / um_per_px) - size_px // 2) * um_per_px / microscope.um_per_px
        corner = np.where(np.abs(corner - np.rint(corner)) < 1e-9, np.rint(corner), corner)
        place = _resampling(corner, size_um / microscope.um_per_px, size_px)
        local = local_cells(cells, tree, microscope, place.window)
        here = cells.take(local)
        own = int(np.searchsorted(local, rows[i]))
        there = _with_cell(here, own, changed.cells, i)
        return tuple(_crop(which, own, microscope, place) for which in (here, there))

    with ThreadPoolExecutor(truth.settings.workers) as pool:
        parts = list(pool.map(pair_of, range(len(rows))))
    images = [np.stack([pair[side][0] for pair in parts]) for side in (0, 1)]
    masks = [np.stack([pair[side][1] for pair in parts]) for side in (0, 1)]
    return Crops(images[0], images[1], masks[0], masks[1])


def _with_cell(here: Cells, own: int, changed: Cells, row: int) -> Cells:
    """Return local cells with cell ``own`` replaced by a changed one."""
    features, outlines = here.features.copy(), here.outlines
    features[own] = changed.features[row]
    cell, nucleus = outlines.cell.copy(), outlines.nucleus.copy()
    cell[own], nucleus[own] = changed.outlines.cell[row], changed.outlines.nucleus[row]
    return replace(here, features=features, outlines=replace(outlines, cell=cell, nucleus=nucleus))


def _crop(
    cells: Cells, own: int, microscope: Microscope, place: _Resampling
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    image = render_local(cells, microscope, place.window)
    labels, _ = label_windows(cells, place.window, microscope.um_per_px)
    fine = np.concatenate([image.astype(np.float64), (labels == own + 1)[None] * 255.0])
    # not by `@`: for matrices this small the threads of the BLAS cost ten times the product
    narrow = np.einsum("cyx,jx->cyj", fine, place.across)
    small = np.rint(np.einsum("iy,cyj->cij", place.down, narrow))
    return small[:4].astype(np.uint16), small[4].astype(np.uint8)


def _resampling(corner_px: NDArray[np.float64], side_px: float, size_px: int) -> _Resampling:
    """Return how to average whole pixels of the slide by area into a crop that starts anywhere."""
    first = np.floor(corner_px).astype(int)
    last = np.ceil(corner_px + side_px).astype(int)
    weights = []
    for axis in range(2):
        edges = corner_px[axis] + side_px * np.arange(size_px + 1) / size_px
        low = np.arange(first[axis], last[axis])
        overlap = np.minimum(edges[1:, None], low + 1) - np.maximum(edges[:-1, None], low)
        weights.append(np.maximum(overlap, 0) * (size_px / side_px))
    return _Resampling(Window(int(first[1]), int(first[0]), int(last[1]), int(last[0])), weights[0], weights[1])


def _as_anndata(
    truth: Truth, rows: NDArray[np.int64], transition: Transition, counts: tuple[csr_matrix, csr_matrix]
) -> ad.AnnData:
    cells = truth.section.cells
    features = section_features(truth.section)
    ids = cell_ids(truth.settings.seed, truth.section.number, len(cells))[rows].astype(object)
    obs = pd.DataFrame(
        {
            "cell_id": ids,
            "type": np.array(TYPE_NAMES, object)[cells.kind[rows]],
            "state_before": cells.states[rows, STATES.index(transition.state)],
            "state_after": np.full(len(rows), transition.target, np.float32),
        },
        index=ids,
    )
    n_genes = len(features.gene)
    var = pd.DataFrame({"symbol": features.names[:n_genes]}, index=features.ids[:n_genes])
    result = ad.AnnData(X=counts[1], obs=obs, var=var, layers={"factual": counts[0]})
    result.uns["transition"] = {"state": transition.state, "source": transition.source, "target": transition.target}
    result.uns["channels"] = list(CHANNELS)
    return result
