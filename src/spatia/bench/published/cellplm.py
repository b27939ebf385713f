r"""CellPLM (Wen et al., ICLR 2024): cells are the tokens of a transformer, and attend to the other cells of their tissue.

A cell is the sum of its genes' embeddings weighted by log(1 + count), a linear layer, and four layers of Flow attention (Wu et al.
2022) among cells; the embedding is the mean of the latent Gaussian. With :math:`Q, K` sigmoids of the projections and sums over
cells *j*, Flow attention is

.. math::
    I_i = \frac{1}{Q_i \cdot \sum_j K_j},\quad O_j = \frac{1}{K_j \cdot \sum_i Q_i},\quad
    \hat I_i = Q_i \cdot \sum_j O_j K_j,\quad \hat O_j = K_j \cdot \sum_i I_i Q_i, \qquad
    R_i = \sigma(\hat I_i)\, I_i Q_i \sum_j K_j^\top\, n\, \mathrm{softmax}_j(\hat O)_j V_j

Source of names, sizes and rules: the repository OmicsML/CellPLM (embedder, model, head, configuration) and, for the file of the
Flow layer, which could not be read there, two public copies of it that agree. The published inference draws the latent cluster
with Gumbel noise; here it is the most likely one, so that a run can be repeated. Left out: decoder, positions (not used) and
the prior of the clusters.
"""

from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import gelu, one_hot, relu

from spatia.bench.methods.method import GENES, Problem
from spatia.bench.published.genes import match_genes, with_symbols
from spatia.bench.published.model import PublishedModel, device, find_file
from spatia.bench.published.weights import load_strictly, on_meta, read_checkpoint, read_json, tensors_of
from spatia.config import make_settings
from spatia.errors import ModelError
from spatia.log import logger

EPS: Final = 1e-6
GROUPS: Final = 4
AT_ONCE: Final = 20_000  # cells that attend to each other; a larger section is cut in the order of its cells
CONFIG, WEIGHTS = "*.config.json", "*.safetensors|*.best.ckpt"
LATENT = "latent.layers.1.inference."
LEFT_OUT = (
    *("decoder.", "head.", "objective.", "embedder.norm0.", "embedder.pe_enc."),
    *(f"{LATENT}y_mu.", f"{LATENT}y_var.", f"{LATENT}inference_qzyx.2.var."),
)


class CellplmConfig(BaseModel):
    """What the ``.config.json`` must say, and the only variant that is published with weights; the rest concerns training."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    gene_list: tuple[str, ...] = Field(min_length=1)
    enc_mod: Literal["flowformer"]
    enc_hid: int = Field(ge=4, multiple_of=4)
    enc_layers: int = Field(ge=1)
    enc_head: int = Field(default=8, ge=1)
    latent_mod: Literal["gmvae"]
    post_latent_dim: int = Field(ge=1)
    num_clusters: int = Field(ge=1)
    norm: Literal["groupnorm"]
    cat_pe: Literal[False]
    input_covariate: Literal[False] = False
    dsbn: Literal[False] = False


class FlowAttention(nn.Module):
    """Flow attention of cells to cells."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_projection = nn.Linear(width, width)
        self.key_projection = nn.Linear(width, width)
        self.value_projection = nn.Linear(width, width)
        self.out_projection = nn.Linear(width, width)

    def forward(self, cells: Tensor) -> Tensor:
        """Return (cells, width) of (cells, width)."""
        n_cells, width = cells.shape

        def split(layer: nn.Module) -> Tensor:
            return layer(cells).view(n_cells, self.heads, -1).transpose(0, 1)  # (heads, cells, features)

        query, key = split(self.query_projection).sigmoid(), split(self.key_projection).sigmoid()
        value = split(self.value_projection)
        incoming = 1 / ((query + EPS) * (key.sum(1, keepdim=True) + EPS)).sum(-1, keepdim=True)
        outgoing = 1 / ((key + EPS) * (query.sum(1, keepdim=True) + EPS)).sum(-1, keepdim=True)
        sink = ((query + EPS) * ((key * outgoing).sum(1, keepdim=True) + EPS)).sum(-1, keepdim=True)
        source = ((key + EPS) * ((query * incoming).sum(1, keepdim=True) + EPS)).sum(-1, keepdim=True).clamp(-1, 1)
        competing = value * source.softmax(1) * n_cells
        read = (query * incoming) @ (key.transpose(1, 2) @ competing) * sink.sigmoid()
        return self.out_projection(read.transpose(0, 1).reshape(n_cells, width))


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn = FlowAttention(width, heads)
        # the names _ff_block.0 and _ff_block.3 of the published tensors: what stands between has none
        self._ff_block = nn.ModuleDict({"0": nn.Linear(width, 2 * width), "3": nn.Linear(2 * width, width)})
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, cells: Tensor) -> Tensor:
        cells = cells + self.self_attn(self.norm1(cells))
        return cells + self._ff_block["3"](gelu(self._ff_block["0"](self.norm2(cells))))


class _Embedder(nn.Module):
    def __init__(self, n_genes: int, width: int) -> None:
        super().__init__()
        self.feat_enc = nn.ParameterDict({"emb": nn.Parameter(torch.empty(n_genes, width))})
        self.extra_linear = nn.ModuleDict({"0": nn.Linear(width, width), "3": nn.GroupNorm(GROUPS, width)})


class _Inference(nn.Module):
    def __init__(self, width: int, latent: int, clusters: int) -> None:
        super().__init__()
        middle = 512  # fixed in the published code
        self.inference_qyx = nn.ModuleList([nn.ModuleDict({"logits": nn.Linear(width, clusters)})])
        mean = nn.ModuleDict({"mu": nn.Linear(middle, latent)})
        self.inference_qzyx = nn.ModuleDict({"0": nn.Linear(width + clusters, middle), "2": mean})


class Cellplm(nn.Module):
    """Embedder, encoder and the mean of the latent; attributes are named as the tensors in the published files."""

    def __init__(self, config: CellplmConfig) -> None:
        super().__init__()
        width = config.enc_hid
        self.embedder = _Embedder(len(config.gene_list), width)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(_Layer(width, config.enc_head) for _ in range(config.enc_layers))
        self.pre_latent_norm = nn.ModuleDict({"norm": nn.LayerNorm(width)})
        layer = nn.ModuleDict({"inference": _Inference(width, config.post_latent_dim, config.num_clusters)})
        self.latent = nn.ModuleDict({"layers": nn.ModuleDict({"1": layer})})

    def forward(self, genes: Tensor, values: Tensor) -> Tensor:
        """Return (cells, latent) of (m,) rows of the gene table and (cells, m) log counts; the cells see each other."""
        linear = self.embedder.extra_linear
        cells = linear["3"](relu(linear["0"](values @ self.embedder.feat_enc["emb"][genes])))
        for layer in self.encoder.layers:  # type: ignore[union-attr]
            cells = layer(cells)
        cells = self.pre_latent_norm["norm"](cells)
        layers: Any = self.latent["layers"]
        latent = layers["1"]["inference"]
        logits = latent.inference_qyx[0]["logits"](cells)
        cluster = one_hot(logits.argmax(1), logits.shape[1]).to(cells.dtype)
        return latent.inference_qzyx["2"]["mu"](relu(latent.inference_qzyx["0"](torch.cat([cells, cluster], dim=1))))


class _Embedding:
    def __init__(self, folder: Path) -> None:
        path = find_file(folder, CONFIG)
        config = make_settings(CellplmConfig, read_json(path), where=str(path))
        self.genes = with_symbols({name: at for at, name in enumerate(config.gene_list)}, folder)
        weights = find_file(folder, WEIGHTS)
        content = read_checkpoint(weights)
        if weights.suffix != ".safetensors":
            if "model_state_dict" not in content:
                raise ModelError(f"{weights}: no 'model_state_dict'; it has {', '.join(map(str, list(content)[:5]))}.")
            content = content["model_state_dict"]
        tensors = tensors_of(content, str(weights), strip=("module.",))
        self.model = load_strictly(on_meta(lambda: Cellplm(config)), tensors, str(weights), left_out=LEFT_OUT)
        self.model.to(device())

    @torch.no_grad()
    def __call__(self, problem: Problem) -> NDArray[np.floating]:
        found = match_genes(problem, self.genes, "CellPLM")
        genes = torch.from_numpy(found.tokens).to(device())
        parts: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
        for sample in dict.fromkeys(problem.cells.sample):
            rows = np.flatnonzero(problem.cells.sample == sample)
            if len(rows) > AT_ONCE:
                logger.info("CellPLM: section %s is embedded in parts of at most %s cells", sample, f"{AT_ONCE:,}")
            for block in np.array_split(rows, -(-len(rows) // AT_ONCE)):
                values = torch.from_numpy(found.counts[block].log1p().toarray().astype(np.float32)).to(device())
                parts.append((block, self.model(genes, values).cpu().numpy()))
        embedding = np.empty((len(problem.cells), parts[0][1].shape[1]), np.float32)
        for block, part in parts:
            embedding[block] = part
        return embedding


CELLPLM = PublishedModel(
    "cellplm",
    GENES,
    "CellPLM: cells as tokens, Flow attention between the cells of a section",
    "Wen et al., ICLR 2024; weights: OmicsML/CellPLM, 20230926_85M",
    (CONFIG, WEIGHTS),
    _Embedding,
)
