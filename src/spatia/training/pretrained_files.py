"""Read pretrained pieces from local files: a ViT-MAE in the transformers format, and a table of gene embeddings."""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import torch

from spatia.config import make_settings
from spatia.corpus.files import read_json
from spatia.errors import ModelError
from spatia.log import logger
from spatia.models.checkpoint import read_tensors
from spatia.models.pretrained import GeneEmbeddings, VitMae, VitMaeConfig

CONFIG_FILE: Final = "config.json"
WEIGHTS_FILE: Final = "model.safetensors"
PREPROCESSOR_FILE: Final = "preprocessor_config.json"
_EXPECTED: Final = "Expected the folder of a ViT-MAE as transformers saves it."
GENE_COLUMN: Final = "gene_id"
# what every published ViT-MAE was trained with: the mean and standard deviation of ImageNet's red, green and blue
IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_SD: Final = (0.229, 0.224, 0.225)


def read_vit_mae(folder: Path) -> VitMae:
    """Read the folder of a ViT-MAE: ``config.json``, ``model.safetensors``, and ``preprocessor_config.json`` where it is there.

    Raises
    ------
    ModelError
        If a file is missing or damaged. Pickled weights are not read.
    SettingsError
        If ``config.json`` is not that of a ViT-MAE over red, green and blue.
    """
    content = read_json(folder / CONFIG_FILE, ModelError, remedy=_EXPECTED)
    config = make_settings(VitMaeConfig, content, where=str(folder / CONFIG_FILE))
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        others = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".h5"))
        instead = f" There is {', '.join(others)}: pickled weights are never read;" if others else ""
        raise ModelError(
            f"{weights}: no such file.{instead} Save the model with transformers' save_pretrained, which writes one."
        )
    mean, sd = _read_normalisation(folder)
    return VitMae(config, read_tensors(weights), mean, sd, where=str(weights))


def read_gene_embeddings(path: Path) -> GeneEmbeddings:
    """Read a parquet table with a column (or the index) ``gene_id`` and columns of numbers, which are the embedding.

    Raises
    ------
    ModelError
        If it cannot be read, has no ``gene_id``, names a gene twice, has a column that holds no numbers, or NaN.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file. Expected a parquet table with {GENE_COLUMN} and columns of numbers.")
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as parquet ({error}).") from error
    if table.index.name == GENE_COLUMN:
        table = table.reset_index()
    if GENE_COLUMN not in table.columns:
        raise ModelError(
            f"{path}: no column or index {GENE_COLUMN!r}; columns are {', '.join(map(str, table.columns[:5]))}…. "
            "Rename the one that holds the gene identifiers."
        )
    genes, numbers = table[GENE_COLUMN].astype(str), table.drop(columns=GENE_COLUMN)
    other = [str(name) for name in numbers.columns if not pd.api.types.is_numeric_dtype(numbers[name])]
    if other or not len(numbers.columns) or not len(table):
        found = f"column {other[0]!r} holds none" if other else f"{len(table)} rows, {len(numbers.columns)} columns"
        raise ModelError(f"{path}: expected columns of numbers beside {GENE_COLUMN}, one a dimension; {found}.")
    if genes.duplicated().any():
        raise ModelError(f"{path}: names {genes[genes.duplicated()].iloc[0]!r} twice; expected each gene once.")
    values = numbers.to_numpy(np.float32)
    if not np.isfinite(values).all():
        worst = genes[~np.isfinite(values).all(axis=1)]
        raise ModelError(
            f"{path}: {len(worst):,} genes have NaN or infinite numbers, first {worst.iloc[0]!r}. Leave them out of the table: a "
            "gene that it lacks gets the mean."
        )
    return GeneEmbeddings(tuple(genes), torch.from_numpy(values), where=str(path))


def _read_normalisation(folder: Path) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    path = folder / PREPROCESSOR_FILE
    if not path.is_file():
        logger.warning("%s: no such file; taking ImageNet's mean and standard deviation of r, g and b", path)
        return IMAGENET_MEAN, IMAGENET_SD
    content = read_json(path, ModelError, remedy=_EXPECTED)
    try:
        mean, sd = (tuple(map(float, content[name])) for name in ("image_mean", "image_std"))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: no image_mean and image_std of three numbers ({error!r}).") from error
    if not (len(mean) == len(sd) == 3 and min(sd) > 0):
        raise ModelError(
            f"{path}: image_mean {mean} and image_std {sd}; expected three numbers each, image_std above 0."
        )
    return mean, sd
