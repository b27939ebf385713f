"""The published sizes, built without memory: shapes by name and the number of parameters that others have counted."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.unit.bench.published import gene_folders, image_folders
from tests.unit.bench.published.toy import random_tensors
from torch import nn

from spatia.bench.methods.method import Problem
from spatia.bench.published import (
    cellplm,
    conch,
    geneformer,
    gigapath,
    hipt,
    nicheformer,
    scfoundation,
    scgpt,
    uce,
    uni,
)
from spatia.bench.published.registry import published_method
from spatia.bench.published.vit_timm import VitSizes, VitTimm
from spatia.bench.published.weights import on_meta

Shapes = dict[str, tuple[int, ...]]


def count(shapes: Shapes) -> int:
    return sum(torch.Size(shape).numel() for shape in shapes.values())


def assert_same(model: nn.Module, shapes: Shapes, left_out: tuple[str, ...] = ()) -> None:
    """The model wants the tensors of the layout, but those that are left out."""
    prefixes = tuple(name for name in left_out if name.endswith("."))
    wanted = {name: s for name, s in shapes.items() if name not in left_out and not name.startswith(prefixes)}
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == wanted


@pytest.mark.parametrize(
    ("sizes", "parameters"),
    [
        (uni.UNI_SIZES, 303_350_784),
        (uni.UNI2_H_SIZES, 681_394_176),
        (gigapath.SIZES, 1_134_953_984),
        (hipt.SIZES, 21_665_664),
    ],
    ids=["uni", "uni2-h", "gigapath", "hipt"],
)
def test_image_encoders_have_as_many_parameters_as_published(sizes: VitSizes, parameters: int) -> None:
    """Counted by third parties with timm and the true weights."""
    model = on_meta(lambda: VitTimm(sizes))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    positions = (sizes.side_px // sizes.patch_px) ** 2 + sizes.class_position
    shapes = image_folders.vit_shapes(
        sizes.width, sizes.depth, sizes.hidden, sizes.patch_px, positions, scaled=sizes.scaled, gated=sizes.gated
    )
    registers: Shapes = {"reg_token": (1, sizes.registers, sizes.width)} if sizes.registers else {}
    assert_same(model, shapes | registers)


def test_conch_has_as_many_parameters_as_published_with_its_text() -> None:
    """395,232,769 in all; what is left out is counted from the published configuration."""
    model = on_meta(lambda: conch.ConchImage(conch.ConchConfig()))
    shapes = image_folders.conch_shapes(768, 12, 3072, 16, 28 * 28 + 1, 512)
    assert_same(model, {name.removeprefix("visual."): shape for name, shape in shapes.items()}, conch.LEFT_OUT)
    width, hidden, out, vocabulary = 768, 3072, 512, 32_007
    norm, attention = 2 * width, 4 * (width * width + width)
    block = 2 * norm + attention + 2 * width * hidden + hidden + width
    text = width + vocabulary * width + 128 * width + 12 * block + norm + width * out
    decoder = 12 * block + 12 * (block + norm) + norm + width * vocabulary
    captions = 256 * width + attention + 3 * norm  # queries, their attention, norms of query, context and result
    assert count(shapes) + captions + text + decoder + 1 == 395_232_769


def test_geneformer_v2_316m_has_as_many_tensors_and_numbers_as_published() -> None:
    pytest.importorskip("transformers")
    sizes = {"vocab_size": 20_275, "hidden_size": 1152, "num_hidden_layers": 18, "num_attention_heads": 18}
    config = geneformer.GeneformerConfig(
        **sizes, model_type="bert", intermediate_size=4608, max_position_embeddings=4096
    )
    shapes = gene_folders.geneformer_shapes(config.model_dump())
    assert len(shapes) == 298
    assert count(shapes) == 316_354_867
    assert_same(on_meta(lambda: geneformer.make_bert(config)), shapes, geneformer.LEFT_OUT)


def test_scgpt_human_has_its_published_shapes() -> None:
    config = scgpt.ScgptConfig(embsize=512, nheads=8, d_hid=512, nlayers=12)
    shapes = gene_folders.scgpt_shapes(config.model_dump(), 60_697)
    shapes = {name.replace("Wqkv.", "in_proj_"): shape for name, shape in shapes.items()}
    assert_same(on_meta(lambda: scgpt.Scgpt(config, 60_697)), shapes, scgpt.LEFT_OUT)
    assert count(shapes) == pytest.approx(51e6, rel=0.01)


def test_uce_33_layers_has_its_published_size() -> None:
    shapes = gene_folders.uce_shapes(145_469, 5120, 1280, 5120, 33, 1024, 1280)
    model = on_meta(lambda: uce.Uce(145_469, 5120, 1280, 20, 5120, 33, 1024, 1280))
    assert_same(model, shapes, uce.LEFT_OUT)
    layers = count({name: shape for name, shape in shapes.items() if name.startswith("transformer_encoder")})
    assert layers == pytest.approx(650e6, rel=0.01)  # the paper: more than 650 million parameters


def test_cellplm_85m_has_its_published_shapes() -> None:
    sizes = gene_folders.CELLPLM | {
        "gene_list": [f"g{at}" for at in range(19_374)],
        "enc_hid": 1024,
        "enc_layers": 4,
        "enc_head": 8,
        "post_latent_dim": 512,
        "num_clusters": 16,
    }
    config = cellplm.CellplmConfig.model_validate(sizes)
    shapes = gene_folders.cellplm_shapes(sizes)
    assert_same(on_meta(lambda: cellplm.Cellplm(config)), shapes, cellplm.LEFT_OUT)


def test_nicheformer_has_as_many_parameters_as_published() -> None:
    """49.3 million in the paper: with its three heads and the layer that the authors' module holds as a pattern."""
    config = nicheformer.NicheformerConfig(
        dim_model=512, nheads=16, dim_feedforward=1024, nlayers=12, n_tokens=20_340, context_length=1500
    )
    shapes = gene_folders.nicheformer_shapes(config.model_dump())
    own = {name.removeprefix("nicheformer."): shape for name, shape in shapes.items()}
    assert_same(on_meta(lambda: nicheformer.Nicheformer(config)), own, nicheformer.LEFT_OUT)
    heads = 512 * 512 + 512 + 164 * 512 + 164
    assert round((count(shapes) + heads) / 1e6, 1) == 49.3


def test_scfoundation_has_its_published_size() -> None:
    """100 million parameters in the paper, for encoder and embeddings."""
    sizes = {
        "model": "mae_autobin",
        "seq_len": 19_266,
        "bin_num": 100,
        "bin_alpha": 1.0,
        "encoder": {"hidden_dim": 768, "depth": 12, "heads": 12, "module_type": "transformer"},
    }
    config = scfoundation.ScfoundationConfig.model_validate(sizes)
    model = on_meta(lambda: scfoundation.Scfoundation(config))
    shapes = {name.removeprefix("model."): s for name, s in gene_folders.scfoundation_shapes(sizes).items()}
    assert_same(model, shapes, scfoundation.LEFT_OUT)
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(100e6, rel=0.01)


@pytest.mark.slow
def test_hipt_runs_at_its_true_size(tmp_path: Path, problem: Problem) -> None:
    """From a file of the published layout to embeddings of 384 numbers, at 256 px."""
    sizes = hipt.SIZES
    shapes = image_folders.vit_shapes(sizes.width, sizes.depth, sizes.hidden, sizes.patch_px, 197)
    tensors = {f"backbone.{name}": value for name, value in random_tensors(shapes).items()}
    torch.save({"teacher": tensors, "epoch": 400}, tmp_path / "vit256_small_dino.pth")
    embed = published_method("hipt", tmp_path).embed
    assert embed is not None
    found = embed(problem)
    assert found.shape == (9, 384)
    assert np.isfinite(found).all()
