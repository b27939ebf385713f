"""A small model over the tiny corpus, and batches of it; a fixture for the tests of models and of inference."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from spatia import Corpus
from spatia.data.batch import CellBatch, TissueBatch
from spatia.data.loader import RowReader, tissue_loader
from spatia.data.vocabulary import Vocabulary
from spatia.models.checkpoint import save_model
from spatia.models.config import ModelConfig
from spatia.models.spatia import Spatia
from spatia.models.statistics import Statistics
from spatia.training.statistics import measure_statistics

SMALL = ModelConfig(
    preset="small",
    width=32,
    heads=2,
    cell_width=32,
    niche_width=16,
    tissue_width=8,
    patch_px=2,
    crop_px=8,
    image_layers=1,
    gene_layers=1,
    gene_latents=4,
    fusion_layers=1,
    niche_layers=1,
    niche_patch_px=4,
    niche_px=8,
    tissue_layers=1,
    tissue_latents=4,
    contrast_width=16,
)


@dataclass(frozen=True)
class Setup:
    """A corpus, its vocabulary, a model whose parts all take part, and a reader of cells."""

    corpus: Corpus
    model: Spatia
    cells: RowReader
    statistics: Statistics

    def batch(self, section: int, rows: list[int]) -> CellBatch:
        """Read some cells."""
        batch: CellBatch = self.cells(section, torch.tensor(rows).numpy())
        return batch

    def windows(self) -> list[TissueBatch]:
        """Read all windows of all sections, two at a time."""
        return list(tissue_loader([self.corpus], max_windows=2, shuffle=False, vocabulary=self.model.vocabulary))


def wake(model: torch.nn.Module, seed: int = 1) -> None:
    """Give every parameter a random part: what starts at zero would hide what it stands before."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=generator) * 0.1


def small_model(corpus: Corpus, statistics: Statistics | None = None) -> Spatia:
    """Make a small model that knows a corpus, everything awake."""
    vocabulary = Vocabulary.of([corpus])
    torch.manual_seed(0)
    model = Spatia(SMALL, vocabulary, statistics or measure_statistics([corpus], vocabulary, SMALL))
    wake(model)
    return model.eval()


def save_small_model(corpus: Corpus, folder: Path) -> Path:
    """Write the folder of one."""
    save_model(folder, small_model(corpus), {"seed": 0})
    return folder


@pytest.fixture(scope="session")
def setup(tiny_knn_corpus) -> Setup:
    """Everything awake; do not change it."""
    corpus = Corpus.open(tiny_knn_corpus.path)
    statistics = measure_statistics([corpus], Vocabulary.of([corpus]), SMALL)
    model = small_model(corpus, statistics)
    return Setup(corpus, model, RowReader([corpus], "cell", vocabulary=model.vocabulary), statistics)
