"""Drawings that begin at real cells: which are chosen, what is redrawn, and what can never take part."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from tests.integration.test_generate import images, settings
from tests.unit.conftest import TinySection, write_corpus, write_manifest
from tests.unit.model_setup import save_small_model, wake
from typer.testing import CliRunner

from spatia import Corpus, Generator, generate_cells, real_cells, train_generator
from spatia.cli.main import app
from spatia.errors import SettingsError
from spatia.inference import real_cells as module
from spatia.inference.profiles import profile_batch
from spatia.inference.real_cells import RealCells
from spatia.inference.wanted import choose_rows, has_image

GENES = ("EPCAM", "CD3E", "ACTB")
FEATURES = ("area_um2", "DAPI_mean")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sections = (
        TinySection("left", 1, GENES, ("DAPI", "boundary"), n_windows=24, features=FEATURES),
        TinySection("bare", 3, ("CD3E", "EPCAM"), (), n_windows=2),
    )
    return write_corpus(tmp_path_factory.mktemp("tiny") / "corpus", sections)


@pytest.fixture(scope="module")
def maker(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator:
    model = save_small_model(Corpus.open(tiny), tmp_path_factory.mktemp("model") / "model")
    told = settings("epochs.generator=1", 'conditions=["genes","niche","tissue"]')  # none left out
    generator = Generator.load(train_generator(tiny, model.parent / "generator", model, told), device="cpu")
    wake(generator.network)  # a few steps on a few cells: what it is told hardly shows yet
    return generator


@pytest.fixture(scope="module")
def real(tiny: Path, maker: Generator) -> RealCells:
    return real_cells(str(tiny), maker, split="block", device="cpu")


def test_real_cells_are_those_of_the_part_that_have_an_image_and_measurements(
    tiny: Path, maker: Generator, real: RealCells
) -> None:
    corpus = Corpus.open(tiny)
    pool = choose_rows(corpus, maker, ["left"], split="block", part="train")
    obs = corpus.section("left").cells.obs()
    complete = has_image(corpus, pool) & obs["has_outline"].to_numpy(bool)[pool.row]
    assert 20 < complete.sum() < len(pool)
    assert len(real) == complete.sum()
    assert set(real.named(np.arange(len(real))[:, None])["real_cell_id"]) == set(pool.cell_id[complete])
    assert -1 < real.held_out <= 1


def test_the_nearest_by_what_is_predicted_come_first_and_a_cell_is_never_its_own(tiny: Path, maker: Generator) -> None:
    corpus = Corpus.open(tiny)
    pool = choose_rows(corpus, maker, ["left"], split="block", part="train").take(slice(0, 40))
    genes = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    pictures = np.hstack([genes[:, :1] * 2.0, genes[:, :1] - 1.0])  # the first number decides, the others say nothing
    real = RealCells(corpus, maker, pool, {"genes": genes}, pictures, align=True)
    wanted = {"genes": torch.tensor([[genes[7, 0], 50.0, -50.0]], dtype=torch.float32)}
    chosen = real.alike(wanted, 3)
    nearest = np.argsort(np.abs(genes[:, 0] - genes[7, 0]), kind="stable")[:3]
    assert chosen.tolist() == [nearest.tolist()]
    own = real.places(pool.take(np.array([7])), corpus.corpus_id)
    assert own.tolist() == [7]
    assert real.alike(wanted, 2, own).tolist() == [nearest[1:].tolist()]
    assert real.places(pool, "another corpus").tolist() == [-1] * 40
    assert real.held_out > 0.99
    with pytest.raises(SettingsError, match="none of it is known or left"):
        real.alike({"niche": wanted["genes"]})
    with pytest.raises(SettingsError, match="there are 40 real cells to begin at"):
        real.alike(wanted, 40)


def test_real_cells_that_were_aligned_otherwise_than_the_drawing_are_refused(
    tiny: Path, maker: Generator, real: RealCells, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="both are aligned or neither"):
        generate_cells(tiny, maker, tmp_path / "drawn.zarr", real=real, split="block", limit=2, align=False)


def test_real_cells_that_were_chosen_by_something_else_are_refused(
    tiny: Path, maker: Generator, real: RealCells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = pd.DataFrame({"EPCAM": [3], "CD3E": [0], "ACTB": [1]})
    other = Generator.load(maker.folder, device="cpu")
    other.generate(counts, real=real)  # the same model and conditions: another generator may begin at them, too
    learnt = (*maker.references, SimpleNamespace(cells_sha256="another section"))
    told = maker.config.model_copy(update={"conditions": ("genes",)})
    for where, name, value, said in (
        (
            other,
            "model_id",
            "another model",
            r"were embedded by model \w+, and it is told of cells by model another mode",
        ),
        (other.network, "config", told, "are compared by genes, niche, tissue, and it is told genes"),
        (other, "references", learnt, "were aligned to the sections that another generator learnt from"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(where, name, value)
            with pytest.raises(SettingsError, match=said):
                other.generate(counts, real=real)
            with pytest.raises(SettingsError, match=said):
                generate_cells(tiny, other, tmp_path / "drawn.zarr", real=real, split="block", limit=2)


def test_pictures_and_conditions_are_those_of_the_chosen_cells(tiny: Path, real: RealCells) -> None:
    chosen = np.array([[3, 0], [1, 5], [3, 2]])
    start = real.start(chosen)
    stored = zarr.open_array(tiny / "sections/left/cells.zarr/obsm/single_cell_images", mode="r")
    ids = Corpus.open(tiny).section("left").cells.obs().index.astype(str)
    rows = ids.get_indexer(real.named(chosen)["real_cell_id"])
    assert np.array_equal(start.images.flatten(0, 1).numpy(), stored[:][rows])
    assert {name: tuple(values.shape[:2]) for name, values in start.conditions.items()} == {
        "genes": (3, 2), "niche": (3, 2), "tissue": (3, 2)
    }  # fmt: skip
    assert torch.equal(start.conditions["genes"][0, 0], start.conditions["genes"][2, 0])


def test_kept_whole_they_are_the_real_cells_and_less_of_them_is_redrawn(
    tiny: Path, maker: Generator, tmp_path: Path
) -> None:
    stored = zarr.open_array(tiny / "sections/left/cells.zarr/obsm/single_cell_images", mode="r")[:]
    ids = Corpus.open(tiny).section("left").cells.obs().index.astype(str)

    def drawn(name: str, **more: Any) -> tuple[np.ndarray, np.ndarray, ad.AnnData]:
        out = generate_cells(tiny, maker, tmp_path / f"{name}.zarr", real=tiny, split="block", draws=2, limit=8, **more)
        table = ad.read_zarr(out)
        begun = stored[ids.get_indexer(table.obs["real_cell_id"].astype(str))]
        return table.obsm["single_cell_images"], begun, table

    whole, begun, table = drawn("whole", keep=1.0)
    assert np.array_equal(whole, begun)
    assert bool(table.obs["synthetic"].all())
    facts = table.uns["spatia"]
    assert (float(facts["keep"]), int(facts["evaluations"])) == (1.0, 0)
    assert facts["real_corpus"] == Corpus.open(tiny).corpus_id
    assert (table.obs["real_cell_id"].to_numpy() != table.obs["cell_id"].to_numpy()).all()
    of_cell = table.obs.groupby("cell_id", observed=True)["real_cell_id"]
    assert (of_cell.nunique() == 2).all()  # each draw begins at another
    parts = []
    for keep in (0.9, 0.2):
        some, begun, table = drawn(f"keep{keep}", keep=keep)
        assert (some != begun).any(axis=(1, 2, 3)).all()
        parts.append(some)
        assert int(table.uns["spatia"]["evaluations"]) <= 2 * maker.config.solver.evaluations
    assert not np.array_equal(*parts)
    again, _, _ = drawn("again", keep=0.2)
    assert np.array_equal(again, some)
    alone = images(
        tiny, maker, tmp_path / "alone.zarr", real=tiny, split="block", draws=2, cells=list(table.obs["cell_id"][2:4])
    )
    assert np.array_equal(alone[:2], some[2:4])  # whatever else is drawn


def test_what_expresses_the_same_is_not_redrawn(tiny: Path, maker: Generator, real: RealCells, tmp_path: Path) -> None:
    """Without a condition that differs both drawings are the same, and the real cell comes back to the bit."""
    counts = pd.DataFrame({"EPCAM": [3, 0], "CD3E": [0, 5], "ACTB": [1, 1]}, index=["a", "b"])
    with pytest.raises(SettingsError, match="none of it is known or left"):
        maker.generate(counts, real=real, drop=("genes",))
    drawn = maker.generate(counts, real=real, draws=2, keep=0.5).images
    chosen = real.alike(
        {
            "genes": maker.model.encode_cells(
                profile_batch(counts, maker.model, maker.space.um_per_px, 0.5), use=("genes",)
            ).cell.detach()
        },
        2,
    )
    begun = real.start(chosen)
    assert (drawn != begun.images.numpy()).any()
    from spatia.inference.asked import Asked
    from spatia.inference.drawing import Drawing

    own = {name: values[:, 0] for name, values in begun.conditions.items()}
    asked = Asked(torch.arange(2), own, {name: torch.ones(2, dtype=torch.bool) for name in own}, real=begun)
    assert np.array_equal(maker.draw(asked, Drawing(keep=0.2)).images[:, 0], begun.images[:, 0].numpy())


def test_no_picture_of_a_wanted_cell_takes_part(tiny: Path, maker: Generator, tmp_path: Path) -> None:
    painted = tmp_path / "painted"
    shutil.copytree(tiny, painted)
    test = choose_rows(Corpus.open(tiny), maker, ["left"], split="block", part="test").row
    array = zarr.open_array(painted / "sections/left/cells.zarr/obsm/single_cell_images", mode="r+")
    pictures = array[:]
    pictures[test] = 255 - pictures[test]
    array[:] = pictures
    write_manifest(painted / "sections/left")
    ids = choose_rows(Corpus.open(tiny), maker, ["left"], split="block", part="test").cell_id.tolist()[:6]
    before, after = (
        images(path, maker, tmp_path / f"{path.name}.zarr", real=path, split="block", cells=ids)
        for path in (tiny, painted)
    )
    assert np.array_equal(before, after)


def test_nothing_begins_at_a_picture_that_the_edge_of_the_slide_cuts(
    tiny: Path, maker: Generator, real: RealCells, tmp_path: Path
) -> None:
    edge = tmp_path / "edge"
    shutil.copytree(tiny, edge)
    cut = choose_rows(Corpus.open(tiny), maker, ["left"], split="block", part="train").row[::3]
    array = zarr.open_array(edge / "sections/left/cells.zarr/obs/image_share", mode="r+")
    share = array[:]
    share[cut] *= 0.8
    array[:] = share
    write_manifest(edge / "sections/left")
    table = Corpus.open(edge).section("left").cells.obs()
    whole = real_cells(str(edge), maker, split="block", device="cpu")
    before, after = (set(one.named(np.arange(len(one))[:, None])["real_cell_id"]) for one in (real, whole))
    assert after == before - set(table.index[cut].astype(str))
    assert after < before


def test_another_pool_is_another_request(tiny: Path, maker: Generator, real: RealCells, tmp_path: Path) -> None:
    everything = real_cells(str(tiny), maker, device="cpu")
    assert len(everything) > len(real)
    assert everything.digest != real.digest
    few = real_cells(str(tiny), maker, device="cpu", most=30)
    assert len(few) <= 30
    assert real_cells(str(tiny), maker, device="cpu", most=30).digest == few.digest
    out = generate_cells(tiny, maker, tmp_path / "own.zarr", real=everything, limit=12, keep=1.0)
    table = ad.read_zarr(out)
    assert (table.obs["real_cell_id"].to_numpy() != table.obs["cell_id"].to_numpy()).all()  # each is in the pool itself


def test_the_command_says_where_a_drawing_began(tiny: Path, maker: Generator, tmp_path: Path) -> None:
    command = [
        "generate",
        str(tiny),
        "-g",
        str(maker.folder),
        "-o",
        str(tmp_path / "o.zarr"),
        "--limit",
        "3",
        "--device",
        "cpu",
    ]
    done = CliRunner().invoke(
        app, [*command, "--real", str(tiny), "--split", "block", "--keep", "0.5"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    table = ad.read_zarr(tmp_path / "o.zarr")
    assert {"real_sample", "real_cell_id"} <= set(table.obs)
    refused = CliRunner().invoke(app, [*command, "--real", str(tiny), "--keep", "0"])
    assert refused.exit_code != 0
    assert "keep is 0; expected a share above 0" in refused.output
    alone = CliRunner().invoke(app, [*command, "--keep", "0.5"])
    assert alone.exit_code != 0
    assert "keep=0.5 without real: there is no real cell of which to keep" in alone.output


def test_what_cannot_begin_at_real_cells_is_refused(
    tiny: Path, maker: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAST", 10_000)
    with pytest.raises(
        SettingsError, match="real cells with a whole image and its measurements to begin at; expected at least"
    ):
        real_cells(str(tiny), maker, device="cpu")
    monkeypatch.undo()
    bare = write_corpus(tmp_path / "bare", (TinySection("bare", 3, GENES, (), n_windows=2),))
    with pytest.raises(SettingsError, match="no section has all of DAPI, boundary"):
        real_cells(str(bare), maker, device="cpu")
    niches = maker.config.model_copy(update={"level": "niche"})
    monkeypatch.setattr(maker.network, "config", niches)
    with pytest.raises(SettingsError, match="real cells to begin at are for cells drawn from expression"):
        real_cells(str(tiny), maker, device="cpu")
    labelled = niches.model_copy(update={"level": "cell", "conditions": ("genes", "label")})
    monkeypatch.setattr(maker.network, "config", labelled)
    with pytest.raises(SettingsError, match="is told labels; real cells are chosen by expression"):
        real_cells(str(tiny), maker, device="cpu")
