"""A loaded ViT-MAE gives its source's output; a table of gene embeddings is found by name; what does not fit is refused."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.unit.model_setup import SMALL
from tests.unit.vit_mae import MEAN, SD, SIDE, output_of, random_vit_mae, save_vit_mae
from torch import Tensor

from spatia.data.vocabulary import Vocabulary
from spatia.errors import ModelError, SettingsError
from spatia.models.config import ModelConfig
from spatia.models.image_encoder import FIRST_PATCH, ImageEncoder
from spatia.models.inputs import ImageInput
from spatia.models.pretrained import GeneEmbeddings, VitMae, sizes_of, start_gene_embeddings, start_image_encoder
from spatia.models.spatia import Spatia
from spatia.models.statistics import Statistics
from spatia.training.pretrained_files import IMAGENET_MEAN, read_gene_embeddings, read_vit_mae


def with_pretrained(config: ModelConfig, image: VitMae | None, genes: GeneEmbeddings | None) -> ModelConfig:
    return ModelConfig.model_validate({**config.model_dump(), **sizes_of(image, genes)})


@pytest.fixture(scope="module")
def source() -> Any:
    return random_vit_mae()


@pytest.fixture
def folder(source: Any, tmp_path: Path) -> Path:
    return save_vit_mae(source, tmp_path / "vit")


def encoder_for(folder: Path, channels: tuple[str, ...], crop_px: int = SIDE) -> ImageEncoder:
    piece = read_vit_mae(folder)
    config = with_pretrained(SMALL.model_copy(update={"crop_px": crop_px}), piece, None)
    torch.manual_seed(1)
    encoder = ImageEncoder(config, len(channels), 2, Statistics.blank(0, len(channels), 2))
    start_image_encoder(encoder, channels, piece)
    return encoder.eval()


def seen(pixels: Tensor, present: list[bool], um_per_px: float = 0.425) -> ImageInput:
    rows = len(pixels)
    return ImageInput(
        pixels=pixels,
        channels_present=torch.tensor(present).expand(rows, -1),
        masks=None,
        mask_present=torch.ones(rows, dtype=torch.bool),
        um_per_px=um_per_px,
    )


def random_rgb(rows: int = 3) -> Tensor:
    return torch.randint(0, 256, (rows, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)


@torch.no_grad()
@pytest.mark.parametrize("channels", [("r", "g", "b"), ("b", "DAPI", "r", "g"), ("Blue", "Red", "Green")])
def test_the_loaded_encoder_reproduces_the_source(source: Any, folder: Path, channels: tuple[str, ...]) -> None:
    encoder, rgb = encoder_for(folder, channels), random_rgb()
    at = {"r": 0, "g": 1, "b": 2}
    pixels = torch.zeros(3, len(channels), SIDE, SIDE, dtype=torch.uint8)
    for channel, name in enumerate(channels):
        if name != "DAPI":
            pixels[:, channel] = rgb[:, at[name[0].lower()]]
    tokens = encoder(seen(pixels, [name != "DAPI" for name in channels])).tokens
    expected = output_of(source, rgb.float())
    assert torch.allclose(tokens[:, 0], expected[:, 0], atol=1e-4), "class token"
    assert torch.allclose(tokens[:, FIRST_PATCH:], expected[:, 1:], atol=1e-4), "patches"
    assert expected.std() > 0.1


@torch.no_grad()
def test_visible_patches_alone_are_those_of_the_masked_source(source: Any, folder: Path) -> None:
    encoder, rgb = encoder_for(folder, ("r", "g", "b")), random_rgb()
    kept = torch.tensor([[1, 4, 7, 9]] * 3)
    image = ImageInput(**{**vars(seen(rgb, [True] * 3)), "patches": kept})
    values = (rgb / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(SD).view(3, 1, 1)
    noise = torch.ones(3, 16).scatter(1, kept, torch.arange(4) / 10.0 * torch.ones(3, 1))
    source.vit.config.mask_ratio = 0.75
    try:
        expected = source.vit(values, noise=noise).last_hidden_state
    finally:
        source.vit.config.mask_ratio = 0.0
    tokens = encoder(image).tokens
    assert torch.allclose(tokens[:, [0, *range(FIRST_PATCH, FIRST_PATCH + 4)]], expected, atol=1e-4)


@torch.no_grad()
def test_a_lone_channel_is_seen_as_a_grey_picture(source: Any, folder: Path) -> None:
    encoder = encoder_for(folder, ("DAPI",))
    encoder.channel_mean[:], encoder.channel_sd[:] = 0.4, 0.2
    grey = random_rgb()[:, :1]
    tokens = encoder(seen(grey, [True])).tokens
    scaled = (grey / 255 - 0.4) / 0.2  # the source standardises each colour; undo that
    as_rgb = (scaled * torch.tensor(SD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255
    assert torch.allclose(tokens[:, FIRST_PATCH:], output_of(source, as_rgb)[:, 1:], atol=1e-4)


@torch.no_grad()
def test_small_crops_are_enlarged_to_what_the_source_saw(source: Any, folder: Path) -> None:
    encoder, small = encoder_for(folder, ("r", "g", "b"), crop_px=8), random_rgb()[..., ::2, ::2]
    large = torch.nn.functional.interpolate(small.float(), (SIDE, SIDE), mode="bilinear")
    tokens = encoder(seen(small, [True] * 3)).tokens
    assert torch.allclose(tokens[:, FIRST_PATCH:], output_of(source, large)[:, 1:], atol=1e-4)


@torch.no_grad()
def test_crops_are_drawn_at_their_own_size(folder: Path) -> None:
    config = with_pretrained(SMALL, read_vit_mae(folder), None)  # crops of 8 px, seen at 16
    model, small = Spatia(config, Vocabulary((), ("r", "g", "b"))), random_rgb()[..., ::2, ::2]
    drawn = model.draw(model.encode(seen(small, [True] * 3), None, rows=3))
    assert drawn.shape == small.shape


def test_a_model_without_a_decoder_is_the_same_and_every_tensor_is_named(
    source: Any, folder: Path, tmp_path: Path
) -> None:
    channels = ("r", "g", "b")
    source.vit.save_pretrained(tmp_path / "plain")
    (tmp_path / "plain" / "preprocessor_config.json").write_text((folder / "preprocessor_config.json").read_text())
    first, second = (encoder_for(path, channels).state_dict() for path in (folder, tmp_path / "plain"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    piece = read_vit_mae(folder)
    encoder = ImageEncoder(with_pretrained(SMALL, piece, None), 3, 2, Statistics.blank(0, 3, 2))
    left_out = start_image_encoder(encoder, channels, piece)
    assert set(left_out) == {name for name in piece.tensors if name.startswith("decoder.")}


def _rewrite(folder: Path, change: Any) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda t: t.pop("vit.encoder.layer.1.output.dense.bias"),
            r"1 missing \(encoder\.layer\.1\.output\.dense\.bias\)",
        ),
        (lambda t: t.update({"vit.pooler.dense.weight": torch.ones(2)}), r"1 unknown \(pooler\.dense\.weight\)"),
        (lambda t: t.update({"vit.layernorm.weight": torch.ones(5)}), r"layernorm\.weight is \(5,\), expected \(32,\)"),
        (lambda t: t["vit.layernorm.weight"].fill_(float("nan")), "NaN or infinite"),
        (lambda t: t["vit.embeddings.position_embeddings"].add_(0.1), "position embeddings differ by up to 0.1"),
    ],
)
def test_weights_that_do_not_fit_are_refused(folder: Path, change: Any, complaint: str) -> None:
    _rewrite(folder, change)
    with pytest.raises(ModelError, match=complaint):
        encoder_for(folder, ("r", "g", "b"))


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"model_type": "vit"}, "model_type is 'vit'"),
        ({"num_channels": 1}, "num_channels is 1"),
        ({"qkv_bias": False}, "qkv_bias is False"),
    ],
)
def test_another_kind_of_model_is_refused(folder: Path, values: dict[str, Any], complaint: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    with pytest.raises(SettingsError, match=complaint):
        read_vit_mae(folder)


def test_pickled_weights_are_not_read(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"There is pytorch_model\.bin: pickled weights are never read"):
        read_vit_mae(folder)


def test_the_normalisation_is_imagenets_where_none_is_stated(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "preprocessor_config.json").unlink()
    assert read_vit_mae(folder).mean == IMAGENET_MEAN
    assert "taking ImageNet's mean" in caplog.text
    (folder / "preprocessor_config.json").write_text("{}")
    with pytest.raises(ModelError, match="no image_mean and image_std of three numbers"):
        read_vit_mae(folder)


# --- gene embeddings

TABLE = pd.DataFrame({"gene_id": ["G2", "G9", "G1"], "a": [1.0, 2.0, 3.0], "b": [4.0, 5.0, 9.0]})


def model_with(path: Path, genes: tuple[str, ...]) -> tuple[Spatia, tuple[str, ...]]:
    table = read_gene_embeddings(path)
    model = Spatia(with_pretrained(SMALL, None, table), Vocabulary(genes, ()))
    return model, start_gene_embeddings(model, table)


@pytest.mark.parametrize("index", [False, True])
def test_gene_embeddings_are_found_by_name_and_a_missing_one_is_the_mean(tmp_path: Path, index: bool) -> None:
    (TABLE.set_index("gene_id") if index else TABLE).to_parquet(tmp_path / "genes.parquet")
    model, missing = model_with(tmp_path / "genes.parquet", ("G1", "G2", "NEW"))
    assert missing == ("NEW",)
    assert model.gene_encoder.embedding.tolist() == [[3.0, 9.0], [1.0, 4.0], [2.0, 6.0]]


def test_too_few_genes_found_is_refused(tmp_path: Path) -> None:
    TABLE.to_parquet(tmp_path / "genes.parquet")
    with pytest.raises(
        ModelError, match=r"names 1 of the 3 genes; expected at least half. It has 'G2', the corpus 'X'"
    ):
        model_with(tmp_path / "genes.parquet", ("X", "G1", "Y"))


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        (TABLE.replace(5.0, float("nan")), "1 genes have NaN or infinite numbers, first 'G9'"),
        (TABLE.replace("G9", "G2"), "names 'G2' twice"),
        (TABLE.rename(columns={"gene_id": "gene"}), "no column or index 'gene_id'; columns are gene, a, b"),
        (TABLE.assign(b="text"), "column 'b' holds none"),
        (TABLE[["gene_id"]], "3 rows, 0 columns"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, table: pd.DataFrame, complaint: str) -> None:
    table.to_parquet(tmp_path / "genes.parquet")
    with pytest.raises(ModelError, match=complaint):
        read_gene_embeddings(tmp_path / "genes.parquet")


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "genes.parquet").write_text("gene_id,a\n")
    with pytest.raises(ModelError, match="cannot be read as parquet"):
        read_gene_embeddings(tmp_path / "genes.parquet")
    with pytest.raises(ModelError, match="no such file"):
        read_gene_embeddings(tmp_path / "nowhere.parquet")
