"""Every public protocol says what to download, and refuses an empty folder by name."""

from pathlib import Path

import numpy as np
import pytest

from spatia.bench.methods.method import BOTH, GENES, IMAGE, Method, Problem
from spatia.bench.public.encoders import SIMPLE, chosen_encoders, pixels, tile
from spatia.bench.public.gene_methods import chosen_gene_methods
from spatia.bench.public.protocol import PublicOptions, PublicProtocol
from spatia.bench.public.registry import PUBLIC, public_text, read_public
from spatia.errors import ModelError, SettingsError


@pytest.mark.parametrize("protocol", PUBLIC.values(), ids=PUBLIC)
def test_a_protocol_refuses_an_empty_folder_and_says_what_to_download(protocol: PublicProtocol, tmp_path: Path) -> None:
    def start(folder: Path) -> object:
        if protocol.prepare is not None:
            return protocol.prepare(folder, tmp_path / "out")
        assert protocol.run is not None
        return protocol.run(folder, tmp_path / "out", PublicOptions())

    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(SettingsError) as caught:
            start(folder)
        assert protocol.download in str(caught.value)
        assert protocol.layout in str(caught.value)
        assert str(folder) in str(caught.value)
    assert protocol.download in public_text()


def test_a_protocol_is_named_with_its_folder() -> None:
    with pytest.raises(SettingsError, match=r"Unknown public protocol 'hets'.*hest, gse155468, spatch, bcnb"):
        read_public("hets=data")
    for text in ("hest", "hest="):
        with pytest.raises(SettingsError, match="names no folder"):
            read_public(text)


def test_a_protocol_either_prepares_or_runs() -> None:
    with pytest.raises(ValueError, match="either"):
        PublicProtocol("x", "", "", "", "")


def test_encoders_are_chosen_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SPATIA_VIT", raising=False)
    assert [one.name for one in chosen_encoders(PublicOptions())] == list(SIMPLE)
    assert [one.name for one in chosen_encoders(PublicOptions(methods=("vit-b/16",)))] == ["vit-b/16"]
    with_vit = chosen_encoders(PublicOptions(vit=tmp_path / "uni"))
    assert [one.name for one in with_vit] == [*SIMPLE, "vit uni"]
    assert chosen_encoders(PublicOptions(methods=("none",))) == []
    assert chosen_gene_methods(PublicOptions(methods=("none",))) == []
    several = PublicOptions(
        methods=("pca", "pca of variable genes", "colours", "pixels")
    )  # one option, several protocols
    assert [one.name for one in chosen_encoders(several)] == ["colours", "pixels"]
    assert [one.name for one in chosen_gene_methods(several)] == ["pca", "pca of variable genes"]
    with pytest.raises(SettingsError, match=r"No patch encoder among pca, morphology.*colours"):
        chosen_encoders(PublicOptions(methods=("pca", "morphology")))
    with pytest.raises(SettingsError, match=r"Unknown patch encoder 'uni'.*colours, pixels"):
        chosen_encoders(PublicOptions(methods=("uni",)))


def test_given_methods_take_part_by_what_they_read() -> None:
    def mean(problem: Problem) -> np.ndarray:
        return problem.cells.images.mean(axis=(2, 3))

    given = tuple(Method(name, reads, mean, "") for name, reads in (("i", IMAGE), ("g", GENES), ("b", BOTH)))
    options = PublicOptions(methods=("none",), extra=given)
    assert [one.name for one in chosen_gene_methods(options)] == ["g"]
    (encoder,) = chosen_encoders(options)
    patch = np.zeros((2, 8, 8, 3), np.uint8)
    patch[1, ..., 0] = 7
    assert encoder.encode(patch, 0.5).tolist() == [[0, 0, 0], [7, 0, 0]]


def test_crops_tile_the_middle_of_a_patch_in_its_own_scale() -> None:
    patch = np.zeros((1, 100, 100, 3), np.uint8)
    patch[0, 10:50, 10:50] = 255  # the first of 2 x 2 crops of 40 px
    crops = tile(patch, 1.0, 40)
    assert crops.shape == (4, 3, 40, 40)
    assert crops[0].min() == 255
    assert crops[1:].max() == 0
    assert tile(patch, 2.0, 40).shape[0] == 25
    with pytest.raises(ModelError, match="smaller than its crop of 40 px"):
        tile(patch, 0.3, 40)


def test_pixels_are_means_of_squares() -> None:
    patch = np.zeros((1, 56, 56, 3), np.uint8)
    patch[0, :2, :2] = 255
    found = pixels(patch, 0.5).reshape(28, 28, 3)
    assert found[0, 0].tolist() == [1, 1, 1]
    assert found.sum() == 3
