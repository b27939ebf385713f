"""Inception v3: its size and names are those of torchvision's weights, and a file of them is read strictly."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from spatia.errors import ModelError
from spatia.nn.inception import FEATURES, Inception
from spatia.tasks.extractors import inception_extractor, load_inception


@pytest.fixture(scope="module")
def network() -> Inception:
    torch.manual_seed(0)
    return Inception().eval()


@pytest.fixture(scope="module")
def weights(network: Inception, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "inception.safetensors"
    others = {"fc.weight": torch.zeros(2, 3), "AuxLogits.conv0.conv.weight": torch.zeros(1)}
    save_file(dict(network.state_dict()) | others, str(path))
    return path


def test_it_has_the_published_number_of_parameters(network: Inception) -> None:
    # convolutions 21,751,136, and scale and shift of 17,216 normalised channels
    assert sum(one.numel() for one in network.parameters()) == 21_785_568


def test_its_parts_have_torchvisions_names(network: Inception) -> None:
    names = set(network.state_dict())
    assert {
        "Conv2d_1a_3x3.conv.weight",
        "Mixed_5b.branch_pool.bn.running_var",
        "Mixed_6a.branch3x3dbl_3.conv.weight",
        "Mixed_6e.branch7x7dbl_5.conv.weight",
        "Mixed_7a.branch7x7x3_4.bn.bias",
        "Mixed_7c.branch3x3dbl_3b.conv.weight",
    } <= names


def test_features_of_channels_stand_side_by_side(network: Inception, weights: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 2, 16, 16), np.uint8)
    found = inception_extractor(weights, ["DAPI", "RNA"]).extract(images)
    assert found.shape == (1, 2 * FEATURES)
    with torch.inference_mode():
        grey = torch.from_numpy(images[:, 1:]).float() / 127.5 - 1
        alone = network(grey.expand(-1, 3, -1, -1)).double().numpy()
    assert found[:, FEATURES:] == pytest.approx(alone, rel=1e-4, abs=1e-5)


def test_weights_are_read_strictly_and_never_unpickled(network: Inception, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"pickled weights are never read"):
        load_inception(tmp_path / "inception.pth")
    with pytest.raises(ModelError, match=r"no such file"):
        load_inception(tmp_path / "none.safetensors")
    part = dict(network.state_dict())
    del part["Mixed_6c.branch7x7_1.conv.weight"]
    save_file(part, str(tmp_path / "part.safetensors"))
    with pytest.raises(ModelError, match=r"missing Mixed_6c\.branch7x7_1\.conv\.weight"):
        load_inception(tmp_path / "part.safetensors")
