r"""scFoundation (Hao et al., Nature Methods 2024): a transformer over detected genes whose values are soft bins, with two depth tokens.

A value :math:`v = \log(1 + 10^4\, c / \sum c)` is embedded as :math:`\mathrm{softmax}(\alpha h + W_2 h)\, E` with
:math:`h = \mathrm{LeakyReLU}_{0.1}(W_1 v)` and 100 learned bins E, plus the embedding of its gene. Behind the genes stand T, the
depth asked for (4: ten thousand molecules, the published default ``t4``), and S, :math:`\log_{10} \sum c`. A cell is the states of S
and T, and maximum and mean over genes, side by side (pool ``all``): four times the width.

Source of names, sizes and rules: the authors' repository biomap-research/scFoundation (loading, embedding script, printed
configuration) and, for two of its files, public copies. The part ``cell`` of ``models.ckpt`` is used; decoders are left out.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from spatia.bench.methods.method import GENES, Problem
from spatia.bench.published.genes import match_genes
from spatia.bench.published.model import PublishedModel, device, find_file, zeros_for_empty
from spatia.bench.published.sequences import embed_by_length, mean_of, padded
from spatia.bench.published.weights import load_strictly, on_meta, read_checkpoint, read_json, tensors_of
from spatia.config import make_settings
from spatia.errors import ModelError

PART: Final = "cell"
TARGET: Final = 4.0  # T: log10 of the depth asked for
WEIGHTS = "cell.safetensors|models.ckpt"
NAMES = "OS_scRNA_gene_index.*.tsv"
LEFT_OUT = ("decoder.", "decoder_embed.", "norm.", "to_final.")


class EncoderConfig(BaseModel):
    """The encoder's sizes."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    hidden_dim: int = Field(ge=1)
    depth: int = Field(ge=1)
    heads: int = Field(ge=1)
    module_type: Literal["transformer"]


class ScfoundationConfig(BaseModel):
    """What the configuration must say; the rest of it concerns decoder and training."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: Literal["mae_autobin"]
    seq_len: int = Field(ge=3)
    bin_num: int = Field(ge=1)
    bin_alpha: float
    encoder: EncoderConfig


class _Values(nn.Module):
    def __init__(self, bins: int, width: int, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.mlp = nn.Linear(1, bins)
        self.mlp2 = nn.Linear(bins, bins)
        self.emb = nn.Embedding(bins, width)
        self.emb_mask = nn.Embedding(1, width)  # of training
        self.emb_pad = nn.Embedding(1, width)  # padding is masked, so its embedding has no effect

    def forward(self, values: Tensor) -> Tensor:
        hidden = leaky_relu(self.mlp(values[..., None]), 0.1)
        return (self.alpha * hidden + self.mlp2(hidden)).softmax(-1) @ self.emb.weight


class Scfoundation(nn.Module):
    """Embeddings and encoder; attributes are named as the tensors in the published files."""

    def __init__(self, config: ScfoundationConfig) -> None:
        super().__init__()
        width = config.encoder.hidden_dim
        self.token_emb = _Values(config.bin_num, width, config.bin_alpha)
        self.pos_emb = nn.Embedding(config.seq_len + 1, width)
        self.encoder = nn.Module()
        self.encoder.transformer_encoder = nn.ModuleList(
            nn.TransformerEncoderLayer(width, config.encoder.heads, 4 * width, dropout=0.0, batch_first=True)
            for _ in range(config.encoder.depth)
        )
        self.encoder.norm = nn.LayerNorm(width)

    def forward(self, genes: Tensor, values: Tensor, padding: Tensor) -> Tensor:
        """Return the states, (cells, tokens, width)."""
        states = self.token_emb(values) + self.pos_emb(genes)
        for layer in self.encoder.transformer_encoder:  # type: ignore[union-attr]
            states = layer(states, src_key_padding_mask=padding)
        return self.encoder.norm(states)  # type: ignore[operator]


class _Embedding:
    def __init__(self, folder: Path) -> None:
        path = find_file(folder, WEIGHTS)
        content = read_checkpoint(path)
        if path.suffix == ".safetensors":
            settings = read_json(find_file(folder, "config.json"))
        else:
            settings, content = _flat(content, path)
        self.config = make_settings(ScfoundationConfig, settings, where=f"{path}, config")
        tensors = tensors_of(content, str(path), strip=("model.",))
        model = on_meta(lambda: Scfoundation(self.config))
        self.model = load_strictly(model, tensors, str(path), left_out=LEFT_OUT).to(device())
        names = find_file(folder, NAMES)
        table = pd.read_csv(names, sep="\t")
        if "gene_name" not in table or len(table) != self.config.seq_len - 2:
            raise ModelError(
                f"{names}: expected {self.config.seq_len - 2:,} genes in a column gene_name, found {len(table):,}."
            )
        self.genes = {str(name): at for at, name in enumerate(table["gene_name"])}

    def __call__(self, problem: Problem) -> NDArray[np.floating]:
        found = match_genes(problem, self.genes, "scFoundation")
        depth = np.asarray(found.counts.sum(axis=1)).ravel()
        n_genes = self.config.seq_len - 2
        sentences, values = [], []
        for cell in range(len(problem.cells)):
            genes, counts = found.row(cell)
            total = max(depth[cell], 1)
            sentences.append(np.array([*found.tokens[genes], n_genes, n_genes + 1], np.int64))
            values.append(np.array([*np.log1p(counts / total * 1e4), TARGET, np.log10(total)]))

        def encode(rows: NDArray[np.int64]) -> Tensor:
            ids, padding = padded([sentences[row] for row in rows], 0, torch.long)
            levels, _ = padded([values[row] for row in rows], 0, torch.float32)
            states = self.model(ids, levels, padding)
            last = (~padding).sum(1) - 1
            row = torch.arange(len(rows), device=states.device)
            of_genes = ~padding & (ids < n_genes)
            of_genes[~of_genes.any(1)] = True  # a cell without genes: set to zero below
            largest = states.masked_fill(~of_genes[..., None], -torch.inf).amax(1)
            return torch.cat([states[row, last], states[row, last - 1], largest, mean_of(states, of_genes)], dim=1)

        lengths = np.array([len(line) for line in sentences])
        return zeros_for_empty(embed_by_length(lengths, encode, "scFoundation"), np.flatnonzero(found.detected == 0))


def _flat(content: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Return the settings and the tensors of the part for cells."""
    try:
        part = content[PART]
        config = part["config"]
        kind = config["model"]
        return {**config["model_config"][kind], **config["dataset_config"]["rnaseq"]}, part["state_dict"]
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"{path}: expected {PART}/config/model_config, dataset_config/rnaseq and {PART}/state_dict; missing {error}."
        ) from error


SCFOUNDATION = PublishedModel(
    "scfoundation",
    GENES,
    "scFoundation: transformer over genes with soft-binned values and depth tokens",
    "Hao et al., Nature Methods 2024; weights: biomap-research/scFoundation",
    (WEIGHTS, NAMES),
    _Embedding,
)
