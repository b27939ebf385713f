"""Folders of published image models as their authors lay them out, with random weights of the true architecture in small sizes."""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from tests.unit.bench.published.layouts import Change, as_it_is, linear, norm, write_json
from tests.unit.bench.published.toy import random_tensors


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


def write_gigapath(folder: Path, change: Change = as_it_is) -> Path:
    """Gated perceptrons."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = random_tensors(vit_shapes(8, 2, 40, 8, 17, scaled=True, gated=True))
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    write_json(folder / "config.json", {"model_args": TIMM | {"mlp_ratio": 5.0, "init_values": 1e-5}})
    return folder


def write_hipt(folder: Path, change: Change = as_it_is) -> Path:
    """Student, teacher and the command line in one file, as DINO saves them."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes = vit_shapes(8, 2, 32, 8, 50)
    shapes |= linear("head.mlp.0", 8, 16)
    tensors = random_tensors(
        {f"module.backbone.{name}" if "head" not in name else name: s for name, s in shapes.items()}
    )
    change(tensors)
    content = {"student": {}, "teacher": tensors, "epoch": 400, "args": argparse.Namespace(arch="vit_small")}
    torch.save(content, folder / "vit256_small_dino.pth")
    write_json(folder / "config.json", {"model_args": TIMM | {"img_size": 56}})
    return folder


CONCH = {
    "embed_dim": 6,
    "vision_cfg": {
        "layers": 2,
        "width": 8,
        "num_heads": 2,
        "mlp_ratio": 4,
        "image_size": 32,
        "patch_size": 8,
        "attn_pooler_heads": 2,
    },
}


def conch_shapes(
    width: int, depth: int, hidden: int, patch_px: int, positions: int, out: int
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the image side: the pooler's keys and values come from another width than its query."""
    trunk = vit_shapes(width, depth, hidden, patch_px, positions)
    return {
        **{f"visual.trunk.{name}": shape for name, shape in trunk.items()},
        "visual.attn_pool_contrast.query": (1, out),
        "visual.attn_pool_contrast.attn.q_proj_weight": (out, out),
        "visual.attn_pool_contrast.attn.k_proj_weight": (out, width),
        "visual.attn_pool_contrast.attn.v_proj_weight": (out, width),
        "visual.attn_pool_contrast.attn.in_proj_bias": (3 * out,),
        **linear("visual.attn_pool_contrast.attn.out_proj", out, out),
        **norm("visual.attn_pool_contrast.ln_q", out),
        **norm("visual.attn_pool_contrast.ln_k", width),
        **norm("visual.ln_contrast", out),
        "visual.proj_contrast": (out, out),
    }


def write_conch(folder: Path, change: Change = as_it_is) -> Path:
    """With what else the file holds: text, captions."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes = conch_shapes(8, 2, 32, 8, 17, 6)
    shapes |= {"logit_scale": (), "text.cls_emb": (8,), "visual.attn_pool_caption.query": (256, 8)}
    tensors = random_tensors(shapes)
    change(tensors)
    torch.save(tensors, folder / "pytorch_model.bin")
    write_json(folder / "conch_ViT-B-16.json", CONCH | {"text_cfg": {"width": 8}})
    return folder
