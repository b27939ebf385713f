"""Geneformer (Theodoris et al., Nature 2023; V2: Chen et al. 2024): BERT over the genes of a cell in order of their rank.

A gene's value is its count by the cell's total, times 10,000, by its median over the cells of the training corpus that express
it; detected genes stand from the largest value to the smallest. V2 puts ``<cls>`` before them and ``<eos>`` behind. A cell is
the mean of its genes' states one layer below the top, ``<cls>`` and ``<eos>`` left out: what the authors' extractor calls
``emb_mode="cell"``, ``emb_layer=-1``. For V2 the extractor takes the state of ``<cls>`` in that layer unless told otherwise
(``emb_mode="cls"``): here ``{"emb_mode": "cls"}`` in ``spatia.json`` in the folder asks for that.

Source of names, sizes and of the order: the authors' repository ctheodoris/Geneformer (config.json; tokenizer, embedding extractor).
Loaded with the BERT of transformers. The masked-language head is left out.
"""

from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from spatia.bench.methods.method import GENES, Problem
from spatia.bench.published.genes import match_genes, with_symbols
from spatia.bench.published.model import PublishedModel, device, find_file, zeros_for_empty
from spatia.bench.published.sequences import embed_by_length, mean_of, padded
from spatia.bench.published.weights import load_strictly, read_checkpoint, read_json, read_mapping, tensors_of
from spatia.config import make_settings
from spatia.errors import ModelError
from spatia.extras import require

TARGET: Final = 10_000
PAD, FIRST, LAST = "<pad>", "<cls>", "<eos>"
CONFIG, WEIGHTS = "config.json", "model.safetensors|pytorch_model.bin"
TOKENS = "token_dictionary*.json|token_dictionary*.parquet|token_dictionary*.pkl"
MEDIANS = "gene_median_dictionary*.json|gene_median_dictionary*.parquet|gene_median_dictionary*.pkl"
LEFT_OUT = ("cls.", "bert.pooler.", "bert.embeddings.position_ids")


class GeneformerConfig(BaseModel):
    """What ``config.json`` must say; the rest of it concerns training."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model_type: Literal["bert"]
    vocab_size: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    num_hidden_layers: int = Field(ge=2)
    num_attention_heads: int = Field(ge=1)
    intermediate_size: int = Field(ge=1)
    max_position_embeddings: int = Field(ge=3)
    hidden_act: str = "relu"
    layer_norm_eps: float = Field(default=1e-12, gt=0)
    type_vocab_size: int = 2
    position_embedding_type: Literal["absolute"] = "absolute"


class GeneformerSettings(BaseModel):
    """Which embedding of a cell is taken; ``spatia.json`` in the folder says so. The names are the authors'."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    emb_mode: Literal["cell", "cls"] = "cell"  # the mean over genes; the state of <cls>


def make_bert(config: GeneformerConfig) -> nn.Module:
    """Return the BERT of these sizes, without pooler, its tensors named as in the published files."""
    transformers = require("transformers", "rivals")
    sizes = config.model_dump(exclude={"model_type", "position_embedding_type"})
    module = nn.Module()
    module.bert = transformers.BertModel(transformers.BertConfig(**sizes), add_pooling_layer=False)
    return module


class _Geneformer:
    def __init__(self, folder: Path) -> None:
        path = find_file(folder, CONFIG)
        self.config = make_settings(GeneformerConfig, read_json(path), where=str(path))
        weights = find_file(folder, WEIGHTS)
        tensors = tensors_of(read_checkpoint(weights), str(weights))
        self.model = load_strictly(make_bert(self.config), tensors, str(weights), left_out=LEFT_OUT).to(device())
        tokens = find_file(folder, TOKENS)
        self.tokens = {name: int(token) for name, token in read_mapping(tokens).items()}
        if PAD not in self.tokens or (FIRST in self.tokens) != (LAST in self.tokens):
            raise ModelError(f"{tokens}: expected {PAD}, and {FIRST} and {LAST} both or neither.")
        if (top := max(self.tokens.values())) >= self.config.vocab_size:
            raise ModelError(
                f"{tokens}: token {top} for a vocabulary of {self.config.vocab_size}. V1 models have a dictionary of their own."
            )
        given = folder / "spatia.json"
        self.settings = make_settings(GeneformerSettings, read_json(given) if given.is_file() else {}, where=str(given))
        if self.settings.emb_mode == "cls" and FIRST not in self.tokens:
            raise ModelError(
                f"{given}: emb_mode is 'cls', but {tokens} has no {FIRST}. Expected 'cell' for a V1 model, which knows no other."
            )
        medians = {name: float(value) for name, value in read_mapping(find_file(folder, MEDIANS)).items()}
        self.median = {self.tokens[name]: value for name, value in medians.items() if name in self.tokens}
        self.genes = with_symbols({name: token for name, token in self.tokens.items() if token in self.median}, folder)

    def __call__(self, problem: Problem) -> NDArray[np.floating]:
        found = match_genes(problem, self.genes, "Geneformer")
        median = np.array([self.median[int(token)] for token in found.tokens])
        head, tail = ([self.tokens[name]] if name in self.tokens else [] for name in (FIRST, LAST))
        longest = self.config.max_position_embeddings - len(head) - len(tail)
        sentences = []
        for cell in range(len(problem.cells)):
            genes, counts = found.row(cell)
            value = counts / max(found.depth[cell], 1) * TARGET / median[genes]
            ranked = genes[np.argsort(-value, kind="stable")][:longest]  # ties stand in the order of the vocabulary
            sentences.append(np.array([*head, *found.tokens[ranked], *tail], np.int64))
        empty = np.flatnonzero(found.detected == 0)
        sentences = [line if len(line) else np.array([self.tokens[PAD]]) for line in sentences]

        def encode(rows: NDArray[np.int64]) -> Tensor:
            ids, padding = padded([sentences[row] for row in rows], self.tokens[PAD], torch.long)
            states: Any = self.model.bert(ids, attention_mask=~padding, output_hidden_states=True)  # type: ignore[operator]
            layer = states.hidden_states[-2]
            if self.settings.emb_mode == "cls":
                first: Tensor = layer[:, 0]
                return first
            genes = ~padding
            if head:
                genes &= (ids != self.tokens[FIRST]) & (ids != self.tokens[LAST])
                genes |= ~genes.any(dim=1, keepdim=True)  # a cell without genes: set to zero below
            return mean_of(layer, genes)

        lengths = np.array([len(line) for line in sentences])
        return zeros_for_empty(embed_by_length(lengths, encode, "Geneformer"), empty)


GENEFORMER = PublishedModel(
    "geneformer",
    GENES,
    "Geneformer: BERT over genes ranked by expression",
    "Theodoris et al., Nature 2023; weights: ctheodoris/Geneformer",
    (CONFIG, WEIGHTS, TOKENS, MEDIANS),
    _Geneformer,
)
