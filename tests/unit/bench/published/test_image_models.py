"""Image models against transformers' ViT and DINOv2, and against the formulas of interpolation and pooling."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.unit.bench.published import by_hand, image_folders
from tests.unit.bench.published.layouts import Tensors, write_json
from tests.unit.bench.published.toy import random_tensors

from spatia.bench.methods.method import Problem
from spatia.bench.published.images import IMAGENET, enlarged
from spatia.bench.published.registry import published_method
from spatia.bench.published.vit_timm import VitSizes, VitTimm, read_sizes
from spatia.bench.published.weights import load_strictly
from spatia.errors import SettingsError

transformers = pytest.importorskip("transformers")


def images(side_px: int) -> torch.Tensor:
    return torch.randn(2, 3, side_px, side_px, generator=torch.Generator().manual_seed(5))


def renamed(tensors: Tensors, names: dict[str, str], split_qkv: str) -> Tensors:
    """Tensors in timm's names under transformers': the joint projection is three there."""
    found: Tensors = {}
    for name, value in tensors.items():
        new = name
        for old, other in names.items():
            new = new.replace(old, other)
        if ".attn.qkv." in name:
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[new.replace(".attn.qkv.", split_qkv.format(part))] = third
        else:
            found[new] = value
    return found


def in_transformers(kind: type, config: object, tensors: Tensors, folder: Path) -> torch.nn.Module:
    """A model of transformers with given weights: read from a folder, as that renames what its newer versions have renamed."""
    config.save_pretrained(folder)  # type: ignore[attr-defined]
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors")
    options = {"add_pooling_layer": False} if kind is transformers.ViTModel else {}
    model, told = kind.from_pretrained(folder, output_loading_info=True, **options)  # type: ignore[attr-defined]
    assert set(told["missing_keys"]) <= {"embeddings.mask_token"}  # of training
    assert not told["unexpected_keys"]
    return model.eval()


@torch.no_grad()
def test_a_plain_vit_is_the_vit_of_transformers(tmp_path: Path) -> None:
    tensors = random_tensors(image_folders.vit_shapes(8, 2, 32, 8, 17))
    ours = load_strictly(VitTimm(VitSizes(8, 2, 2, 32, side_px=32, patch_px=8)), tensors, "x")
    config = transformers.ViTConfig(
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        layer_norm_eps=1e-6,
    )
    names = {
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "blocks.": "encoder.layer.",
        ".norm1.": ".layernorm_before.",
        ".norm2.": ".layernorm_after.",
        ".attn.proj.": ".attention.output.dense.",
        ".mlp.fc1.": ".intermediate.dense.",
        ".mlp.fc2.": ".output.dense.",
    }
    given = renamed(tensors, names, ".attention.attention.{}.")
    given = {name.replace("norm.", "layernorm.") if name.startswith("norm.") else name: v for name, v in given.items()}
    theirs = in_transformers(transformers.ViTModel, config, given, tmp_path)
    torch.testing.assert_close(ours(images(32)), theirs(images(32)).last_hidden_state, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("gated", [False, True])
def test_scales_registers_and_gates_are_those_of_dinov2(gated: bool, tmp_path: Path) -> None:
    """UNI2-h has all three, and positions of patches alone: there transformers' class token gets the position zero."""
    width, hidden = 24, 128 if gated else 96
    tensors = random_tensors(image_folders.vit_shapes(width, 2, hidden, 8, 16, scaled=True, gated=gated))
    tensors["reg_token"] = torch.randn(1, 3, width, generator=torch.Generator().manual_seed(1))
    sizes = VitSizes(
        width, 2, 2, hidden, side_px=32, patch_px=8, scaled=True, gated=gated, registers=3, class_position=False
    )
    ours = load_strictly(VitTimm(sizes), tensors, "x")
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=4,
        image_size=32,
        patch_size=8,
        layer_norm_eps=1e-6,
        num_register_tokens=3,
        use_swiglu_ffn=gated,
    )
    names = {
        "cls_token": "embeddings.cls_token",
        "reg_token": "embeddings.register_tokens",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "blocks.": "encoder.layer.",
        ".attn.proj.": ".attention.output.dense.",
        ".ls1.gamma": ".layer_scale1.lambda1",
        ".ls2.gamma": ".layer_scale2.lambda1",
    }
    if gated:
        names |= {".mlp.fc1.": ".mlp.weights_in.", ".mlp.fc2.": ".mlp.weights_out."}
    given = renamed(tensors, names, ".attention.attention.{}.")
    given = {name.replace("norm.", "layernorm.") if name.startswith("norm.") else name: v for name, v in given.items()}
    place = given["embeddings.position_embeddings"]
    given["embeddings.position_embeddings"] = torch.cat([torch.zeros(1, 1, width), place], dim=1)
    given["embeddings.mask_token"] = torch.zeros(1, width)
    theirs = in_transformers(transformers.Dinov2WithRegistersModel, config, given, tmp_path)
    torch.testing.assert_close(ours(images(32)), theirs(images(32)).last_hidden_state, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_positions_of_a_larger_picture_lie_between_the_trained(tmp_path: Path, problem: Problem) -> None:
    tensors = random_tensors(image_folders.vit_shapes(8, 2, 32, 8, 50))
    y, x = torch.meshgrid(torch.linspace(-1, 1, 7), torch.linspace(-1, 1, 7), indexing="ij")
    tensors["pos_embed"][0, 1:] = (y + 2 * x).reshape(-1, 1).expand(-1, 8)
    model = load_strictly(VitTimm(VitSizes(8, 2, 2, 32, side_px=56, patch_px=8)), tensors, "x")
    assert isinstance(model, VitTimm)
    own, same = model._positions(7, 7)
    torch.testing.assert_close(torch.cat([own, same], 1), tensors["pos_embed"])
    own, between = model._positions(8, 8)
    torch.testing.assert_close(own, tensors["pos_embed"][:, :1])
    plane = between[0, :, 0].view(8, 8)
    inner = plane[2:-2, 2:-2]
    step = inner.diff(dim=1)
    assert step.std() < 0.02  # a plane stays a plane
    assert (2 * inner.diff(dim=0).mean()).item() == pytest.approx(step.mean().item(), abs=0.02)
    found = published_method("hipt", image_folders.write_hipt(tmp_path)).embed(problem)  # type: ignore[misc]
    assert found.shape == (9, 8)


@torch.no_grad()
def test_conch_reads_its_tokens_with_one_query(tmp_path: Path, problem: Problem) -> None:
    kept: Tensors = {}
    folder = image_folders.write_conch(tmp_path, kept.update)
    found = published_method("conch", folder).embed(problem)  # type: ignore[misc]
    trunk = VitTimm(VitSizes(8, 2, 2, 32, side_px=32, patch_px=8))
    own = {name.removeprefix("visual.trunk."): v for name, v in kept.items() if name.startswith("visual.trunk.")}
    load_strictly(trunk, own, "x")
    crops = torch.from_numpy(problem.cells.images).float() / 255
    pool = "visual.attn_pool_contrast"
    bias = kept[f"{pool}.attn.in_proj_bias"].chunk(3)
    # of the authors' open_clip_custom/constants.py: those of OpenAI's CLIP
    colours = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    for cell, states in enumerate(trunk(enlarged(crops, 32, colours))):
        context = by_hand.norm(kept, f"{pool}.ln_k", states)
        query = (
            by_hand.norm(kept, f"{pool}.ln_q", kept[f"{pool}.query"]) @ kept[f"{pool}.attn.q_proj_weight"].T + bias[0]
        )
        key, value = (context @ kept[f"{pool}.attn.{p}_proj_weight"].T + b for p, b in zip("kv", bias[1:], strict=True))
        read = by_hand.linear(kept, f"{pool}.attn.out_proj", by_hand.attention(query, key, value, heads=2))
        expected = by_hand.norm(kept, "visual.ln_contrast", read)[0]
        torch.testing.assert_close(torch.from_numpy(found[cell]), expected, atol=1e-5, rtol=1e-5)


def test_crops_are_enlarged_cut_and_normalised() -> None:
    flat = torch.full((1, 3, 5, 5), 0.25)
    mean, sd = (torch.tensor(values) for values in IMAGENET)
    found = enlarged(flat, 16, IMAGENET)
    assert found.shape == (1, 3, 16, 16)
    torch.testing.assert_close(found[0, :, 3, 4], (0.25 - mean) / sd)
    ramp = torch.linspace(0, 1, 8).expand(1, 3, 8, 8)
    whole, cut = enlarged(ramp, 32, IMAGENET), enlarged(ramp, 32, IMAGENET, cut=28)
    torch.testing.assert_close(cut, whole[..., 2:30, 2:30])
    assert (enlarged((ramp > 0.5).float(), 32, ((0.0,) * 3, (1.0,) * 3)) <= 1).all()  # bicubic overshoot is clipped


def test_sizes_come_from_config_json_or_are_the_published(tmp_path: Path) -> None:
    published = VitSizes(1536, 24, 24, 8192, gated=True)
    assert read_sizes(tmp_path, published) == published
    write_json(
        tmp_path / "config.json", {"model_args": {"embed_dim": 768, "init_values": 1e-5, "no_embed_class": True}}
    )
    found = read_sizes(tmp_path, published)
    assert (found.width, found.hidden, found.scaled, found.class_position) == (768, 4096, True, False)
    write_json(tmp_path / "config.json", {"model_args": {"rope": True}})
    with pytest.raises(SettingsError, match="unknown setting 'rope'"):
        read_sizes(tmp_path, published)


def test_uni2_is_told_by_its_registers(tmp_path: Path, problem: Problem) -> None:
    def registers(tensors: Tensors) -> None:
        place = tensors["pos_embed"][:, 1:].clone()
        tensors.update({"reg_token": torch.ones(1, 2, 8), "pos_embed": place})
        for block in range(2):
            tensors[f"blocks.{block}.mlp.fc2.weight"] = tensors[f"blocks.{block}.mlp.fc2.weight"][:, :16].clone()

    change: Callable[[Tensors], None] = registers
    folder = image_folders.write_uni(tmp_path, change)
    write_json(folder / "config.json", {"model_args": image_folders.TIMM | {"mlp_ratio": 4.0, "reg_tokens": 2}})
    found = published_method("uni", folder).embed(problem)  # type: ignore[misc]
    assert found.shape == (9, 8)
    assert np.isfinite(found).all()
