"""A corpus holds what the slide holds: right cells, right pixels, right counts, in an order of its own."""

import json
import shutil
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from distributed import LocalCluster
from shapely.geometry import Point, Polygon
from tests.integration.conftest import SMALL

from spatia.cli.build import _print
from spatia.corpus.build import build
from spatia.corpus.corpus import Corpus
from spatia.corpus.lock import only_writer_of
from spatia.corpus.settings import BuildSettings, NicheSettings
from spatia.corpus.verify import verify
from spatia.errors import CorpusError, SettingsError
from spatia.io.border import slide_table
from spatia.io.read import read_slide
from spatia.io.source import Source

pytestmark = pytest.mark.slow


def cells_of(corpus: Path, sample: str = "s1") -> ad.AnnData:
    return ad.read_zarr(corpus / "sections" / sample / "cells.zarr")


def digests(corpus: Path) -> dict[str, str]:
    files = json.loads((corpus / "sections" / "s1" / "manifest.json").read_text())["files"]
    return {name: record["sha256"] for name, record in files.items()}


def test_counts_and_annotation_are_the_slides_own(slide: Path, corpus: Path) -> None:
    cells, table = cells_of(corpus), slide_table(read_slide(Source("s1", slide)))
    genes = (table.var["feature_type"] == "gene").to_numpy()
    expected = pd.DataFrame(table.X.compute()[:, genes].toarray(), table.obs_names, table.var["gene_id"][genes])
    found = pd.DataFrame(cells.X.toarray(), cells.obs_names, cells.var_names)
    pd.testing.assert_frame_equal(
        found.sort_index(), expected.sort_index(), check_dtype=False, check_names=False, check_column_type=False
    )
    position = pd.DataFrame(table.obsm["spatial"], table.obs_names).loc[cells.obs_names]
    np.testing.assert_array_equal(position, cells.obsm["spatial"])
    np.testing.assert_array_equal(table.obs["cell_area"].loc[cells.obs_names], cells.obs["cell_area"])
    assert set(cells.obs["donor"]) == {"d1"}


def test_crops_are_the_images_own_pixels(slide: Path, corpus: Path) -> None:
    cells = cells_of(corpus)
    section = Corpus.open(corpus).section("s1")
    names = sorted((slide / "morphology_focus").glob("*.tif"))
    image = np.stack([tifffile.imread(name, is_ome=False, level=0) for name in names])
    padded = np.pad(image, ((0, 0), (64, 64), (64, 64)))
    for row in range(0, cells.n_obs, 29):
        x, y = np.rint(cells.obsm["spatial"][row] / 0.425).astype(int) - 32 + 64
        for channel, name in enumerate(section.entry.channels):
            one = section.details["intensity"][name]
            raw = padded[channel, y : y + 64, x : x + 64].astype(float)
            expected = np.rint(255 * np.clip((raw - one["low"]) / (one["high"] - one["low"]), 0, 1))
            np.testing.assert_array_equal(cells.obsm["single_cell_images"][row, channel], expected)


def test_masks_are_the_outlines_and_nuclei_are_bright(slide: Path, corpus: Path) -> None:
    cells = cells_of(corpus)
    outlines = pd.read_parquet(slide / "cell_boundaries.parquet").groupby("cell_id")[["vertex_x", "vertex_y"]]
    masks, images = cells.obsm["single_cell_mask"], cells.obsm["single_cell_images"]
    for row in range(0, cells.n_obs, 53):
        polygon = Polygon(outlines.get_group(cells.obs_names[row]).to_numpy())
        corner = (np.rint(cells.obsm["spatial"][row] / 0.425) - 32) * 0.425
        for y, x in np.random.default_rng(row).integers(0, 64, (30, 2)):
            inside = polygon.contains(Point(corner[0] + (x + 0.5) * 0.425, corner[1] + (y + 0.5) * 0.425))
            assert inside == bool(masks[row, y, x] & 1)
    nucleus, rest = masks & 2 > 0, (masks & 1 > 0) & ~(masks & 2 > 0)
    dapi = images[:, 0].astype(float)
    assert dapi[nucleus].mean() > 1.5 * dapi[rest].mean()
    assert (masks & 2 > 0).sum() > 0.15 * (masks & 1 > 0).sum()


def test_measured_area_is_the_vendors(corpus: Path) -> None:
    cells = cells_of(corpus)
    ratio = cells.obsm["morphology"]["area_um2"] / cells.obs["cell_area"]
    assert np.abs(np.median(ratio) - 1) < 0.02
    assert cells.obsm["morphology"].notna().all().all()


def test_levels_nest_and_are_contiguous(corpus: Path) -> None:
    section = corpus / "sections" / "s1"
    cells = cells_of(corpus)
    niches, tissues = ad.read_zarr(section / "niches.zarr"), ad.read_zarr(section / "tissues.zarr")
    for groups, name in ((niches, "niche"), (tissues, "tissue")):
        expected = np.repeat(np.arange(groups.n_obs), groups.obs["n_cells"])
        np.testing.assert_array_equal(cells.obs[name], expected)
        pooled = np.stack(
            [
                cells.X[a:b].sum(axis=0).A1
                for a, b in zip(groups.obs["cell_start"], groups.obs["cell_stop"], strict=True)
            ]
        )
        np.testing.assert_array_equal(groups.X.toarray(), pooled)
        size_um = {"niche": 54.4, "tissue": 435.2}[name]
        offset = np.abs(cells.obsm["spatial"] - groups.obsm["spatial"][cells.obs[name]])
        assert (offset <= size_um / 2 + 1e-6).all()
    np.testing.assert_array_equal(
        np.repeat(np.arange(tissues.n_obs), tissues.obs["niche_stop"] - tissues.obs["niche_start"]),
        niches.obs["tissue"],
    )
    np.testing.assert_array_equal(niches.obsm["members"].sum(axis=1).A1, niches.obs["n_cells"])
    assert niches.obsm["images"].shape == (niches.n_obs, 4, 64, 64)
    assert tissues.obsm["images"].shape == (tissues.n_obs, 4, 256, 256)


def test_niche_and_tissue_images_show_the_same_place(corpus: Path) -> None:
    """A tissue window, averaged further, is the mosaic of its niches, averaged further."""
    section = corpus / "sections" / "s1"
    niches, tissues = ad.read_zarr(section / "niches.zarr"), ad.read_zarr(section / "tissues.zarr")
    differences = []
    for image, centre, tissue in zip(niches.obsm["images"], niches.obsm["spatial"], niches.obs["tissue"], strict=True):
        corner = np.rint((centre - 27.2 - (tissues.obsm["spatial"][tissue] - 217.6)) / 1.7).astype(int)
        window = tissues.obsm["images"][tissue][:, corner[1] : corner[1] + 32, corner[0] : corner[0] + 32]
        differences.append(np.abs(image.reshape(4, 32, 2, 32, 2).mean(axis=(2, 4)) - window).mean())
    assert np.mean(differences) < 2


def test_plain_anndata_reads_it_whole_and_lazily(corpus: Path) -> None:
    store = corpus / "sections" / "s1" / "cells.zarr"
    lazy, whole = ad.experimental.read_lazy(store), ad.read_zarr(store)
    assert lazy.shape == whole.shape == (600, 300)
    np.testing.assert_array_equal(
        lazy.obsm["single_cell_images"][100:110].compute(), whole.obsm["single_cell_images"][100:110]
    )
    np.testing.assert_array_equal(lazy.X[5:9].compute().toarray(), whole.X[5:9].toarray())
    assert list(whole.uns["single_cell_images"]["channels"]) == list(Corpus.open(corpus).channels)


def test_names_and_shapes_are_those_scportrait_expects(corpus: Path) -> None:
    """scPortrait's single-cell image format: images in this ``obsm`` as (cells, channels, y, x), described in ``uns``."""
    store = zarr.open_group(corpus / "sections" / "s1" / "cells.zarr", mode="r")
    images, described = store["obsm/single_cell_images"], cells_of(corpus).uns["single_cell_images"]
    assert images.shape == (store["obs/_index"].shape[0], len(described["channels"]), 64, 64)
    assert images.dtype == np.uint8
    assert images.attrs["encoding-type"] == "array"
    assert images.chunks[1:] == images.shape[1:]  # a cell's image is never cut
    assert (described["px"], described["um_per_px"]) == (64, pytest.approx(0.425))


def test_annbatch_loads_cells_with_their_counts(corpus: Path) -> None:
    annbatch = pytest.importorskip(
        "annbatch", minversion="0.3", reason="annbatch needs Python 3.12 or newer and is not installed here"
    )
    cells = cells_of(corpus)
    group = zarr.open_group(corpus / "sections" / "s1" / "cells.zarr", mode="r")
    loader = annbatch.Loader(batch_size=32, chunk_size=16, preload_nchunks=4, shuffle=True)
    loader.add_dataset(ad.io.sparse_dataset(group["X"]), obs=cells.obs[["tissue"]].assign(row=range(cells.n_obs)))
    seen = []
    for batch in loader:
        rows = batch["obs"]["row"].to_numpy()
        np.testing.assert_array_equal(batch["X"].toarray(), cells.X[rows].toarray())
        seen.extend(rows)
    assert sorted(seen) == list(range(cells.n_obs))


def test_a_second_build_finds_the_section_unchanged(slide: Path, corpus: Path) -> None:
    before = digests(corpus)
    result = build([Source("s1", slide, donor="d1", tissue="breast")], corpus, SMALL)
    assert [section.status for section in result.sections] == ["unchanged"]
    assert digests(corpus) == before
    with pytest.raises(CorpusError, match="was built with levels"):
        build([Source("s1", slide)], corpus, SMALL.model_copy(update={"cell": BuildSettings().niche}))


@pytest.mark.parametrize(
    ("damaged", "status"),
    [
        ("sections/s1/cells.zarr/X/data/c/0", "built"),
        ("sections/s1/section.json", "built"),
        ("sections/s1/manifest.json", "built"),
        ("corpus.json", "unchanged"),
        ("genes.parquet", "unchanged"),
    ],
)
@pytest.mark.parametrize("gone", [True, False])
def test_what_is_damaged_is_built_anew(
    damaged: str, status: str, gone: bool, slide: Path, corpus: Path, tmp_path: Path
) -> None:
    """As the messages of `Corpus` and `verify` tell the user."""
    copy = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    before = digests(copy)
    path = copy / damaged
    content = path.read_bytes()
    path.unlink()
    if not gone:
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CorpusError):
        verify(copy)
    result = build([Source("s1", slide, donor="d1", tissue="breast")], copy, SMALL)
    assert [section.status for section in result.sections] == [status]
    assert verify(copy).n_sections == 1
    assert digests(copy) == before


def test_two_builds_do_not_write_one_corpus(slide: Path, tmp_path: Path) -> None:
    with only_writer_of(tmp_path, "build"), pytest.raises(SettingsError, match="another build is writing this folder"):
        build([Source("s1", slide)], tmp_path, SMALL)


def test_a_cluster_builds_the_same_bytes(slide: Path, corpus: Path, tmp_path: Path) -> None:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        source = Source("s1", slide, donor="d1", tissue="breast")
        result = build([source], tmp_path / "corpus", SMALL, scheduler=cluster.scheduler_address)
    assert result.exit_code == 0, result
    assert digests(tmp_path / "corpus") == digests(corpus)


@pytest.mark.parametrize("definition", ["adaptive", "radius", "knn"])
def test_every_niche_definition_builds_and_verifies(definition: str, slide: Path, tmp_path: Path) -> None:
    settings = SMALL.model_copy(update={"niches": NicheSettings(definition=definition)})  # type: ignore[arg-type]
    assert build([Source("s1", slide)], tmp_path, settings).exit_code == 0
    verify(tmp_path)
    cells = cells_of(tmp_path)
    niches = ad.read_zarr(tmp_path / "sections" / "s1" / "niches.zarr")
    members = niches.obsm["members"]
    expected = members.astype(np.int64) @ cells.X.astype(np.int64)
    np.testing.assert_array_equal(niches.X.toarray(), expected.toarray())
    if definition == "adaptive":
        assert (cells.obs["niche"].value_counts().sort_index().to_numpy() == niches.obs["n_cells"].to_numpy()).all()
        assert 8 < niches.obs["n_cells"].mean() < 32
    else:
        assert niches.n_obs == cells.n_obs
        assert members.diagonal().all()
        np.testing.assert_array_equal(niches.obsm["spatial"], cells.obsm["spatial"])


def test_one_bad_section_is_reported_and_the_others_stand(slide: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    result = build([Source("bad", empty), Source("good", slide)], tmp_path / "corpus", SMALL)
    assert [section.status for section in result.sections] == ["refused", "built"]
    assert "not the folder of a known platform" in result.sections[0].message
    assert result.exit_code == 2
    assert list(Corpus.open(tmp_path / "corpus").sections) == ["good"]
    with pytest.raises(SettingsError, match="Two sections are named 'good'"):
        build([Source("good", slide), Source("good", slide)], tmp_path / "corpus", SMALL)


def test_the_command_says_what_the_corpus_holds_beside_the_slides_named(
    slide: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    _print(build([Source("s1", slide, donor="d1", tissue="breast")], copy, SMALL), as_json=False)
    assert capsys.readouterr().out.endswith("1 of 1 sections stand\n")
    _print(build([Source("s2", slide)], copy, SMALL), as_json=False)
    assert "1 of 1 sections stand; with those of earlier builds the corpus holds 2" in capsys.readouterr().out


def test_a_slide_without_image_has_no_crops_and_says_why(slide: Path, tmp_path: Path) -> None:
    assert build([Source("s1", slide, no_image=True)], tmp_path, SMALL).exit_code == 0
    verify(tmp_path)
    cells = cells_of(tmp_path)
    assert "single_cell_images" not in cells.obsm
    assert cells.obsm["single_cell_mask"].any(axis=(1, 2)).all()
    assert not cells.obs["has_image"].any()
    assert Corpus.open(tmp_path).section("s1").details["image_absence"]


def test_sections_share_a_vocabulary_by_name(slide: Path, tmp_path: Path) -> None:
    build([Source("a", slide), Source("b", slide)], tmp_path, SMALL)
    corpus = Corpus.open(tmp_path)
    assert list(corpus.sections) == ["a", "b"]
    assert len(corpus.genes) == 300
    assert set(corpus.genes["gene_id"]) == set(cells_of(tmp_path, "a").var_names)
    shutil.rmtree(tmp_path / "sections" / "a")
    with pytest.raises(CorpusError, match=r"manifest\.json"):
        verify(tmp_path)


@pytest.mark.parametrize(
    "name", ["cells.zarr/X/data/c/0", "section.json", "cells.zarr/obsm/single_cell_images/c/1/0/0/0"]
)
def test_verify_names_the_file_that_was_changed(name: str, corpus: Path, tmp_path: Path) -> None:
    copy = tmp_path / "corpus"
    shutil.copytree(corpus, copy)
    assert verify(copy).n_cells == 600
    file = copy / "sections" / "s1" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(CorpusError, match=f"{name}: its digest"):
        verify(copy)
    file.unlink()
    with pytest.raises(CorpusError, match=f"{name}: the file is missing"):
        verify(copy)


def without_nuclei(slide: Path, folder: Path) -> Path:
    shutil.copytree(slide, folder)
    for path in folder.glob("nucleus_boundaries*"):
        path.unlink()
    return folder


def test_nuclei_that_nobody_drew_are_found_by_the_stain_on_request(slide: Path, corpus: Path, tmp_path: Path) -> None:
    bare = without_nuclei(slide, tmp_path / "slide")
    found = {}
    for how in ("outlines", "stain"):
        out = tmp_path / how
        assert not build([Source("s1", bare)], out, SMALL.model_copy(update={"nuclei": how})).exit_code
        found[how] = cells_of(out).obsm["morphology"]
        assert Corpus.open(out).section("s1").details["nuclei"] == (None if how == "outlines" else "stain")
        verify(out)
    assert not found["outlines"].columns.str.contains("nucleus").any()
    drawn = cells_of(corpus).obsm["morphology"]
    assert list(found["stain"].columns) == list(drawn.columns)
    area = pd.DataFrame({"stain": found["stain"]["nucleus_area_um2"], "drawn": drawn["nucleus_area_um2"]}).dropna()
    assert len(area) > 0.95 * len(drawn)
    assert area.corr().iloc[0, 1] > 0.85
    assert area["stain"].mean() == pytest.approx(area["drawn"].mean(), rel=0.25)


def test_nuclei_of_the_slide_go_before_those_of_the_stain(slide: Path, corpus: Path, tmp_path: Path) -> None:
    assert not build([Source("s1", slide)], tmp_path / "c", SMALL.model_copy(update={"nuclei": "stain"})).exit_code
    assert Corpus.open(tmp_path / "c").section("s1").details["nuclei"] == "outlines"
    pd.testing.assert_frame_equal(cells_of(tmp_path / "c").obsm["morphology"], cells_of(corpus).obsm["morphology"])


def test_a_stain_without_the_name_of_a_nuclear_one_is_refused(slide: Path, tmp_path: Path) -> None:
    bare = without_nuclei(slide, tmp_path / "slide")
    image = tmp_path / "image.tif"
    tifffile.imwrite(image, np.zeros((64, 64), np.uint8))
    source = Source("s1", bare, image=image, um_per_px=0.425, channels=("WGA",))
    result = build([source], tmp_path / "c", SMALL.model_copy(update={"nuclei": "stain"}), force=True)
    assert result.exit_code
    assert "WGA" in (result.sections[0].message or "")
