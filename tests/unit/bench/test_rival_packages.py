"""Rivals that need the extra `rivals`; without a package, its tests are skipped and say so."""

import logging
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.neighbors import NearestNeighbors

from spatia.bench.cells import BenchCells
from spatia.bench.methods import cellcharter, harmony, lightgbm, novae, pca, resolvi, scvi, tangram, vit, vit_mae
from spatia.bench.methods.method import Method, Problem
from spatia.bench.protocols.trial import Trial
from spatia.errors import SettingsError, SpatiaError


def needs(package: str) -> pytest.MarkDecorator:
    """Skip where a package of the extra is absent."""
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed (the extra 'rivals')")


def with_counts(problem: Problem, counts: np.ndarray) -> Problem:
    return replace(problem, cells=replace(problem.cells, counts=sp.csr_matrix(counts)))


def other_section_share(z: np.ndarray, second: np.ndarray) -> float:
    """Return the share of the 15 nearest that lie in the other of two sections; 0.5 where they are mixed."""
    near = NearestNeighbors(n_neighbors=16).fit(z).kneighbors(z, return_distance=False)[:, 1:]
    return float((second[near] != second[:, None]).mean())


@needs("harmonypy")
def test_harmony_takes_out_a_section_and_keeps_the_types(trial: Trial, cells: BenchCells) -> None:
    second = np.arange(len(cells)) % 2 == 1
    counts = cells.counts.toarray()
    counts[second, 30:34] += 3  # genes of no type
    problem = with_counts(
        replace(trial.problem, cells=replace(cells, sample=np.where(second, "b", "a").astype(object))), counts
    )
    before, after = pca.embed(problem), harmony.embed(problem)
    assert after.shape == before.shape
    assert other_section_share(before, second) < 0.1
    assert other_section_share(after, second) > 0.3
    kind = cells.labels["type"].cat.codes.to_numpy()
    near = NearestNeighbors(n_neighbors=16).fit(after).kneighbors(after, return_distance=False)[:, 1:]
    assert (kind[near] == kind[:, None]).mean() > 0.9
    np.testing.assert_array_equal(after, harmony.embed(problem))


@needs("harmonypy")
def test_harmony_refuses_a_single_section(trial: Trial) -> None:
    with pytest.raises(SettingsError, match="this data set has one"):
        harmony.embed(trial.problem)


DECODERS = [
    pytest.param(tangram.TANGRAM, marks=needs("tangram")),
    pytest.param(lightgbm.LIGHTGBM, marks=needs("lightgbm")),
]


@pytest.mark.parametrize("method", DECODERS, ids=lambda method: method.name)
def test_a_decoder_never_sees_hidden_genes_of_test_cells(method: Method, trial: Trial, cells: BenchCells) -> None:
    problem = replace(trial.problem, hidden=np.arange(4, 40, 5))
    other = cells.counts.toarray()
    # the sum stays, as the depth of all genes scales the target for every method
    other[np.ix_(trial.test, problem.hidden)] = other[np.ix_(trial.test, problem.hidden)][:, ::-1]
    assert method.expression is not None
    first = method.expression(problem, problem.hidden)
    assert first.shape == (len(cells), len(problem.hidden))
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, method.expression(problem, problem.hidden))
    changed = method.expression(with_counts(problem, other), problem.hidden)
    np.testing.assert_array_equal(first[trial.test], changed[trial.test])


@needs("tangram")
def test_tangram_finds_the_cell_that_a_spot_is_a_copy_of(cells: BenchCells) -> None:
    kind = cells.labels["type"].cat.codes.to_numpy()
    reference = np.concatenate([np.flatnonzero(kind == code)[:3] for code in range(3)])
    shown = cells.expression(np.arange(30))[reference]
    weights = tangram.mapping(shown, shown, seed=0)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert (weights.argmax(axis=1) == np.arange(len(reference))).mean() > 0.8


@needs("tangram")
def test_tangram_imputes_a_gene_of_a_type(trial: Trial) -> None:
    """Genes 4, 14, 24 mark a type each, and the genes shown tell the types apart."""
    genes = np.array([4, 14, 24])
    problem = replace(trial.problem, hidden=genes)
    found = tangram.expression(problem, genes)
    truth = problem.cells.expression(genes).toarray()
    for place in range(3):
        assert np.corrcoef(found[trial.test, place], truth[trial.test, place])[0, 1] > 0.4


@needs("tangram")
def test_tangram_leaves_the_log_and_the_random_numbers_alone(cells: BenchCells) -> None:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the generator that must be left alone
    shown = cells.expression(np.arange(30))[:12]
    tangram.mapping(shown, shown, seed=3, epochs=2)
    assert (root.level, root.handlers) == (level, handlers)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@needs("lightgbm")
def test_lightgbm_learns_what_no_line_can(trial: Trial, cells: BenchCells) -> None:
    """A gene is high where the area is far from 100 on either side."""
    rng = np.random.default_rng(4)
    assert cells.morphology is not None
    morphology = cells.morphology.copy()
    morphology["area"] = rng.uniform(50, 150, len(cells)).astype(np.float32)
    counts = np.full((len(cells), 40), 5)
    counts[:, 3] = rng.poisson(np.abs(morphology["area"].to_numpy() - 100) / 2)
    problem = with_counts(replace(trial.problem, cells=replace(cells, morphology=morphology)), counts)
    found = lightgbm.expression(problem, np.array([3]))[trial.test, 0]
    truth = problem.cells.expression(np.array([3]), depth_of=np.arange(40)).toarray()[trial.test, 0]
    assert np.corrcoef(found, truth)[0, 1] > 0.7
    assert abs(np.corrcoef(morphology["area"][trial.test], truth)[0, 1]) < 0.3


@needs("scvi")
def test_scvi_learns_from_training_cells_and_finds_the_types(
    trial: Trial, cells: BenchCells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scvi, "CELLS_SEEN", 4_000)
    problem = replace(trial.problem, hidden=np.arange(4, 40, 5))
    first = scvi.embed(problem)
    assert first.shape == (len(cells), scvi.LATENT)
    counts = cells.counts.toarray()
    counts[:, problem.hidden] += 17
    counts[trial.test] = counts[trial.test][:, ::-1]  # another test part cannot change the embedding of training cells
    changed = scvi.embed(with_counts(problem, counts))
    np.testing.assert_array_equal(first[trial.train], changed[trial.train])
    assert np.abs(first[trial.test] - changed[trial.test]).max() > 0.01
    kind = cells.labels["type"].cat.codes.to_numpy()
    near = NearestNeighbors(n_neighbors=5).fit(first[trial.train]).kneighbors(first[trial.test], return_distance=False)
    assert (kind[trial.train][near] == kind[trial.test][:, None]).mean() > 0.8


@needs("scvi")
def test_cellcharter_on_scvi_is_its_latent_beside_means_over_hops(
    trial: Trial, cells: BenchCells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scvi, "CELLS_SEEN", 1_000)
    z = scvi.embed(trial.problem)
    found = cellcharter.CELLCHARTER_SCVI.embed(trial.problem)
    assert found.shape == (len(cells), (cellcharter.HOPS + 1) * scvi.LATENT)
    np.testing.assert_array_equal(found[:, : scvi.LATENT], z.astype(np.float32))
    touching = cellcharter.delaunay_graph(cells.position_um)
    around = touching[0].indices
    np.testing.assert_allclose(found[0, scvi.LATENT : 2 * scvi.LATENT], z[around].mean(axis=0), rtol=1e-4, atol=1e-5)


@needs("transformers")
def test_the_vit_reads_each_crop_by_itself_and_is_kept(trial: Trial, cells: BenchCells, tmp_path: Path) -> None:
    few = replace(cells, sample=cells.sample[:6], _read_images=lambda: cells.images[:6])
    problem = replace(trial.problem, cells=few, work=tmp_path)
    found = vit.embed(problem)
    assert found.shape == (6, 768)
    assert np.isfinite(found).all()
    (stored,) = (tmp_path / "embeddings").glob("vit-random-*.npy")
    np.testing.assert_array_equal(np.load(stored), found)
    alone = vit.encode(vit.make_vit(), cells.images[2:3])
    np.testing.assert_allclose(alone[0], found[2], atol=1e-4)


@needs("scvi")
def test_resolvi_reads_one_cell_at_a_time(trial: Trial, cells: BenchCells, monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs 50 genes: it looks for background among the fiftieth part that is seen least."""
    monkeypatch.setattr(resolvi, "CELLS_SEEN", 2_000)
    wide = replace(cells, measured=np.ones((1, 60), bool), genes=tuple(f"G{gene}" for gene in range(60)))
    narrow = cells.counts.toarray()
    problem = with_counts(
        replace(trial.problem, cells=wide, hidden=np.arange(4, 40, 5)), np.hstack([narrow, narrow[::-1, :20]])
    )
    first = resolvi.embed(problem)
    assert first.shape == (len(cells), resolvi.LATENT)
    assert np.isfinite(first).all()
    counts = problem.cells.counts.toarray()
    counts[:, problem.hidden] += 17
    counts[trial.test[0], :3] += 9
    moved = cells.position_um.copy()
    moved[trial.test] += 500
    changed = resolvi.embed(with_counts(replace(problem, cells=replace(wide, position_um=moved)), counts))
    differs = np.abs(first - changed).max(axis=1) > 1e-6
    assert np.flatnonzero(differs).tolist() == [trial.test[0]]


@needs("scvi")
@pytest.mark.parametrize("method", [scvi.SCVI, resolvi.RESOLVI], ids=lambda method: method.name)
def test_models_of_counts_refuse_intensities(method: Method, trial: Trial, cells: BenchCells) -> None:
    intensities = replace(cells)
    intensities.__dict__["is_count"] = False
    assert method.embed is not None
    with pytest.raises(SpatiaError, match="these are intensities"):
        method.embed(replace(trial.problem, cells=intensities))


@needs("novae")
def test_novae_reads_neighbourhoods_and_no_hidden_gene(
    trial: Trial, cells: BenchCells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(novae, "LAYERS", 2)
    monkeypatch.setattr(novae, "LEAST_EPOCHS", 3)
    monkeypatch.setattr(novae, "CELLS_SEEN", 0)
    problem = replace(trial.problem, train=trial.train[:50], hidden=np.arange(4, 40, 5))
    first = novae.embed(problem)
    assert first.shape == (len(cells), novae.WIDTH)
    assert np.isfinite(first).all()
    counts = cells.counts.toarray()
    counts[:, problem.hidden] += 17
    np.testing.assert_allclose(first, novae.embed(with_counts(problem, counts)), atol=1e-5)
    row = trial.test[0]
    counts = cells.counts.toarray()
    counts[row, :30] = counts[row, :30][::-1]
    moved = np.abs(first - novae.embed(with_counts(problem, counts))).max(axis=1) > 1e-3
    far = np.linalg.norm(cells.position_um - cells.position_um[row], axis=1) > 120
    assert moved.sum() > 1
    assert not moved[far].any()


@needs("transformers")
def test_the_small_mae_learns_to_fill_in_what_is_masked(trial: Trial, cells: BenchCells) -> None:
    """Stripes along x or y, at one place in all crops."""
    wave = np.tile(127 + 120 * np.sin(np.arange(32) * 2 * np.pi / 6), (60, 1))
    along = np.repeat(wave[:, None], 32, axis=1).astype(np.uint8)
    crops = np.concatenate([along, along.swapaxes(1, 2)])[:, None]

    def loss(crops_seen: int) -> float:
        made = vit_mae.train(crops[::2], seed=0, crops_seen=crops_seen)
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return float(made.model(made.scaled(crops[1::2])).loss)

    assert loss(1_920) < 0.98 * loss(1)


def test_each_patch_has_a_place_of_its_own() -> None:
    places = torch.zeros(1, 1 + 16, 24)
    vit_mae._set_positions(places)
    assert not places[0, 0].any()
    apart = torch.cdist(places[0], places[0]) + torch.eye(17)
    assert apart.min() > 0.1
    grid = places[0, 1:].reshape(4, 4, 24)
    torch.testing.assert_close(grid[1, 2, :12], grid[3, 2, :12])  # one column
    torch.testing.assert_close(grid[1, 2, 12:], grid[1, 0, 12:])  # one row


@needs("transformers")
def test_the_small_mae_is_fitted_on_training_crops_alone(
    trial: Trial, cells: BenchCells, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = vit_mae.train
    monkeypatch.setattr(vit_mae, "train", lambda images, seed: learn(images, seed, crops_seen=128))
    first = vit_mae.embed_trained(trial.problem)
    assert first.shape == (len(cells), vit_mae.WIDTH)
    other, row = cells.images.copy(), trial.test[0]
    other[row] = 255 - other[row]
    changed = replace(trial.problem, cells=replace(cells, _read_images=lambda: other))
    moved = np.abs(first - vit_mae.embed_trained(changed)).max(axis=1) > 1e-5
    assert np.flatnonzero(moved).tolist() == [row]


@needs("transformers")
def test_the_large_mae_sees_every_patch_and_is_kept(trial: Trial, cells: BenchCells, tmp_path: Path) -> None:
    assert cells.images is not None
    few = replace(cells, sample=cells.sample[:2], _read_images=lambda: cells.images[:2])
    problem = replace(trial.problem, cells=few, work=tmp_path)
    found = vit_mae.embed(problem)
    assert found.shape == (2, 768)
    assert np.abs(found[0] - found[1]).max() > 0
    [file] = (tmp_path / "embeddings").glob("*.npy")
    np.save(file, found + 1)
    np.testing.assert_array_equal(vit_mae.embed(problem), found + 1)


def test_an_embedding_without_a_folder_is_made_each_time(trial: Trial) -> None:
    made = []
    vit.kept(trial.problem, "x", lambda: made.append(1) or np.zeros((1, 1)))
    vit.kept(trial.problem, "x", lambda: made.append(1) or np.zeros((1, 1)))
    assert len(made) == 2
