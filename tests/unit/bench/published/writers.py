"""Folders of published models as their authors lay them out, with random weights of the true architecture in small sizes."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tests.unit.bench.published.toy import IDS, SYMBOLS, random_tensors

Tensors = dict[str, torch.Tensor]
Change = Callable[[Tensors], None]
Writer = Callable[[Path, Change], Path]


def as_it_is(tensors: Tensors) -> None:
    """Change nothing."""


def linear(name: str, n_in: int, n_out: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a linear layer."""
    return {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a norm."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def torch_layer(name: str, width: int, hidden: int, joint: str = "in_proj_") -> dict[str, tuple[int, ...]]:
    """Shapes of torch's transformer encoder layer."""
    return {
        f"{name}.self_attn.{joint}weight": (3 * width, width),
        f"{name}.self_attn.{joint}bias": (3 * width,),
        **linear(f"{name}.self_attn.out_proj", width, width),
        **linear(f"{name}.linear1", width, hidden),
        **linear(f"{name}.linear2", hidden, width),
        **norm(f"{name}.norm1", width),
        **norm(f"{name}.norm2", width),
    }


def write_json(path: Path, content: Any) -> None:
    """Write JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_pickle(path: Path, content: Any) -> None:
    """Write a pickle, as Geneformer's dictionaries are."""
    path.write_bytes(pickle.dumps(content))


GENEFORMER = {
    "model_type": "bert",
    "vocab_size": 16,
    "hidden_size": 8,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 10,
    "hidden_act": "relu",
    "pad_token_id": 0,
}


def geneformer_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes in ``model.safetensors`` of BertForMaskedLM."""
    width, hidden = config["hidden_size"], config["intermediate_size"]
    shapes = {
        "bert.embeddings.word_embeddings.weight": (config["vocab_size"], width),
        "bert.embeddings.position_embeddings.weight": (config["max_position_embeddings"], width),
        "bert.embeddings.token_type_embeddings.weight": (2, width),
        **norm("bert.embeddings.LayerNorm", width),
        **linear("cls.predictions.transform.dense", width, width),
        **norm("cls.predictions.transform.LayerNorm", width),
        "cls.predictions.bias": (config["vocab_size"],),
    }
    for at in range(config["num_hidden_layers"]):
        layer = f"bert.encoder.layer.{at}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= linear(f"{layer}.attention.{part}", width, width)
        shapes |= norm(f"{layer}.attention.output.LayerNorm", width) | norm(f"{layer}.output.LayerNorm", width)
        shapes |= linear(f"{layer}.intermediate.dense", width, hidden) | linear(f"{layer}.output.dense", hidden, width)
    return shapes


def write_geneformer(folder: Path, change: Change = as_it_is, *, special: bool = True) -> Path:
    """V2 with its special tokens, or V1; the dictionaries are pickles, the last gene has no token."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = random_tensors(geneformer_shapes(GENEFORMER))
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    write_json(folder / "config.json", GENEFORMER)
    names = ["<pad>", "<mask>", *(["<cls>", "<eos>"] if special else [])]
    tokens = {name: at for at, name in enumerate(names)} | {
        gene: len(names) + at for at, gene in enumerate(reversed(IDS[:-1]))
    }
    write_pickle(folder / "token_dictionary_gc104M.pkl", tokens)
    write_pickle(
        folder / "gene_median_dictionary_gc104M.pkl", {gene: np.float64(1 + at) for at, gene in enumerate(IDS[:-1])}
    )
    return folder


SCGPT = {"embsize": 8, "nheads": 2, "d_hid": 12, "nlayers": 2, "n_layers_cls": 3, "pad_token": "<pad>", "pad_value": -2}


def scgpt_shapes(config: dict[str, Any], n_tokens: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes in ``best_model.pt``, saved with flash attention, decoders included."""
    width = config["embsize"]
    shapes = {
        "encoder.embedding.weight": (n_tokens, width),
        **norm("encoder.enc_norm", width),
        "flag_encoder.weight": (2, width),
        **linear("value_encoder.linear1", 1, width),
        **linear("value_encoder.linear2", width, width),
        **norm("value_encoder.norm", width),
        **linear("decoder.fc.0", width, width),
        **linear("decoder.fc.2", width, width),
        **linear("decoder.fc.4", width, 1),
        **linear("mvc_decoder.gene2query", width, width),
        "mvc_decoder.W.weight": (width, width),
    }
    for at in range(config["nlayers"]):
        shapes |= torch_layer(f"transformer_encoder.layers.{at}", width, config["d_hid"], "Wqkv.")
    return shapes


def write_scgpt(folder: Path, change: Change = as_it_is) -> Path:
    """The vocabulary holds symbols; the last gene is not in it."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {name: at for at, name in enumerate((*reversed(SYMBOLS[:-1]), "<pad>", "<cls>", "<eoc>"))}
    tensors = random_tensors(scgpt_shapes(SCGPT, len(vocabulary)))
    change(tensors)
    torch.save(tensors, folder / "best_model.pt")
    write_json(folder / "args.json", SCGPT | {"task": "whatever else training wrote"})
    write_json(folder / "vocab.json", vocabulary)
    return folder


def vit_shapes(
    width: int, depth: int, hidden: int, patch_px: int, positions: int, *, scaled: bool = False, gated: bool = False
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of timm's vision transformer without a head."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, positions, width),
        "patch_embed.proj.weight": (width, 3, patch_px, patch_px),
        "patch_embed.proj.bias": (width,),
        **norm("norm", width),
    }
    for at in range(depth):
        block = f"blocks.{at}"
        shapes |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width)
        shapes |= linear(f"{block}.attn.qkv", width, 3 * width) | linear(f"{block}.attn.proj", width, width)
        shapes |= linear(f"{block}.mlp.fc1", width, hidden)
        shapes |= linear(f"{block}.mlp.fc2", hidden // 2 if gated else hidden, width)
        if scaled:
            shapes |= {f"{block}.ls1.gamma": (width,), f"{block}.ls2.gamma": (width,)}
    return shapes


TIMM = {"embed_dim": 8, "depth": 2, "num_heads": 2, "patch_size": 8, "img_size": 32}


def write_uni(folder: Path, change: Change = as_it_is) -> Path:
    """Sizes from config.json, as timm writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = random_tensors(vit_shapes(8, 2, 32, 8, 17, scaled=True))
    change(tensors)
    torch.save(tensors, folder / "pytorch_model.bin")
    write_json(folder / "config.json", {"architecture": "vit_large_patch16_224", "model_args": TIMM})
    return folder


WRITERS: dict[str, Writer] = {"geneformer": write_geneformer, "scgpt": write_scgpt, "uni": write_uni}
