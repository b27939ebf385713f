"""Nicheformer (Tejada-Lapuerta et al., Nature Methods 2025): a transformer over ranked genes behind species, assay and modality.

A gene's value is its count by the cell's total, times 10,000, by the mean over cells of its technology; detected genes stand from
the largest value to the smallest, behind tokens of species, assay and modality, 1,500 tokens in all. A cell is the mean of the last
layer's states over every position behind the three, padding among them, as the authors' ``get_embeddings`` gives it. So all 1,500
positions are computed for each cell: on a CPU that is seconds a cell.

Source of names, sizes and rules: the authors' repository theislab/nicheformer (model, data set, masking) and their Hugging Face
port (numbers of the context tokens). The masked-language and classification heads are left out.
"""

from pathlib import Path
from typing import Final, Literal

import anndata as ad
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from spatia.bench.methods.method import GENES, Problem
from spatia.bench.published.genes import match_genes, organism_of, with_symbols
from spatia.bench.published.model import PublishedModel, device, find_file, zeros_for_empty
from spatia.bench.published.sequences import embed_by_length
from spatia.bench.published.weights import load_strictly, on_meta, read_checkpoint, read_json, tensors_of
from spatia.config import make_settings
from spatia.errors import ModelError

PAD: Final = 1
RESERVED: Final = 30  # tokens before the first gene
CONTEXT: Final = 3
MODALITY: Final = {"dissociated": 3, "spatial": 4}
SPECIES: Final = {"human": "5", "homo sapiens": "5", "mouse": "6", "mus musculus": "6"}
ASSAYS: Final = {"merfish": 7, "cosmx": 8, "xenium": 9}
OF_PLATFORM: Final = {"merscope": "merfish", "cosmx": "cosmx", "xenium": "xenium"}
CONFIG, WEIGHTS = "config.json", "model.safetensors|pytorch_model.bin|*.ckpt"
NAMES = "vocab.json|model.h5ad"
MEANS = "|".join(f"{assay}_mean_script.npy" for assay in ASSAYS)
LEFT_OUT = ("classifier_head.", "pooler_head.", "cls_head.", "encoder_layer.", "pos", "loss.", "cls_loss.")


class NicheformerConfig(BaseModel):
    """What ``config.json`` must say; the rest of it concerns training."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    dim_model: int = Field(ge=1)
    nheads: int = Field(ge=1)
    dim_feedforward: int = Field(ge=1)
    nlayers: int = Field(ge=1)
    n_tokens: int = Field(gt=RESERVED)
    context_length: int = Field(gt=CONTEXT)
    learnable_pe: Literal[True] = True
    specie: Literal[True] = True
    assay: Literal[True] = True
    modality: Literal[True] = True


class NicheformerSettings(BaseModel):
    """What the data cannot tell of itself; ``spatia.json`` in the folder may say otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    assay: Literal["merfish", "cosmx", "xenium"] | None = None  # None: that of each section's platform
    modality: Literal["spatial", "dissociated"] = "spatial"
    organism: str | None = None


class Nicheformer(nn.Module):
    """The encoder; attributes are named as the tensors in the published files."""

    def __init__(self, config: NicheformerConfig) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(config.n_tokens + 5, config.dim_model)
        self.positional_embedding = nn.Embedding(config.context_length, config.dim_model)
        layer = nn.TransformerEncoderLayer(
            config.dim_model, config.nheads, config.dim_feedforward, dropout=0.0, layer_norm_eps=1e-12, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, config.nlayers, enable_nested_tensor=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the embedding, (cells, width), of (cells, context_length) tokens."""
        states = self.embeddings(tokens) + self.positional_embedding.weight
        for layer in self.encoder.layers:
            states = layer(states, src_key_padding_mask=tokens == PAD)
        return states[:, CONTEXT:].mean(1)


class _Embedding:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = find_file(folder, CONFIG)
        self.config = make_settings(NicheformerConfig, read_json(path), where=str(path))
        given = folder / "spatia.json"
        settings = read_json(given) if given.is_file() else {}
        self.settings = make_settings(NicheformerSettings, settings, where=str(given))
        names = find_file(folder, NAMES)
        if names.suffix == ".json":
            genes = {name: int(token) for name, token in read_json(names).items() if int(token) >= RESERVED}
        else:
            genes = {str(name): RESERVED + at for at, name in enumerate(ad.read_h5ad(names).var_names)}
        self.genes = with_symbols(genes, folder)
        if (top := max(self.genes.values(), default=0)) >= self.config.n_tokens:
            raise ModelError(f"{names}: token {top}, but the model has {self.config.n_tokens:,}.")
        weights = find_file(folder, WEIGHTS)
        content = read_checkpoint(weights)
        content = content["state_dict"] if weights.suffix == ".ckpt" and "state_dict" in content else content
        tensors = tensors_of(content, str(weights), strip=("nicheformer.",))
        model = on_meta(lambda: Nicheformer(self.config))
        self.model = load_strictly(model, tensors, str(weights), left_out=LEFT_OUT).to(device())

    def __call__(self, problem: Problem) -> NDArray[np.floating]:
        found = match_genes(problem, self.genes, "Nicheformer")
        species = int(organism_of(problem, SPECIES, "Nicheformer", self.settings.organism))
        assay = {name: self._assay(problem, name) for name in problem.cells.corpus.sections}
        mean = {name: self._mean(name)[found.tokens - RESERVED] for name in set(assay.values())}
        length = self.config.context_length

        def encode(rows: NDArray[np.int64]) -> Tensor:
            tokens = np.full((len(rows), length), PAD, np.int64)
            for line, cell in zip(tokens, rows, strict=True):
                own = assay[problem.cells.sample[cell]]
                genes, counts = found.row(cell)
                ranked = genes[np.argsort(-counts / mean[own][genes], kind="stable")][: length - CONTEXT]
                line[:CONTEXT] = species, ASSAYS[own], MODALITY[self.settings.modality]
                line[CONTEXT : CONTEXT + len(ranked)] = found.tokens[ranked]
            return self.model(torch.from_numpy(tokens).to(device()))

        lengths = np.full(len(problem.cells), length)
        return zeros_for_empty(embed_by_length(lengths, encode, "Nicheformer"), np.flatnonzero(found.detected == 0))

    def _assay(self, problem: Problem, section: str) -> str:
        if self.settings.assay is not None:
            return self.settings.assay
        platform = problem.cells.corpus.sections[section].entry.platform
        if platform not in OF_PLATFORM:
            raise ModelError(
                f"Nicheformer: section {section!r} is of platform {platform!r}; the model knows {', '.join(ASSAYS)}. Write "
                f'{{"assay": "…"}} with the nearest into {self.folder / "spatia.json"}.'
            )
        return OF_PLATFORM[platform]

    def _mean(self, assay: str) -> NDArray[np.float64]:
        """Return the mean of each gene over the cells of a technology, (n_tokens − 30,); 1 where it is zero, as published."""
        path = find_file(self.folder, f"{assay}_mean_script.npy")
        try:
            mean = np.load(path, allow_pickle=False).astype(np.float64)
        except ValueError as error:
            raise ModelError(f"{path}: cannot be read ({error}).") from error
        if mean.shape != (self.config.n_tokens - RESERVED,):
            raise ModelError(f"{path}: shape {mean.shape}, expected ({self.config.n_tokens - RESERVED},).")
        mean = np.nan_to_num(mean)
        return np.where(mean == 0, 1.0, mean)


NICHEFORMER = PublishedModel(
    "nicheformer",
    GENES,
    "Nicheformer: transformer over ranked genes with species, assay and modality",
    "Tejada-Lapuerta et al., Nature Methods 2025; weights: theislab/nicheformer (Mendeley Data), aletlvl/Nicheformer",
    (CONFIG, WEIGHTS, NAMES, MEANS),
    _Embedding,
)
