"""Folders of published gene models as their authors lay them out, with random weights of the true architecture in small sizes."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tests.unit.bench.published.layouts import Change, as_it_is, linear, norm, torch_layer, write_json, write_pickle
from tests.unit.bench.published.toy import IDS, SYMBOLS, random_tensors

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


def uce_shapes(
    n_tokens: int, token_width: int, width: int, hidden: int, layers: int, middle: int, out: int
) -> dict[str, tuple[int, ...]]:
    """Names and shapes in the authors' file of weights."""
    shapes = {
        "pe_embedding.weight": (n_tokens, token_width),
        **linear("encoder.0", token_width, width),
        **norm("encoder.2", width),
        "pos_encoder.pe": (1536, 1, width),
        **linear("gene_embedding_layer.0", token_width, width),
        **norm("gene_embedding_layer.2", width),
        **linear("binary_decoder.3", 128, 1),
    }
    for at, (a, b) in enumerate(((width, middle), (middle, out), (out, out))):
        shapes |= linear(f"decoder.{at}.0", a, b) | norm(f"decoder.{at}.1", b)
    shapes |= linear("decoder.3", out, out)
    for at in range(layers):
        shapes |= torch_layer(f"transformer_encoder.layers.{at}", width, hidden)
    return shapes


UCE_OFFSET = 6  # row of the first human protein


def write_uce(folder: Path, change: Change = as_it_is) -> Path:
    """Proteins of all genes but the last, in an order of their own, and four chromosomes of two species."""
    (folder / "protein_embeddings").mkdir(parents=True, exist_ok=True)
    tensors = random_tensors(uce_shapes(30, 5, 8, 12, 2, 10, 6))
    change(tensors)
    torch.save(tensors, folder / "4layer_model.torch")
    proteins = {name: torch.ones(5) for name in reversed(SYMBOLS[:-1])}
    torch.save(proteins, folder / "protein_embeddings" / "Homo_sapiens.GRCh38.gene_symbol_to_embedding_ESM2.pt")
    write_pickle(folder / "species_offsets.pkl", {"human": UCE_OFFSET, "mouse": 2})
    lines = ["species,gene_symbol,chromosome,start"]
    lines += [f"human,{name},{1 + at % 3},{100 - at}" for at, name in enumerate(SYMBOLS)]
    lines += ["mouse,Gene1,X,5"]
    (folder / "species_chrom.csv").write_text("\n".join(lines) + "\n")
    write_json(folder / "spatia.json", {"heads": 2, "sample_size": 40, "chromosome_offset": 24})
    return folder


CELLPLM = {
    "gene_list": list(reversed(IDS[:-1])),
    "enc_mod": "flowformer",
    "enc_hid": 8,
    "enc_layers": 2,
    "enc_head": 2,
    "latent_mod": "gmvae",
    "post_latent_dim": 5,
    "num_clusters": 3,
    "norm": "groupnorm",
    "cat_pe": False,
}


def cellplm_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes in ``model_state_dict``."""
    width, n_genes = config["enc_hid"], len(config["gene_list"])
    latent = "latent.layers.1.inference"
    shapes = {
        "embedder.feat_enc.emb": (n_genes, width),
        **norm("embedder.norm0", width),
        **linear("embedder.extra_linear.0", width, width),
        **norm("embedder.extra_linear.3", width),
        "embedder.pe_enc.missing_pe": (width,),
        "embedder.pe_enc.pe_enc.weight": (10_000, width),
        **norm("pre_latent_norm.norm", width),
        **linear(f"{latent}.inference_qyx.0.logits", width, config["num_clusters"]),
        **linear(f"{latent}.inference_qzyx.0", width + config["num_clusters"], 512),
        **linear(f"{latent}.inference_qzyx.2.mu", 512, config["post_latent_dim"]),
        **linear(f"{latent}.inference_qzyx.2.var", 512, config["post_latent_dim"]),
        **linear(f"{latent}.y_mu", config["num_clusters"], config["post_latent_dim"]),
        **linear("decoder.layers.0.0", 8, 8),
    }
    for at in range(config["enc_layers"]):
        layer = f"encoder.layers.{at}"
        for part in ("query", "key", "value", "out"):
            shapes |= linear(f"{layer}.self_attn.{part}_projection", width, width)
        shapes |= linear(f"{layer}._ff_block.0", width, 2 * width) | linear(f"{layer}._ff_block.3", 2 * width, width)
        shapes |= norm(f"{layer}.norm1", width) | norm(f"{layer}.norm2", width)
    return shapes


def write_cellplm(folder: Path, change: Change = as_it_is) -> Path:
    """The last gene is not among its genes."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = random_tensors(cellplm_shapes(CELLPLM))
    change(tensors)
    torch.save({"model_state_dict": tensors, "epoch": 1}, folder / "20230926_85M.best.ckpt")
    write_json(folder / "20230926_85M.config.json", CELLPLM | {"lr": 2e-4})
    return folder


NICHEFORMER = {
    "dim_model": 8,
    "nheads": 2,
    "dim_feedforward": 12,
    "nlayers": 2,
    "n_tokens": 41,
    "context_length": 14,
    "specie": True,
    "assay": True,
    "modality": True,
}


def nicheformer_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the Hugging Face port; the authors' checkpoint lacks the prefix and has two heads more."""
    width, n_tokens = config["dim_model"], config["n_tokens"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.weight": (n_tokens + 5, width),
        "positional_embedding.weight": (config["context_length"], width),
        **torch_layer("encoder_layer", width, config["dim_feedforward"]),
    }
    for at in range(config["nlayers"]):
        shapes |= torch_layer(f"encoder.layers.{at}", width, config["dim_feedforward"])
    heads = {"classifier_head.weight": (n_tokens, width), "classifier_head.bias": (n_tokens,)}
    return {f"nicheformer.{name}": shape for name, shape in shapes.items()} | heads


def write_nicheformer(folder: Path, change: Change = as_it_is) -> Path:
    """Eleven genes behind thirty reserved tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = random_tensors(nicheformer_shapes(NICHEFORMER))
    tensors["nicheformer.pos"] = torch.arange(14)
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    write_json(folder / "config.json", NICHEFORMER | {"model_type": "nicheformer", "masking_p": 0.15})
    write_json(
        folder / "vocab.json",
        {"[PAD]": 0, "[SPECIES_human]": 5} | {gene: 30 + at for at, gene in enumerate(reversed(IDS[:-1]))},
    )
    np.save(folder / "xenium_mean_script.npy", np.array([0.0, *range(1, 11)]))
    return folder


SCFOUNDATION = {
    "seq_len": 13,
    "encoder": {
        "hidden_dim": 8,
        "depth": 2,
        "heads": 2,
        "dim_head": 4,
        "module_type": "transformer",
        "norm_first": False,
    },
    "bin_num": 6,
    "bin_alpha": 1.0,
    "pad_token_id": 103,
    "model": "mae_autobin",
}


def scfoundation_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the part for cells in ``models.ckpt``."""
    width, bins = config["encoder"]["hidden_dim"], config["bin_num"]
    shapes = {
        **linear("token_emb.mlp", 1, bins),
        **linear("token_emb.mlp2", bins, bins),
        "token_emb.emb.weight": (bins, width),
        "token_emb.emb_mask.weight": (1, width),
        "token_emb.emb_pad.weight": (1, width),
        "pos_emb.weight": (config["seq_len"] + 1, width),
        **norm("encoder.norm", width),
        **linear("decoder_embed", width, 4),
        **norm("norm", 4),
        **linear("to_final", 4, 1),
        **linear("decoder.net.0", 4, 4),
    }
    for at in range(config["encoder"]["depth"]):
        shapes |= torch_layer(f"encoder.transformer_encoder.{at}", width, 4 * width)
    return {f"model.{name}": shape for name, shape in shapes.items()}


def write_scfoundation(folder: Path, change: Change = as_it_is) -> Path:
    """Eleven genes by symbol."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = random_tensors(scfoundation_shapes(SCFOUNDATION))
    change(tensors)
    config = {
        "model": "mae_autobin",
        "model_config": {"mae_autobin": SCFOUNDATION},
        "dataset_config": {"rnaseq": {"max_files_to_load": 5}},
    }
    torch.save({"cell": {"config": config, "state_dict": tensors}, "gene": {}, "rde": {}}, folder / "models.ckpt")
    lines = ["gene_name\tindex", *(f"{name}\t{at}" for at, name in enumerate(reversed(SYMBOLS[:-1])))]
    (folder / "OS_scRNA_gene_index.19264.tsv").write_text("\n".join(lines) + "\n")
    return folder
