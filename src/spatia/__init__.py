"""Multimodal, multi-scale, generative modelling of imaging-based spatial transcriptomics.

The names of `__all__` are the Python form of the commands. They are imported when first used (PEP 562), so that
``import spatia`` and ``spatia --help`` do not load a reader or a model.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spatia.corpus.build import build
    from spatia.corpus.corpus import Corpus
    from spatia.corpus.verify import verify
    from spatia.data.loader import cell_loader, niche_loader, tissue_loader
    from spatia.inference.embed import embed
    from spatia.inference.generate import generate as generate_cells
    from spatia.inference.generator import Generator
    from spatia.inference.model import Model
    from spatia.inference.real_cells import real_cells
    from spatia.io.check import check_slide
    from spatia.io.read import read_slide
    from spatia.io.source import Source
    from spatia.pairing.pair import pair
    from spatia.pairing.pairs import read_pairs
    from spatia.pipeline.run import run
    from spatia.report.render import write_report
    from spatia.screening.screen import screen
    from spatia.simulate.slide import simulate as simulate_slides
    from spatia.tasks.evaluate_generation import evaluate_generation
    from spatia.tasks.on_cells import annotate_cells as annotate
    from spatia.tasks.on_cells import cluster_cells as cluster
    from spatia.tasks.on_cells import find_domains as domains
    from spatia.tasks.predict_expression import impute_genes as impute
    from spatia.tasks.predict_expression import predict_from_image as predict_expression
    from spatia.tasks.retrieve import retrieve
    from spatia.training.generator_train import train_generator
    from spatia.training.train import train
    from spatia.version import __version__

# public name -> module that defines it, and the name there. No public name may be that of a package: importing
# spatia.simulate sets the attribute `simulate` to the package, hence `simulate_slides`.
_DEFINED_IN = {
    "Corpus": ("spatia.corpus.corpus", "Corpus"),
    "Generator": ("spatia.inference.generator", "Generator"),
    "Model": ("spatia.inference.model", "Model"),
    "Source": ("spatia.io.source", "Source"),
    "__version__": ("spatia.version", "__version__"),
    "annotate": ("spatia.tasks.on_cells", "annotate_cells"),
    "build": ("spatia.corpus.build", "build"),
    "cell_loader": ("spatia.data.loader", "cell_loader"),
    "check_slide": ("spatia.io.check", "check_slide"),
    "cluster": ("spatia.tasks.on_cells", "cluster_cells"),
    "domains": ("spatia.tasks.on_cells", "find_domains"),
    "embed": ("spatia.inference.embed", "embed"),
    "evaluate_generation": ("spatia.tasks.evaluate_generation", "evaluate_generation"),
    "generate_cells": ("spatia.inference.generate", "generate"),
    "impute": ("spatia.tasks.predict_expression", "impute_genes"),
    "niche_loader": ("spatia.data.loader", "niche_loader"),
    "pair": ("spatia.pairing.pair", "pair"),
    "predict_expression": ("spatia.tasks.predict_expression", "predict_from_image"),
    "real_cells": ("spatia.inference.real_cells", "real_cells"),
    "read_pairs": ("spatia.pairing.pairs", "read_pairs"),
    "read_slide": ("spatia.io.read", "read_slide"),
    "retrieve": ("spatia.tasks.retrieve", "retrieve"),
    "run": ("spatia.pipeline.run", "run"),
    "screen": ("spatia.screening.screen", "screen"),
    "simulate_slides": ("spatia.simulate.slide", "simulate"),
    "tissue_loader": ("spatia.data.loader", "tissue_loader"),
    "train": ("spatia.training.train", "train"),
    "train_generator": ("spatia.training.generator_train", "train_generator"),
    "verify": ("spatia.corpus.verify", "verify"),
    "write_report": ("spatia.report.render", "write_report"),
}

__all__ = [
    "Corpus",
    "Generator",
    "Model",
    "Source",
    "__version__",
    "annotate",
    "build",
    "cell_loader",
    "check_slide",
    "cluster",
    "domains",
    "embed",
    "evaluate_generation",
    "generate_cells",
    "impute",
    "niche_loader",
    "pair",
    "predict_expression",
    "read_pairs",
    "read_slide",
    "real_cells",
    "retrieve",
    "run",
    "screen",
    "simulate_slides",
    "tissue_loader",
    "train",
    "train_generator",
    "verify",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _DEFINED_IN:
        raise AttributeError(f"module 'spatia' has no attribute {name!r}; public names: {', '.join(__all__)}")
    module, defined_as = _DEFINED_IN[name]
    value = getattr(importlib.import_module(module), defined_as)
    globals()[name] = value  # the next use finds it without this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
