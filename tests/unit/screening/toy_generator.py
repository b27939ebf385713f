"""A generator with random weights on the tiny corpus: what it is told shows in what it draws."""

from pathlib import Path

import torch
from tests.unit.model_setup import SMALL, wake

from spatia import Corpus
from spatia.data.vocabulary import Vocabulary
from spatia.generation.checkpoint import MODEL_FOLDER, save_generator
from spatia.generation.generator import CellGenerator, ImageSpace
from spatia.generation.settings import GeneratorConfig
from spatia.models.checkpoint import save_model
from spatia.models.spatia import Spatia
from spatia.training.statistics import measure_statistics

CHANNELS = ("DAPI", "boundary")
NETWORK = {"kind": "transformer", "width": 16, "layers": 2, "heads": 2, "patch_px": 2, "stem": 4}


def write_generator(corpus: Path, folder: Path, **config: object) -> Path:
    """Write a generator folder of random weights."""
    opened = Corpus.open(corpus)
    vocabulary = Vocabulary.of([opened])
    torch.manual_seed(0)
    model = Spatia(SMALL, vocabulary, measure_statistics([opened], vocabulary, SMALL))
    wake(model)
    folder.mkdir(parents=True)
    save_model(folder / MODEL_FOLDER, model, {"seed": 0})
    settings = GeneratorConfig.model_validate({"network": NETWORK, "solver": {"evaluations": 3}, **config})
    widths = {"genes": 32, "niche": 16, "tissue": 8}
    told = {name: widths.get(name, 4) for name in settings.told}
    level = opened.levels["cell"]
    space = ImageSpace(CHANNELS, level.px, level.um_per_px, (0.4, 0.5), (0.2, 0.25))
    generator = CellGenerator(settings, space, told)
    wake(generator)
    save_generator(folder, generator, {})
    return folder
