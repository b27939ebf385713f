"""The same cell in another state: only what the state changes is changed."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import tifffile

from spatia.errors import SettingsError
from spatia.simulate.celltypes import STATES
from spatia.simulate.counterfactual import Transition, counterfactual, read_counts, write_counterfactual
from spatia.simulate.truth import read_truth


@pytest.fixture(scope="module")
def emt(bundle: Path) -> ad.AnnData:
    return counterfactual(bundle, "emt: 0→1", n_cells=12)


def rows_of(bundle: Path, result: ad.AnnData) -> np.ndarray:
    ids = pd.read_parquet(bundle / "cells.parquet", columns=["cell_id"])["cell_id"]
    return pd.Series(np.arange(len(ids)), ids)[result.obs["cell_id"]].to_numpy()


def test_factual_counts_are_those_of_the_bundle(bundle: Path, emt: ad.AnnData) -> None:
    counts = read_counts(bundle, rows_of(bundle, emt))[:, : emt.n_vars]
    np.testing.assert_array_equal(emt.layers["factual"].toarray(), counts.toarray())


def test_factual_crops_are_those_of_the_slide(bundle: Path) -> None:
    """Crops are slices of the image, as a corpus cuts them: on whole pixels, moved by less than half of one."""
    truth = read_truth(bundle)
    result = counterfactual(bundle, "emt", n_cells=5, size_um=0.425 * 40, size_px=40)
    image = tifffile.imread(bundle / "morphology_focus" / "morphology_focus_0000.ome.tif").astype(float)
    cells = pd.read_parquet(bundle / "cells.parquet").iloc[rows_of(bundle, result)]
    for crop, x, y in zip(result.obsm["images_factual"], cells["x_centroid"], cells["y_centroid"], strict=True):
        left, top = (round(v / truth.settings.um_per_px) - 20 for v in (x, y))
        np.testing.assert_array_equal(image[:, top : top + 40, left : left + 40], crop)


def test_far_from_the_cell_nothing_changes(emt: ad.AnnData) -> None:
    """Beyond both masks and the reach of the haze, the two crops are equal to the bit."""
    from scipy.ndimage import distance_transform_edt

    some = False
    for i in range(emt.n_obs):
        own = (emt.obsm["mask_factual"][i] > 0) | (emt.obsm["mask_counterfactual"][i] > 0)
        far = distance_transform_edt(~own) * float(emt.uns["um_per_px"]) > 12
        before, after = (emt.obsm[f"images_{name}"][i][:, far] for name in ("factual", "counterfactual"))
        some |= bool(far.any())
        np.testing.assert_array_equal(before[0], after[0])
    assert some


def test_emt_brings_vimentin_and_takes_cadherin_in_image_and_counts(emt: ad.AnnData) -> None:
    own = emt.obsm["mask_counterfactual"][:, None] > 127
    shift = emt.obsm["images_counterfactual"].astype(float) - emt.obsm["images_factual"]
    mean = np.array([np.where(own[:, 0], shift[:, channel], 0).sum() / own.sum() for channel in range(4)])
    assert mean[3] > 0 > mean[1]
    change = pd.Series(np.asarray((emt.X - emt.layers["factual"]).mean(0)).ravel(), emt.var["symbol"])
    assert change[["VIM", "ZEB1", "FN1"]].sum() > 0 > change[["EPCAM", "CDH1", "KRT8"]].sum()
    assert (emt.obs["state_before"] < 0.36).all()
    assert (emt.obs["state_after"] == 1).all()


def test_genes_outside_the_programmes_of_the_state_keep_their_counts(emt: ad.AnnData) -> None:
    keep = emt.var["symbol"].isin(["GAPDH", "EEF2", "CD3E", "MS4A1", "CA9", "MKI67"]).to_numpy()
    assert keep.sum() == 6
    np.testing.assert_array_equal(emt.X[:, keep].toarray(), emt.layers["factual"][:, keep].toarray())


def test_counts_stay_counts(emt: ad.AnnData) -> None:
    assert emt.X.min() >= 0
    assert np.issubdtype(emt.X.dtype, np.integer)


def test_other_cells_asked_for_do_not_change_a_cell(bundle: Path, emt: ad.AnnData) -> None:
    chosen = emt.obs["cell_id"].tolist()[3:5]
    few = counterfactual(bundle, "emt", chosen)
    assert few.obs["cell_id"].tolist() == chosen
    np.testing.assert_array_equal(few.X.toarray(), emt.X[3:5].toarray())
    np.testing.assert_array_equal(few.obsm["images_counterfactual"], emt.obsm["images_counterfactual"][3:5])


def test_a_transition_to_the_same_state_changes_nothing(bundle: Path) -> None:
    truth = read_truth(bundle)
    column = STATES.index("hypoxia")
    result = counterfactual(bundle, "hypoxia", n_cells=1)
    row = rows_of(bundle, result)[0]
    now = float(truth.section.cells.states[row, column])
    same = counterfactual(bundle, Transition("hypoxia", 0.0, now), result.obs["cell_id"].tolist())
    np.testing.assert_array_equal(same.X.toarray(), same.layers["factual"].toarray())
    difference = same.obsm["images_counterfactual"].astype(int) - same.obsm["images_factual"]
    assert np.abs(difference).max() <= 1


def test_it_is_written_beside_the_truth_and_read_by_anndata(bundle: Path) -> None:
    path = write_counterfactual(bundle, "activation: 0.1 -> 0.9", n_cells=2)
    try:
        assert path.name == "counterfactual_activation_0.1_to_0.9.h5ad"
        assert ad.read_h5ad(path).obsm["images_factual"].shape == (2, 4, 64, 64)
    finally:
        path.unlink()


@pytest.mark.parametrize("text", ["anger", "emt: 0", "emt: 0→2", "emt: 1→1"])
def test_a_transition_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="transition"):
        Transition.parse(text)


def test_unknown_and_unable_cells_are_refused(bundle: Path) -> None:
    with pytest.raises(SettingsError, match="'nobody': not among the 500 cells"):
        counterfactual(bundle, "emt", ["nobody"])
    truth = pd.read_parquet(bundle / "truth" / "cells.parquet")
    fibroblast = truth.loc[truth["type"] == "fibroblast", "cell_id"].iloc[0]
    with pytest.raises(SettingsError, match="is of type fibroblast, which has no state 'emt'"):
        counterfactual(bundle, "emt", [fibroblast])
