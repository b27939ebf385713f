"""What `spatia build` writes, the loaders read: every cell, niche and window of the real slide, with its own data."""

from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from spatia.corpus.build import build
from spatia.corpus.corpus import Corpus
from spatia.corpus.settings import BuildSettings
from spatia.data.loader import cell_loader, niche_loader, tissue_loader
from spatia.io.source import Source

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module", params=["grid", "adaptive", "radius", "knn"])
def corpus(request, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    out = tmp_path_factory.mktemp(request.param) / "corpus"
    source = Source(sample="breast", path=real_data / "xenium_breast" / "outs")
    result = build([source], out, BuildSettings(niches={"definition": request.param}))
    assert result.exit_code == 0, result
    return Corpus.open(out)


def test_cells_carry_what_the_store_holds(corpus):
    table = ad.read_zarr(corpus.section("breast").cells.path)
    seen = []
    for batch in cell_loader([corpus], shuffle=False, batch_size=500):
        rows = batch.row.numpy()
        assert np.array_equal(batch.counts.numpy(), table.X[rows].toarray())
        assert np.array_equal(batch.images.numpy(), table.obsm["single_cell_images"][rows])
        assert np.array_equal(batch.masks.numpy(), table.obsm["single_cell_mask"][rows])
        assert np.allclose(batch.position_um.numpy(), table.obsm["spatial"][rows])
        features = table.obsm["morphology"].iloc[rows].to_numpy(np.float32)
        assert np.array_equal(batch.morphology_measured.numpy(), np.isfinite(features))
        assert np.array_equal(batch.morphology.numpy(), np.nan_to_num(features, nan=0.0))
        seen += rows.tolist()
    assert seen == list(range(table.n_obs))


def test_niches_and_windows_come_whole(corpus):
    section = corpus.section("breast")
    members = ad.read_zarr(section.niches.path).obsm["members"].tocsr()
    n_niches = 0
    for batch in niche_loader([corpus]):
        n_niches += len(batch)
        for i, niche in enumerate(batch.row.tolist()):
            cells = batch.cells.row[batch.member_cell[batch.offsets[i] : batch.offsets[i + 1]]]
            assert sorted(members[niche].indices.tolist()) == cells.tolist()
    assert n_niches == section.entry.n_niches
    windows = list(tissue_loader([corpus], shuffle=False, max_cells=1))
    assert [batch.row.tolist() for batch in windows] == [[row] for row in range(section.entry.n_tissues)]
    niches = [row for batch in windows for row in batch.niches.row.tolist()]
    assert niches == list(range(section.entry.n_niches))
