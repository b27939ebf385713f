"""UCE (Rosen et al. 2023): a transformer over genes drawn by their expression, each given as the ESM2 embedding of its protein.

A cell is a bag of 1,024 genes drawn with replacement, each with a chance proportional to log(1 + count), grouped by chromosome
between a token that names the chromosome and one that ends it, in order of their start on it; ``<cls>`` stands first, and its
decoded state, scaled to length one, is the cell. There are no positions, so the order of tokens does not matter. The draw comes
from the seed and the row of the cell.

Source of names, sizes and rules: the authors' repository snap-stanford/UCE (model, cell sentences, evaluation). The protein
tokens are part of the weights (``pe_embedding``). Left out: the decoder of expression, and fixed positions that are not used.
Padding is masked; the authors pass their mask as numbers, which recent torch adds to the attention: with one cell at a time,
where nothing is padded, both are the same.
"""

import math
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from spatia.bench.methods.method import GENES, Problem
from spatia.bench.published.genes import match_genes, organism_of
from spatia.bench.published.model import PublishedModel, device, find_file, zeros_for_empty
from spatia.bench.published.sequences import embed_by_length, padded
from spatia.bench.published.weights import (
    load_strictly,
    n_layers,
    on_meta,
    read_checkpoint,
    read_json,
    read_mapping,
    shape_of,
    tensors_of,
)
from spatia.config import make_settings
from spatia.errors import ModelError

PAD, CLOSE, FIRST = 0, 2, 3  # rows of the token table; 1 is an opening that the authors do not use
WEIGHTS = "model.safetensors|33l_*.torch|4layer_model.torch"
OFFSETS, CHROMOSOMES = "species_offsets.json|species_offsets.pkl", "species_chrom.csv"
PROTEINS: Final = {
    "human": "protein_embeddings/Homo_sapiens.GRCh38.gene_symbol_to_embedding_ESM2.pt",
    "mouse": "protein_embeddings/Mus_musculus.GRCm39.gene_symbol_to_embedding_ESM2.pt",
}
SPECIES: Final = {"human": "human", "homo sapiens": "human", "mouse": "mouse", "mus musculus": "mouse"}
LEFT_OUT = ("binary_decoder.", "gene_embedding_layer.", "pos_encoder.")


class UceSettings(BaseModel):
    """What the weights do not tell, with the published values; ``spatia.json`` in the folder may say otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    heads: int = Field(default=20, ge=1)
    sample_size: int = Field(default=1024, ge=1)
    chromosome_offset: int = Field(default=143_574, ge=1)
    organism: str | None = None  # of a corpus that names none


class Uce(nn.Module):
    """The encoder and the readout; attributes are named as the tensors in the published files."""

    def __init__(
        self, n_tokens: int, token_width: int, width: int, heads: int, hidden: int, layers: int, middle: int, out: int
    ) -> None:
        super().__init__()
        self.width = width
        self.pe_embedding = nn.Embedding(n_tokens, token_width)
        self.encoder = nn.Sequential(nn.Linear(token_width, width), nn.GELU(), nn.LayerNorm(width))
        layer = nn.TransformerEncoderLayer(width, heads, hidden, dropout=0.0, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        blocks = [
            nn.Sequential(nn.Linear(a, b), nn.LayerNorm(b), nn.GELU())
            for a, b in ((width, middle), (middle, out), (out, out))
        ]
        self.decoder = nn.Sequential(*blocks, nn.Linear(out, out))

    def forward(self, tokens: Tensor, padding: Tensor) -> Tensor:
        """Return the embedding, (cells, out) of length one, of (cells, tokens) rows of the token table and padding."""
        proteins = normalize(self.pe_embedding(tokens), dim=2)
        states = self.transformer_encoder(self.encoder(proteins) * math.sqrt(self.width), src_key_padding_mask=padding)
        return normalize(self.decoder(states[:, 0]), dim=1)


class _Embedding:
    def __init__(self, folder: Path) -> None:
        given = folder / "spatia.json"
        self.folder = folder
        self.settings = make_settings(UceSettings, read_json(given) if given.is_file() else {}, where=str(given))
        path = find_file(folder, WEIGHTS)
        where = str(path)
        tensors = tensors_of(read_checkpoint(path), where)
        rows, token_width = shape_of(tensors, "pe_embedding.weight", where)
        width, _ = shape_of(tensors, "encoder.0.weight", where)
        hidden, _ = shape_of(tensors, "transformer_encoder.layers.0.linear1.weight", where)
        middle, _ = shape_of(tensors, "decoder.0.0.weight", where)
        out, _ = shape_of(tensors, "decoder.3.weight", where)
        layers = n_layers(tensors, "transformer_encoder.layers.")
        model = on_meta(lambda: Uce(rows, token_width, width, self.settings.heads, hidden, layers, middle, out))
        self.model = load_strictly(model, tensors, where, left_out=LEFT_OUT).to(device())
        self.rows = rows

    def __call__(self, problem: Problem) -> NDArray[np.floating]:
        species = organism_of(problem, SPECIES, "UCE", self.settings.organism)
        place = self._places(species)
        found = match_genes(problem, {name: token for name, (token, _, _) in place.items()}, "UCE", any_case=True)
        where = {token: (chromosome, start) for token, chromosome, start in place.values()}
        chromosome, start = np.array([where[int(token)] for token in found.tokens], np.int64).T
        on_chromosome = np.lexsort((found.tokens, start, chromosome))
        rank = np.argsort(on_chromosome)  # position of each gene along the genome
        sentences = []
        for cell in range(len(problem.cells)):
            genes, counts = found.row(cell)
            if not len(genes):
                sentences.append(np.array([FIRST], np.int32))
                continue
            weight = np.log1p(counts)
            rng = np.random.default_rng([problem.seed, cell])
            drawn = rng.choice(genes, self.settings.sample_size, p=weight / weight.sum())
            drawn = drawn[np.argsort(rank[drawn], kind="stable")]
            parts = [np.array([FIRST])]
            for number in np.unique(chromosome[drawn]):
                name = number + self.settings.chromosome_offset
                parts.append(np.array([name, *found.tokens[drawn[chromosome[drawn] == number]], CLOSE]))
            sentences.append(np.concatenate(parts).astype(np.int32))

        def encode(rows: NDArray[np.int64]) -> Tensor:
            return self.model(*padded([sentences[row] for row in rows], PAD, torch.long))

        lengths = np.array([len(line) for line in sentences])
        return zeros_for_empty(embed_by_length(lengths, encode, "UCE"), np.flatnonzero(found.detected == 0))

    def _places(self, species: str) -> dict[str, tuple[int, int, int]]:
        """Return row of the token table, number of the chromosome and start of each gene of a species, by symbol in capitals."""
        path = find_file(self.folder, PROTEINS[species])
        proteins = {
            name.upper(): None for name in read_checkpoint(path)
        }  # only their order matters: the weights hold the values
        offsets = find_file(self.folder, OFFSETS)
        offset = read_mapping(offsets).get(species)
        if not isinstance(offset, int):
            raise ModelError(f"{offsets}: no whole number for {species!r}.")
        chromosomes = find_file(self.folder, CHROMOSOMES)
        table = pd.read_csv(chromosomes, dtype={"chromosome": str})
        if missing := {"species", "gene_symbol", "chromosome", "start"} - set(table.columns):
            raise ModelError(f"{chromosomes}: no column {', '.join(sorted(missing))}.")
        table["number"] = pd.Categorical(
            table["species"] + "_" + table["chromosome"]
        ).codes  # over all species, as published
        own = table[table["species"] == species].drop_duplicates("gene_symbol").set_index("gene_symbol")
        placed = {str(name).upper(): (int(row.number), int(row.start)) for name, row in own.iterrows()}
        found = {name: (offset + at, *placed[name]) for at, name in enumerate(proteins) if name in placed}
        top = max(
            (max(token, number + self.settings.chromosome_offset) for token, number, _ in found.values()), default=0
        )
        if top >= self.rows:
            raise ModelError(
                f"{self.folder}: token {top}, but the weights have {self.rows:,}. Are the files of one release?"
            )
        return found


UCE = PublishedModel(
    "uce",
    GENES,
    "UCE: transformer over ESM2 embeddings of drawn genes",
    "Rosen et al. 2023 (bioRxiv 2023.11.28.568918); weights: snap-stanford/UCE",
    (WEIGHTS, OFFSETS, CHROMOSOMES, "|".join(PROTEINS.values())),
    _Embedding,
    draws=True,
)
