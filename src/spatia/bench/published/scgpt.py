"""scGPT (Cui et al., Nature Methods 2024): a transformer over the detected genes of a cell and their binned counts.

A token is the normalised embedding of a gene plus that of its value; ``<cls>`` stands first, and its last state, scaled to length
one, is the cell. Values are the bins 1…50 between the quantiles of the cell's own detected counts; where several quantiles are
equal, as among small counts, a count is put into one of their bins at random, as published. Of more genes than 1,199 a random
set is kept, as published. Both draws come from the seed and the row of the cell.

Source of names, sizes and rules: the authors' repository bowang-lab/scGPT (model, data collator, binning, cell embedding).
The decoders are left out. Weights saved with flash attention name the joint projection ``Wqkv``: the same numbers.
"""

from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

from spatia.bench.methods.method import GENES, Problem
from spatia.bench.published.genes import match_genes
from spatia.bench.published.model import PublishedModel, device, find_file
from spatia.bench.published.sequences import embed_by_length, padded
from spatia.bench.published.weights import load_strictly, on_meta, read_checkpoint, read_json, tensors_of
from spatia.config import make_settings
from spatia.errors import ModelError

FIRST: Final = "<cls>"
LONGEST: Final = 1200  # tokens, <cls> among them
LARGEST_VALUE: Final = 512.0
CONFIG, WEIGHTS, VOCABULARY = "args.json", "best_model.safetensors|best_model.pt", "vocab.json"
LEFT_OUT = ("flag_encoder.", "decoder.", "mvc_decoder.", "cls_decoder.", "grad_reverse_discriminator.")


class ScgptConfig(BaseModel):
    """What ``args.json`` must say; the rest of it concerns training."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    embsize: int = Field(ge=1)
    nheads: int = Field(ge=1)
    d_hid: int = Field(ge=1)
    nlayers: int = Field(ge=1)
    pad_token: str = "<pad>"  # noqa: S105 - a token of text
    pad_value: float = -2
    n_bins: int = Field(default=51, ge=3)
    input_emb_style: Literal["continuous"] = "continuous"


class _GeneEncoder(nn.Module):
    def __init__(self, n_tokens: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_tokens, width)
        self.enc_norm = nn.LayerNorm(width)


class _ValueEncoder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(1, width)
        self.linear2 = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)


class Scgpt(nn.Module):
    """The encoder; attributes are named as the tensors in the published files."""

    def __init__(self, config: ScgptConfig, n_tokens: int) -> None:
        super().__init__()
        self.encoder = _GeneEncoder(n_tokens, config.embsize)
        self.value_encoder = _ValueEncoder(config.embsize)
        layer = nn.TransformerEncoderLayer(
            config.embsize, config.nheads, config.d_hid, dropout=0.0, activation="relu", batch_first=True
        )
        self.transformer_encoder = nn.TransformerEncoder(layer, config.nlayers, enable_nested_tensor=False)

    def forward(self, genes: Tensor, values: Tensor, padding: Tensor) -> Tensor:
        """Return the states, (cells, tokens, width), of (cells, tokens) genes, values and padding (True: not there)."""
        gene = self.encoder.enc_norm(self.encoder.embedding(genes))
        hidden = relu(self.value_encoder.linear1(values.clamp(max=LARGEST_VALUE)[..., None]))
        value = self.value_encoder.norm(self.value_encoder.linear2(hidden))
        return self.transformer_encoder(gene + value, src_key_padding_mask=padding)


def binned(counts: NDArray[np.float64], n_bins: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the bin, 1…n_bins − 1, of each detected count of a cell.

    Notes
    -----
    Edges are the n_bins − 1 quantiles from 0 to 1. A count lies between the number of edges below it, r, and that of edges not
    above it, l: the bin is :math:`\\lceil u (r - l) + l \\rceil` with u uniform, so equal edges are shared out evenly.
    """
    edges = np.quantile(counts, np.linspace(0, 1, n_bins - 1))
    left, right = np.digitize(counts, edges), np.digitize(counts, edges, right=True)
    return np.ceil(rng.random(len(counts)) * (right - left) + left).astype(np.int64)


class _Embedding:
    def __init__(self, folder: Path) -> None:
        path = find_file(folder, CONFIG)
        self.config = make_settings(ScgptConfig, read_json(path), where=str(path))
        names = find_file(folder, VOCABULARY)
        self.tokens = {name: int(token) for name, token in read_json(names).items()}
        self.special = {FIRST, self.config.pad_token}
        if missing := self.special - self.tokens.keys():
            raise ModelError(
                f"{names}: no {', '.join(sorted(missing))}; expected the vocabulary of a pretrained scGPT."
            )
        weights = find_file(folder, WEIGHTS)
        tensors = {
            name.replace(".Wqkv.", ".in_proj_"): value
            for name, value in tensors_of(read_checkpoint(weights), str(weights)).items()
        }
        model = on_meta(lambda: Scgpt(self.config, len(self.tokens)))
        self.model = load_strictly(model, tensors, str(weights), left_out=LEFT_OUT).to(device())

    def __call__(self, problem: Problem) -> NDArray[np.floating]:
        genes = {name: token for name, token in self.tokens.items() if name not in self.special}
        found = match_genes(problem, genes, "scGPT")
        sentences, values = [], []
        for cell in range(len(problem.cells)):
            own, counts = found.row(cell)
            rng = np.random.default_rng([problem.seed, cell])
            bins = binned(counts, self.config.n_bins, rng) if len(own) else np.zeros(0, np.int64)
            if len(own) > LONGEST - 1:
                kept = np.sort(rng.choice(len(own), LONGEST - 1, replace=False))
                own, bins = own[kept], bins[kept]
            sentences.append(np.array([self.tokens[FIRST], *found.tokens[own]], np.int64))
            values.append(np.array([self.config.pad_value, *bins], np.float64))

        def encode(rows: NDArray[np.int64]) -> Tensor:
            ids, padding = padded([sentences[row] for row in rows], self.tokens[self.config.pad_token], torch.long)
            levels, _ = padded([values[row] for row in rows], self.config.pad_value, torch.float32)
            return normalize(self.model(ids, levels, padding)[:, 0], dim=1)

        return embed_by_length(np.array([len(line) for line in sentences]), encode, "scGPT")


SCGPT = PublishedModel(
    "scgpt",
    GENES,
    "scGPT: transformer over genes and binned counts, <cls> state",
    "Cui et al., Nature Methods 2024; weights: bowang-lab/scGPT, scGPT_human",
    (CONFIG, WEIGHTS, VOCABULARY),
    _Embedding,
    draws=True,
)
