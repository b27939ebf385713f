"""What the stages minimise: nothing that is hidden can be seen, halves of a batch add up, losses fall on a few cells."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.unit.model_setup import SMALL, wake

from spatia import Corpus
from spatia.data.loader import RowReader, tissue_loader
from spatia.data.vocabulary import Vocabulary
from spatia.models.spatia import Spatia
from spatia.training.cell_objective import CellObjective
from spatia.training.context_objective import ContextObjective
from spatia.training.row_file import RowFile
from spatia.training.settings import TrainSettings
from spatia.training.statistics import measure_statistics


@pytest.fixture
def parts(tiny_knn_corpus: Any) -> tuple[Corpus, Spatia]:
    corpus = Corpus.open(tiny_knn_corpus.path)
    vocabulary = Vocabulary.of([corpus])
    torch.manual_seed(0)
    model = Spatia(SMALL, vocabulary, measure_statistics([corpus], vocabulary, SMALL))
    wake(model)
    return corpus, model


def total(terms: dict[str, Any]) -> torch.Tensor:
    return torch.stack([term.total / term.count for term in terms.values()]).sum()


def test_halves_of_a_batch_add_up_to_the_whole(parts: Any) -> None:
    corpus, model = parts
    weights = TrainSettings().weights.model_copy(
        update={"contrastive": 0.0}
    )  # that term compares cells with each other
    objective = CellObjective(model, TrainSettings(weights=weights), 3)
    read = RowReader([corpus], "cell", vocabulary=model.vocabulary)
    with torch.no_grad():
        whole = objective(read(0, range(10)), 0)
        one, two = objective(read(0, range(6)), 0), objective(read(0, range(6, 10)), 0)
    for name, term in whole.items():
        torch.testing.assert_close(term.total, one[name].total + two[name].total, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(term.count, one[name].count + two[name].count)


def test_crops_and_masks_are_turned_in_training_alone(parts: Any) -> None:
    corpus, model = parts
    settings = TrainSettings(masking=TrainSettings().masking.model_copy(update={"turn": True}))
    batch = RowReader([corpus], "cell", vocabulary=model.vocabulary)(0, range(10))
    assert batch.images is not None
    ramp = torch.linspace(0, 255, batch.images.shape[-1]).expand(batch.images.shape).to(torch.uint8)
    batch = batch.with_fields(images=ramp * batch.channels_present[:, :, None, None])

    def image_loss(settings: TrainSettings, *, training: bool) -> float:
        with torch.no_grad():
            return float(CellObjective(model, settings, 3).train(training)(batch, 0)["image"].total)

    plain = image_loss(TrainSettings(), training=True)
    assert image_loss(settings, training=False) == plain
    assert image_loss(settings, training=True) != plain


def test_counts_that_are_not_measured_change_no_loss(parts: Any) -> None:
    corpus, model = parts
    objective = CellObjective(model, TrainSettings(), 3)
    batch = RowReader([corpus], "cell", vocabulary=model.vocabulary)(1, range(8))
    planted = replace(batch)
    object.__setattr__(planted, "counts", batch.counts + 5 * ~batch.measured)
    with torch.no_grad():
        assert torch.equal(objective(batch, 0)["genes"].total, objective(planted, 0)["genes"].total)


def test_every_term_that_is_asked_for_is_there(parts: Any) -> None:
    corpus, model = parts
    weights = TrainSettings().weights.model_copy(update={"adversarial": 0.1})
    objective = CellObjective(model, TrainSettings(weights=weights), 3)
    batch = RowReader([corpus], "cell", vocabulary=model.vocabulary)(0, range(8))
    assert set(objective(batch, 0)) == {
        "genes",
        "image",
        "contrastive",
        "adversarial",
    }  # the tiny corpus has no features


@pytest.mark.slow
def test_the_cell_loss_falls_on_ten_cells(parts: Any) -> None:
    corpus, model = parts
    objective = CellObjective(model, TrainSettings(), 3)
    batch = RowReader([corpus], "cell", vocabulary=model.vocabulary)(0, range(10))
    optimiser = torch.optim.Adam(objective.parameters(), lr=3e-3)
    first = total(objective(batch, 0)).item()
    for _ in range(60):
        optimiser.zero_grad()
        total(objective(batch, 0)).backward()
        optimiser.step()
    assert total(objective(batch, 0)).item() < first - 0.5


@pytest.mark.slow
def test_the_context_loss_falls_and_the_cell_encoder_stands_still(parts: Any) -> None:
    corpus, model = parts
    n_cells = [section.entry.n_cells for section in corpus.sections.values()]
    objective = ContextObjective(model, TrainSettings(), n_cells)
    batch = next(iter(tissue_loader([corpus], max_windows=4, shuffle=False, vocabulary=model.vocabulary)))
    before = {name: value.clone() for name, value in model.image_encoder.state_dict().items()}
    learning = [*model.niche_transformer.parameters(), *model.tissue_transformer.parameters()]
    optimiser = torch.optim.Adam([*learning, *model.level_fusion.parameters(), *model.gene_head.parameters()], lr=3e-3)
    first = total(objective(batch, 0)).item()
    for _ in range(40):
        optimiser.zero_grad()
        total(objective(batch, 0)).backward()
        optimiser.step()
    assert total(objective(batch, 0)).item() < first - 0.1
    after = model.image_encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_row_file_gives_back_what_was_written() -> None:
    rows = RowFile(50, 3)
    values = torch.randn(7, 3).numpy()
    where = torch.tensor([40, 3, 8, 0, 49, 21, 20]).numpy()
    rows.write(where, values)
    assert (rows.read(where[::-1]) == values[::-1]).all()
    assert rows.known(torch.arange(50).numpy()).sum() == 7


def test_a_large_panel_takes_turns_the_same_for_every_batch(parts: Any) -> None:
    corpus, model = parts
    settings = TrainSettings()
    few = settings.model_copy(update={"masking": settings.masking.model_copy(update={"most_target_genes": 2})})
    objective = CellObjective(model, few, 3)
    read = RowReader([corpus], "cell", vocabulary=model.vocabulary)
    with torch.no_grad():
        whole, one, two = (objective(read(0, rows), 0)["genes"] for rows in (range(10), range(4), range(4, 10)))
        every = CellObjective(model, settings, 3)(read(0, range(10)), 0)["genes"]
    torch.testing.assert_close(whole.total, one.total + two.total, rtol=1e-4, atol=1e-4)
    assert 0 < whole.count < every.count


def test_which_niches_are_hidden_does_not_depend_on_the_rest_of_the_batch(parts: Any) -> None:
    corpus, model = parts
    n_cells = [section.entry.n_cells for section in corpus.sections.values()]
    objective = ContextObjective(model, TrainSettings(), n_cells)
    together, alone = (
        torch.cat(
            [
                objective._hide_blocks(batch, 0)
                for batch in tissue_loader([corpus], max_windows=most, shuffle=False, vocabulary=model.vocabulary)
            ]
        )
        for most in (8, 1)
    )
    assert not together.all()
    assert torch.equal(together, alone)
