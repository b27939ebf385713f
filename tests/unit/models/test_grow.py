"""A model over a larger vocabulary: what it knew it still knows, by name."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from tests.unit.model_setup import SMALL, wake
from torch import Tensor

from spatia.data.vocabulary import Vocabulary
from spatia.models.fusion import CellEncoding
from spatia.models.grow import KINDS, ROW_STARTS, STATISTICS_ROWS, grow, grown_vocabulary
from spatia.models.inputs import GeneInput, ImageInput
from spatia.models.niche import NicheInput
from spatia.models.spatia import Spatia, named_rows
from spatia.models.statistics import Statistics

OLD = Vocabulary(("A", "B", "C", "D"), ("DAPI", "boundary"), ("area", "length", "texture"))
NEW = Vocabulary(("X", "C", "Y", "A"), ("RNA", "DAPI"), ("roundness", "area"))
N_CELLS = 5


def statistics_of(vocabulary: Vocabulary, seed: int) -> Statistics:
    """Numbers such as a corpus might have."""
    rng = np.random.default_rng(seed)
    genes, channels, features = (len(getattr(vocabulary, kind)) for kind in KINDS)

    def uniform(low: float, high: float, *shape: int) -> Any:
        return rng.uniform(low, high, shape).astype(np.float32)

    share = uniform(0.1, 1, genes)
    return Statistics(
        depth=float(rng.uniform(80, 200)),
        log_depth_mean=4.5,
        log_depth_sd=0.7,
        gene_fraction=share / share.sum() if genes else share,
        gene_mean=uniform(0.2, 2, genes),
        gene_directions=np.linalg.qr(rng.normal(size=(genes, min(genes, 2))))[0].astype(np.float32),
        gene_spread=uniform(0.5, 1, min(genes, 2)),
        gene_dispersion=uniform(0.5, 5, genes),
        channel_mean=uniform(0.2, 0.5, channels),
        channel_sd=uniform(0.1, 0.3, channels),
        feature_mean=uniform(0, 10, features),
        feature_sd=uniform(1, 2, features),
        feature_directions=np.linalg.qr(rng.normal(size=(features, min(features, 2))))[0].astype(np.float32),
        feature_spread=uniform(0.5, 1, min(features, 2)),
    )


@pytest.fixture(scope="module")
def old() -> Spatia:
    torch.manual_seed(0)
    model = Spatia(SMALL, OLD, statistics_of(OLD, 1))
    wake(model)
    return model.eval()


@pytest.fixture(scope="module")
def grown(old: Spatia) -> Spatia:
    return grow(old, NEW, statistics_of(NEW, 2)).eval()


@dataclasses.dataclass(frozen=True)
class Cells:
    """Values by name, of which some are measured; given over any vocabulary."""

    values: dict[str, dict[str, Tensor]]

    @classmethod
    def of(cls, vocabulary: Vocabulary, seed: int = 3) -> "Cells":
        g = torch.Generator().manual_seed(seed)
        px = SMALL.crop_px
        return cls(
            {
                "genes": {n: torch.randint(0, 30, (N_CELLS,), generator=g).float() for n in vocabulary.genes},
                "channels": {
                    n: torch.randint(0, 256, (N_CELLS, px, px), generator=g, dtype=torch.uint8)
                    for n in vocabulary.channels
                },
                "features": {n: torch.rand(N_CELLS, generator=g) * 10 for n in vocabulary.features},
            }
        )

    def over(self, vocabulary: Vocabulary, kind: str) -> tuple[Tensor, Tensor]:
        """Values over the names of a vocabulary (0 where this has none), and which are measured."""
        own, names = self.values[kind], getattr(vocabulary, kind)
        blank = torch.zeros_like(next(iter(own.values())))
        values = torch.stack([own.get(name, blank) for name in names], dim=1)
        there = torch.tensor([name in own for name in names]).expand(N_CELLS, -1)
        return values, there

    def encode(self, model: Spatia) -> CellEncoding:
        counts, measured = self.over(model.vocabulary, "genes")
        pixels, present = self.over(model.vocabulary, "channels")
        features, visible = self.over(model.vocabulary, "features")
        image = ImageInput(
            pixels=pixels,
            channels_present=present,
            masks=None,
            mask_present=torch.zeros(N_CELLS, dtype=torch.bool),
            um_per_px=0.5,
            features=features,
            features_visible=visible,
        )
        return model.encode(image, GeneInput(counts=counts, visible=measured), rows=N_CELLS)

    def niches(self, model: Spatia, cell: Tensor) -> Tensor:
        images, present = self.over(model.vocabulary, "channels")
        return model.niche_transformer(
            NicheInput(
                cell=cell,
                cell_shown=torch.ones(N_CELLS, dtype=torch.bool),
                cell_position_um=torch.arange(2.0 * N_CELLS).view(-1, 2),
                niche_position_um=torch.zeros(N_CELLS, 2),
                offsets=torch.arange(N_CELLS + 1),
                member_cell=torch.arange(N_CELLS),
                centre_cell=torch.full((N_CELLS,), -1),
                images=images,
                channels_present=present,
            )
        ).niche


def test_every_named_row_says_how_it_starts(old: Spatia) -> None:
    assert set(named_rows(old)) == set(ROW_STARTS)


def test_old_names_come_first_then_the_new(grown: Spatia) -> None:
    assert grown.vocabulary == Vocabulary(
        ("A", "B", "C", "D", "X", "Y"), ("DAPI", "boundary", "RNA"), ("area", "length", "texture", "roundness")
    )


@torch.no_grad()
def test_a_cell_of_the_old_panel_is_embedded_and_predicted_as_before(old: Spatia, grown: Spatia) -> None:
    cells = Cells.of(OLD)
    before, after = cells.encode(old), cells.encode(grown)
    for part in ("cell", "image", "genes", "image_tokens"):
        assert torch.allclose(getattr(before, part), getattr(after, part), atol=1e-5, rtol=0), part
    assert torch.allclose(cells.niches(old, before.cell), cells.niches(grown, after.cell), atol=1e-5, rtol=0)
    z = old.without_context(before.cell)
    assert torch.allclose(old.log_rates(z), grown.log_rates(z)[:, :4], atol=1e-5, rtol=0)
    assert torch.equal(old.dispersion(), grown.dispersion()[:4])
    assert torch.allclose(old.draw(before), grown.draw(after)[:, :2], atol=1e-3, rtol=0)
    features = old.morphology_head(before.cell), grown.morphology_head(before.cell)[:, :3]
    assert torch.allclose(*features, atol=1e-5, rtol=0)


@torch.no_grad()
def test_new_measurements_leave_the_linear_summaries_and_change_the_tokens(old: Spatia, grown: Spatia) -> None:
    cells, genes = Cells.of(OLD), grown.gene_encoder
    counts, measured = cells.over(OLD, "genes")
    before = old.gene_encoder(GeneInput(counts=counts, visible=measured))
    # new genes at the rate that the depth lets expect
    counts = torch.cat([counts, before.depth[:, None] * genes.gene_fraction[4:]], dim=1)
    after = genes(GeneInput(counts=counts, visible=torch.ones_like(counts, dtype=torch.bool)))
    assert torch.allclose(before.depth, after.depth, rtol=1e-5)
    assert torch.allclose(before.summary, after.summary, atol=1e-4)
    assert not torch.allclose(before.tokens, after.tokens, atol=1e-2)
    more = Cells({**cells.values, "features": {**cells.values["features"], "roundness": torch.rand(N_CELLS)}})
    assert torch.allclose(more.encode(grown).cell, cells.encode(grown).cell, atol=1e-5)


def test_depth_keeps_its_meaning(old: Spatia, grown: Spatia) -> None:
    """A cell with the corpus's shares of all genes has the depth that its old genes alone give it."""
    encoder, counts = grown.gene_encoder, grown.gene_encoder.gene_fraction[None] * 1000
    everything, old_only = torch.ones(1, 6, dtype=torch.bool), torch.tensor([[True] * 4 + [False] * 2])
    depths = [encoder.expression(GeneInput(counts=counts, visible=visible))[1] for visible in (everything, old_only)]
    assert torch.allclose(depths[0], depths[1])
    assert torch.equal(encoder.gene_fraction[:4], old.gene_encoder.gene_fraction)
    new = statistics_of(NEW, 2).gene_fraction  # X, C, Y, A
    expected = new[[0, 2]] / new[[1, 3]].sum() * float(encoder.gene_fraction[[0, 2]].sum())
    assert encoder.gene_fraction[4:].tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_new_rows_start_where_they_should(old: Spatia, grown: Spatia) -> None:
    before, after, new = old.state_dict(), grown.state_dict(), statistics_of(NEW, 2)
    mean = before["gene_encoder.embedding"].mean(dim=0)
    rows = after["gene_encoder.embedding"][4:]
    assert 0 < (rows - mean).abs().max() < 0.15
    assert not torch.equal(rows[0], rows[1])
    assert torch.equal(after["image_encoder.patch_weight"][2], before["image_encoder.patch_weight"].mean(dim=0))
    assert after["image_encoder.channel_mean"][2] == new.channel_mean[0]  # RNA stands first in the corpus, last here
    assert after["image_encoder.feature_sd"][3] == new.feature_sd[0]
    assert after["gene_head.log_dispersion"][4:].exp().tolist() == pytest.approx(new.gene_dispersion[[0, 2]].tolist())
    assert torch.allclose(after["gene_head.bias"][4:].exp(), after["gene_encoder.gene_fraction"][4:])


def _permuted(model: Spatia, order: dict[str, list[int]]) -> Spatia:
    """The same model with its names in another order."""
    names = {kind: tuple(getattr(model.vocabulary, kind)[i] for i in order[kind]) for kind in KINDS}
    permuted, rows = Spatia(model.config, Vocabulary(**names)), named_rows(model)
    weights = {k: v[order[rows[k]]] if k in rows else v for k, v in model.state_dict().items()}
    permuted.load_state_dict(weights, strict=True)
    return permuted.eval()


def test_the_order_of_names_changes_nothing(old: Spatia, grown: Spatia) -> None:
    order = {"genes": [2, 0, 3, 1], "channels": [1, 0], "features": [2, 0, 1]}
    corpus = Vocabulary(NEW.genes[::-1], NEW.channels[::-1], NEW.features[::-1])
    stats = statistics_of(NEW, 2)
    flipped = {field: getattr(stats, field)[::-1].copy() for field in STATISTICS_ROWS}
    other = grow(_permuted(old, order), corpus, dataclasses.replace(stats, **flipped))
    rows = named_rows(grown)
    expected, found = grown.state_dict(), other.state_dict()
    for name, values in expected.items():
        if kind := rows.get(name):
            at = [getattr(other.vocabulary, kind).index(n) for n in getattr(grown.vocabulary, kind)]
            assert torch.allclose(values, found[name][at], atol=1e-6), name
        else:
            assert torch.equal(values, found[name]), name


def test_nothing_new_is_the_same_model(old: Spatia) -> None:
    corpus = Vocabulary(("D", "B"), ("boundary",), ())
    same = grow(old, corpus, statistics_of(corpus, 4))
    assert same.vocabulary == OLD
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in old.state_dict().items())


@torch.no_grad()
def test_a_panel_without_a_gene_in_common_has_a_depth_like_the_models(old: Spatia) -> None:
    corpus = Vocabulary(("P", "Q"), ())
    stats = statistics_of(corpus, 5)
    model = grow(old, corpus, stats)
    counts = torch.zeros(1, 6)
    counts[:, 4:] = torch.from_numpy(stats.gene_fraction) * stats.depth
    depth = model.gene_encoder.expression(GeneInput(counts=counts, visible=counts > 0))[1]
    assert float(depth) == pytest.approx(float(old.gene_encoder.depth_scale), rel=1e-4)


def test_a_model_of_images_learns_genes_as_a_new_one() -> None:
    torch.manual_seed(0)
    images = Vocabulary((), ("DAPI",))
    old = Spatia(SMALL, images, statistics_of(images, 6))
    stats = statistics_of(NEW, 2)
    model = grow(old, NEW, stats)
    assert float(model.gene_encoder.depth_scale) == pytest.approx(stats.depth)
    assert model.gene_encoder.gene_fraction.tolist() == pytest.approx(stats.gene_fraction.tolist())
    assert model.gene_encoder.summary_weight.abs().sum() > 0
    assert torch.isfinite(Cells.of(model.vocabulary).encode(model).cell).all()


def test_the_random_state_outside_is_left_alone(old: Spatia) -> None:
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, second = (grow(old, NEW, statistics_of(NEW, 2), seed=1) for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_grown_vocabulary_of_itself() -> None:
    assert grown_vocabulary(OLD, OLD) == OLD
