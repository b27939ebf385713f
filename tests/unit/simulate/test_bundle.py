"""The bundle is what the vendor writes, and its files agree with each other."""

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import shapely
import tifffile
from scipy.sparse import csc_matrix

from spatia.errors import SettingsError, SlideError
from spatia.simulate.celltypes import CHANNELS
from spatia.simulate.drawing import draw
from spatia.simulate.settings import SimulationSettings
from spatia.simulate.slide import simulate
from spatia.simulate.truth import read_truth


def matrix(bundle: Path) -> tuple[csc_matrix, list[str], list[str]]:
    """Return counts (features, cells), names of the features, and barcodes."""
    with h5py.File(bundle / "cell_feature_matrix.h5") as file:
        group = file["matrix"]
        counts = csc_matrix((group["data"][:], group["indices"][:], group["indptr"][:]), shape=tuple(group["shape"][:]))
        names = [name.decode() for name in group["features/name"][:]]
        return counts, names, [name.decode() for name in group["barcodes"][:]]


def rings(bundle: Path, name: str) -> np.ndarray:
    table = pd.read_parquet(bundle / name)
    assert (table["cell_id"].to_numpy().reshape(-1, 25) == table["cell_id"].to_numpy()[::25, None]).all()
    return table[["vertex_x", "vertex_y"]].to_numpy().reshape(-1, 25, 2)


def test_every_file_that_the_metadata_names_is_there(bundle: Path) -> None:
    experiment = json.loads((bundle / "experiment.xenium").read_text())
    assert experiment["pixel_size"] == 0.425
    assert experiment["num_cells"] == 500
    for name in experiment["images"].values():
        assert (bundle / name).is_file()
    assert "xenium_explorer_files" not in experiment


def test_cells_matrix_and_outlines_hold_the_same_cells_in_the_same_order(bundle: Path) -> None:
    cells = pd.read_parquet(bundle / "cells.parquet")
    _, _, barcodes = matrix(bundle)
    outlines = pd.read_parquet(bundle / "cell_boundaries.parquet")
    assert cells["cell_id"].is_unique
    assert cells["cell_id"].str.fullmatch("[a-p]{8}-1").all()
    assert cells["cell_id"].tolist() == barcodes == outlines["cell_id"].iloc[::25].tolist()
    pd.testing.assert_frame_equal(pd.read_csv(bundle / "cells.csv.gz"), cells, check_dtype=False)


def test_transcripts_sum_to_the_matrix(bundle: Path) -> None:
    counts, names, barcodes = matrix(bundle)
    transcripts = pd.read_parquet(bundle / "transcripts.parquet")
    assert transcripts["transcript_id"].is_unique
    inside = transcripts[transcripts["cell_id"] != "UNASSIGNED"]
    assert 0.03 < 1 - len(inside) / len(transcripts) < 0.09
    table = inside.groupby(["feature_name", "cell_id"]).size().unstack(fill_value=0)
    table = table.reindex(index=names, columns=barcodes, fill_value=0)
    np.testing.assert_array_equal(table.to_numpy(), counts.toarray())


def test_counts_in_the_cell_table_are_those_of_the_matrix(bundle: Path) -> None:
    counts, names, _ = matrix(bundle)
    cells = pd.read_parquet(bundle / "cells.parquet")
    control = np.array([name.startswith(("NegControl", "Unassigned")) for name in names])
    dense = counts.toarray()
    np.testing.assert_array_equal(dense[~control].sum(0), cells["transcript_counts"])
    np.testing.assert_array_equal(dense.sum(0), cells["total_counts"])
    assert 0 < dense[control].sum() < 0.002 * dense.sum()
    assert 80 < cells["transcript_counts"].median() < 400


def test_outlines_are_valid_contain_their_centroid_and_do_not_overlap(bundle: Path) -> None:
    cells = pd.read_parquet(bundle / "cells.parquet")
    ring = rings(bundle, "cell_boundaries.parquet")
    np.testing.assert_array_equal(ring[:, 0], ring[:, -1])
    polygons = shapely.polygons(ring)
    assert shapely.is_valid(polygons).all()
    assert shapely.contains_xy(polygons, cells["x_centroid"], cells["y_centroid"]).all()
    np.testing.assert_allclose(shapely.area(polygons), cells["cell_area"], rtol=1e-3)
    first, second = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    pairs = first < second
    assert shapely.area(shapely.intersection(polygons[first[pairs]], polygons[second[pairs]])).sum() < 1.0
    nuclei = shapely.polygons(rings(bundle, "nucleus_boundaries.parquet"))
    assert (shapely.area(shapely.difference(nuclei, polygons)) < 0.02 * shapely.area(nuclei)).all()


def test_transcripts_lie_in_their_cells_and_the_unassigned_in_none(bundle: Path) -> None:
    transcripts = pd.read_parquet(bundle / "transcripts.parquet")
    cells = pd.read_parquet(bundle / "cells.parquet")
    polygons = shapely.polygons(rings(bundle, "cell_boundaries.parquet"))
    inside = transcripts[transcripts["cell_id"] != "UNASSIGNED"]
    row = pd.Series(np.arange(len(cells)), cells["cell_id"])[inside["cell_id"]].to_numpy()
    assert shapely.contains_xy(polygons[row], inside["x_location"], inside["y_location"]).mean() > 0.999
    outside = transcripts[transcripts["cell_id"] == "UNASSIGNED"]
    points = shapely.points(outside["x_location"], outside["y_location"])
    assert len(shapely.STRtree(polygons).query(points, predicate="within")[0]) == 0


def test_the_panel_resolves_symbols_to_ids(bundle: Path) -> None:
    targets = json.loads((bundle / "gene_panel.json").read_text())["payload"]["targets"]
    genes = {t["type"]["data"]["name"]: t["type"]["data"]["id"] for t in targets if t["type"]["descriptor"] == "gene"}
    with h5py.File(bundle / "cell_feature_matrix.h5") as file:
        features = file["matrix/features"]
        kinds = features["feature_type"][:] == b"Gene Expression"
        names, ids = (np.char.decode(features[key][:][kinds]).tolist() for key in ("name", "id"))
    assert genes == dict(zip(names, ids, strict=True))
    assert len(genes) == 300
    assert {"EPCAM", "VIM", "MKI67", "CA9", "CD3E"} <= set(names)
    assert all(gene_id.startswith("ENSG00009") for gene_id in ids)


def test_tifffile_reads_one_series_of_all_files_with_its_pyramid(bundle: Path) -> None:
    paths = sorted((bundle / "morphology_focus").iterdir())
    assert [path.name for path in paths] == [f"morphology_focus_{k:04d}.ome.tif" for k in range(4)]
    with tifffile.TiffFile(paths[0]) as file:
        assert file.is_ome
        assert file.pages[0].tile == (512, 512)
        assert all(name in (file.ome_metadata or "") for name in CHANNELS)
        (series,) = file.series
        levels = [level.asarray() for level in series.levels]
    assert series.axes == "CYX"
    side = levels[0].shape[1]
    assert [level.shape for level in levels] == [(4, side >> k, side >> k) for k in range(len(levels))]
    assert len(levels) > 1
    half = levels[1].shape[1]
    mean = levels[0][:, : 2 * half, : 2 * half].reshape(4, half, 2, half, 2).mean((2, 4))
    assert np.abs(mean - levels[1]).max() <= 0.5


def test_nuclei_lie_under_their_outlines(bundle: Path) -> None:
    truth = read_truth(bundle)
    image = tifffile.imread(bundle / "morphology_focus" / "morphology_focus_0000.ome.tif")[0]
    column, row = np.floor(truth.section.cells.centre_um / 0.425).astype(int).T
    assert np.median(image[row, column]) > 5 * np.median(image)


@pytest.mark.parametrize("codec", ["jpeg2000", "none"])
def test_codecs_hold_the_same_pixels(bundle: Path, tmp_path: Path, settings: SimulationSettings, codec: str) -> None:
    (other,) = simulate(tmp_path / "slide", settings.model_copy(update={"codec": codec, "transcripts": False}))
    name = "morphology_focus/morphology_focus_0000.ome.tif"
    np.testing.assert_array_equal(tifffile.imread(other / name), tifffile.imread(bundle / name))
    assert not (other / "transcripts.parquet").exists()


def test_sections_get_folders_donors_and_panels(tmp_path: Path) -> None:
    settings = SimulationSettings(n_cells=120, n_sections=3, n_donors=2, panel_share=0.5, um_per_px=0.85, tile_px=256)
    paths = simulate(tmp_path / "study", settings)
    assert [path.name for path in paths] == ["section_1", "section_2", "section_3"]
    donors = [pd.read_parquet(path / "truth" / "cells.parquet")["donor"].iloc[0] for path in paths]
    assert donors == ["donor_1", "donor_2", "donor_1"]
    panels = [set(matrix(path)[1][:150]) for path in paths]
    assert len(panels[0] & panels[1]) < 150


def test_an_occupied_folder_is_refused(bundle: Path, settings: SimulationSettings) -> None:
    with pytest.raises(SettingsError, match="is there already and not empty"):
        simulate(bundle, settings)


def test_a_failure_leaves_nothing(tmp_path: Path, settings: SimulationSettings) -> None:
    def fail(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "slide", settings, fail)
    assert list(tmp_path.iterdir()) == []


def test_a_slide_without_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="Expected a slide made by `spatia simulate`"):
        read_truth(tmp_path)


def test_it_can_be_drawn(bundle: Path, tmp_path: Path) -> None:
    path = draw(bundle, tmp_path / "slide.png", dpi=30)
    assert 3_000 < path.stat().st_size < 600_000
    with pytest.raises(SlideError, match="no state 'anger'"):
        draw(bundle, tmp_path / "slide.png", state="anger")
