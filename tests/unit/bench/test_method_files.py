"""Rows are of the files that a method is made of: other files under the same name are refused, and tensors are all accounted for."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.unit.bench.toy_rows import row

from spatia.bench.methods import vit, vit_mae
from spatia.bench.methods.method import Method, Problem
from spatia.bench.methods.pca import PCA_METHOD
from spatia.bench.protocols.trial import Trial
from spatia.bench.public import registry
from spatia.bench.public.protocol import PublicOptions, PublicProtocol
from spatia.bench.published.files import digest_of
from spatia.bench.rows import RowStore
from spatia.bench.run import UNITS
from spatia.cli.bench_parts import keep_what_rivals_are, methods_of_others, our_methods, public_data
from spatia.cli.bench_tables import GivenTable, keep_what_tables_are
from spatia.errors import ModelError, SettingsError


def table(path: Path, number: int) -> Path:
    path.write_text(f"cell_id,e0\nc0,{number}\n")
    return path


def keep_what_tables(out: Path, texts: list[str]) -> None:
    keep_what_tables_are(out, [GivenTable.parse(text) for text in texts], ())


# digests


def test_a_folder_is_known_by_names_and_contents_wherever_it_lies(tmp_path: Path) -> None:
    def write(folder: Path, contents: dict[str, str]) -> str:
        for name, text in contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return digest_of(folder)

    files = {"config.json": "{}", "a/weights": "123"}
    first = write(tmp_path / "one", files)
    assert write(tmp_path / "two", files) == first
    assert write(tmp_path / "three", files | {"a/weights": "124"}) != first  # of the same size
    assert write(tmp_path / "four", {"config.json": "{}", "b/weights": "123"}) != first
    assert write(tmp_path / "two", {".cache/seen": "today"}) == first
    results = tmp_path / "two" / "results"
    assert write(results, {"rows.parquet": "x"})
    assert digest_of(tmp_path / "two") != first
    assert digest_of(tmp_path / "two", without=results) == first
    with pytest.raises(SettingsError, match=r"nowhere: no such file or folder\. Expected"):
        digest_of(tmp_path / "nowhere")


def test_what_lies_behind_a_link_counts_and_a_link_back_up_ends(tmp_path: Path) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "folder"
    elsewhere.mkdir()
    folder.mkdir()
    (elsewhere / "patch").write_text("1")
    (folder / "patches").symlink_to(elsewhere)
    (elsewhere / "up").symlink_to(folder)
    first = digest_of(folder)
    (elsewhere / "patch").write_text("2")
    assert digest_of(folder) != first


# names of rivals


def test_another_table_under_the_name_of_rows_that_stand_is_refused(tmp_path: Path) -> None:
    out, noise, good = tmp_path / "out", table(tmp_path / "noise.csv", 1), table(tmp_path / "good.csv", 2)
    keep_what_tables(out, [f"rival={noise}"])
    RowStore(out).add([row("rival", status="failed")])
    keep_what_tables(out, [f"rival={good}"])  # nothing was measured with the first
    RowStore(out).add([row("rival")])
    keep_what_tables(out, [f"rival={good.rename(tmp_path / 'moved.csv')}"])
    with pytest.raises(
        SettingsError,
        match=r"methods\.json: 'rival' stands there with files sha256:\w{12}…, but \S+noise\.csv \(sha256:\w{12}…\) is asked for: "
        r"its rows would be taken for these\. Give the table another name, or another results folder with -o\.",
    ):
        keep_what_tables(out, [f"rival={noise}"])
    keep_what_tables(out, [f"other={noise}"])
    keep_what_tables(tmp_path / "other out", [f"rival={noise}"])
    assert str(tmp_path) not in (out / "methods.json").read_text()  # files may move


def test_rows_that_a_killed_worker_left_count(tmp_path: Path) -> None:
    keep_what_tables(tmp_path, [f"rival={table(tmp_path / 'noise.csv', 1)}"])
    RowStore(tmp_path / UNITS / "slide-0").add([row("rival")])
    with pytest.raises(SettingsError, match="'rival' stands there"):
        keep_what_tables(tmp_path, [f"rival={table(tmp_path / 'good.csv', 2)}"])


def test_another_folder_of_a_published_model_is_refused(tmp_path: Path) -> None:
    out, folders = tmp_path / "out", [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        (folder / "pytorch_model.bin").write_text(folder.name)
    keep_what_rivals_are(out, (), [f"uni={folders[0]}"])
    RowStore(out).add([row("uni, ridge", task="HEST-bench")])  # protocols of patches add how it was read out
    with pytest.raises(SettingsError, match=r"'uni' stands there .*/two \(sha256.* another name \(uni:second=…\), or"):
        keep_what_rivals_are(out, (), [f"uni={folders[1]}"])
    keep_what_rivals_are(out, (), [f"uni={folders[0]}", f"uni:second={folders[1]}"])


@pytest.mark.parametrize("method", [vit.VIT, vit_mae.VIT_MAE], ids=lambda method: method.name)
def test_random_weights_and_those_of_a_folder_are_two_things(
    method: Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = {"vit-b/16": "SPATIA_VIT", "vit-mae": "SPATIA_VIT_MAE"}[method.name]
    monkeypatch.delenv(variable, raising=False)
    (tmp_path / "weights").mkdir()
    out = tmp_path / "out"
    keep_what_rivals_are(out, [PCA_METHOD, method])
    RowStore(out).add([row(method.name)])
    keep_what_rivals_are(out, [PCA_METHOD, method])
    monkeypatch.setenv(variable, str(tmp_path / "weights"))
    keep_what_rivals_are(out, [PCA_METHOD])  # it takes no part
    with pytest.raises(
        SettingsError,
        match=rf"{method.name!r} stands there with files random weights, but .* Set {variable} as it was, or",
    ):
        keep_what_rivals_are(out, [method])
    assert json.loads((out / "methods.json").read_text()) == {method.name: {"files": "random weights"}}


def test_two_rivals_of_one_name_are_refused(tmp_path: Path) -> None:
    first, second = table(tmp_path / "a.csv", 1), table(tmp_path / "b.csv", 2)
    with pytest.raises(SettingsError, match=r"'rival' is given twice, and rows are known by the name\. Give"):
        methods_of_others([GivenTable.parse(f"rival={path}") for path in (first, second)], ())
    with pytest.raises(SettingsError, match="'pca' is a method of spatia bench, and rows are known by the name"):
        methods_of_others([GivenTable.parse(f"pca={first}")], ())


def test_what_older_results_kept_of_our_models_is_read(tmp_path: Path) -> None:
    ours = {"spatia": {"settings": ["lr=1"], "model": None, "from": None}}
    (tmp_path / "ours.json").write_text(json.dumps(ours))
    with pytest.raises(
        SettingsError,
        match=r"'spatia' stands there with settings \['lr=1'\], but \['lr=0\.1'\] is asked for.* --label",
    ):
        our_methods(tmp_path, None, True, None, "", ["lr=0.1"], None, {})
    our_methods(tmp_path, None, True, None, "", ["lr=1"], None, {})
    keep_what_tables(tmp_path, [f"rival={table(tmp_path / 'a.csv', 1)}"])
    kept = json.loads((tmp_path / "methods.json").read_text())
    assert kept.keys() == {"spatia", "rival"}
    assert kept["spatia"] == ours["spatia"]


# public protocols


@pytest.mark.parametrize("name", [name for name, one in registry.PUBLIC.items() if one.run is not None])
def test_a_protocol_knows_its_rows(name: str) -> None:
    one = registry.PUBLIC[name]
    assert one.owns(name.upper())
    assert one.owns(f"{name.upper()} IDC")
    assert not one.owns(f"{name}ia slide")
    assert not one.owns("")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was measured by a protocol that is called "made-up"."""
    asked: list[str] = []

    def run(folder: Path, out: Path, options: PublicOptions) -> Any:
        asked.append((folder / "patches").read_text())
        names = ["pixels"] if options.vit_folder is None else ["pixels", f"vit {options.vit_folder.name}"]
        RowStore(out).add([row(f"{name}, ridge", data="MADE-UP A", task="patches") for name in names])

    monkeypatch.setitem(registry.PUBLIC, "made-up", PublicProtocol("made-up", "", "", "", "", run=run))
    monkeypatch.delenv("SPATIA_VIT", raising=False)
    return asked


def download(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "patches").write_text(text)
    return folder


def test_rows_of_a_public_protocol_are_of_one_download(tmp_path: Path, measured: list[str]) -> None:
    first, second = download(tmp_path / "first", "1"), download(tmp_path / "second", "2")
    out = first / "results"  # the results do not make it another download

    def ask(folder: Path) -> None:
        public_data([f"made-up={folder}"], out, ["all"], None, "", 1, [])

    ask(first)
    ask(first)
    with pytest.raises(
        SettingsError,
        match=r"'--public made-up' stands there with files .*/second \(sha256.*Name the download that it was, or",
    ):
        ask(second)
    assert measured == ["1", "1"]


def test_a_vit_of_public_protocols_is_of_one_folder(
    tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = download(tmp_path / "data", "1")
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        monkeypatch.setenv("SPATIA_VIT", str(download(tmp_path / place / "large", place)))
        if place == "one":
            public_data([f"made-up={data}"], tmp_path / "out", ["all"], None, "", 1, [])
    public_data([f"made-up={data}"], tmp_path / "out", ["pixels"], None, "", 1, [])  # it takes no part
    with pytest.raises(SettingsError, match=r"'vit large' stands there with files .* Give its folder another name, or"):
        public_data([f"made-up={data}"], tmp_path / "out", ["all"], None, "", 1, [])
    assert len(measured) == 2


def test_a_download_that_is_not_there_is_left_to_the_protocol(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no such folder.*Download:"):
        public_data([f"hest={tmp_path / 'nowhere'}"], tmp_path / "out", ["all"], None, "", 1, [])


# embeddings that are kept, and weights that are read


@pytest.mark.parametrize("module", [vit, vit_mae])
def test_embeddings_are_kept_by_the_weights_they_are_of(
    module: Any, trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def embed(folder: Path | None) -> np.ndarray:
        if folder is None:
            monkeypatch.delenv(module.WEIGHTS, raising=False)
        else:
            monkeypatch.setenv(module.WEIGHTS, str(folder))
        return module.embed(problem)

    made: list[Path | None] = []
    problem: Problem = replace(trial.problem, work=tmp_path / "work")
    monkeypatch.setattr(
        module, "make_vit" if module is vit else "make_mae", lambda weights: made.append(weights) or weights
    )
    monkeypatch.setattr(module, "encode", lambda weights, images: np.full((len(images), 1), float(len(made))))
    first, second = download(tmp_path / "first", "1"), download(tmp_path / "second", "2")
    assert [embed(folder)[0, 0] for folder in (None, first, second, first, None)] == [1, 2, 3, 2, 1]
    assert made == [None, first, second]
    assert embed(first.rename(tmp_path / "moved"))[0, 0] == 2


@pytest.fixture(params=["vit", "vit-mae"])
def saved(
    request: pytest.FixtureRequest, tmp_path: Path
) -> tuple[Path, dict[str, torch.Tensor], Callable[[Path], Any]]:
    """A small model with a head or decoder as transformers saves it, the tensors of its encoder, and what reads it."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    sizes |= {"image_size": 32, "patch_size": 8}
    if request.param == "vit":
        model = transformers.ViTForImageClassification(transformers.ViTConfig(**sizes))
        encoder, read = model.vit, vit.make_vit
    else:
        small = {"decoder_hidden_size": 8, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
        model = transformers.ViTMAEForPreTraining(
            transformers.ViTMAEConfig(**sizes, **small, decoder_intermediate_size=8)
        )
        encoder, read = model.vit, lambda folder: vit_mae.make_mae(folder).model
    model.save_pretrained(tmp_path / "whole")
    return tmp_path / "whole", encoder.state_dict(), read


def test_what_transformers_saved_is_read_whole_without_head_or_decoder(
    saved: tuple[Path, dict[str, torch.Tensor], Callable[[Path], Any]],
) -> None:
    folder, tensors, read = saved
    found = read(folder).state_dict()
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        torch.testing.assert_close(found[name], value, msg=name)


@pytest.mark.parametrize(
    "change, said",
    [
        (
            lambda t: {f"backbone.{name}": value for name, value in t.items()},
            r"38 missing: .*, …; \d+ unknown: backbone\.",
        ),
        (lambda t: {n: v for n, v in t.items() if n != "vit.layernorm.bias"}, r"1 missing: layernorm\.bias\."),
        (lambda t: t | {"vit.embeddings.register": torch.ones(2)}, r"1 unknown: (vit\.)?embeddings\.register\."),
        (
            lambda t: t | {"vit.layernorm.bias": torch.ones(3)},
            r"1 of another shape: layernorm\.bias \(3,\) instead of \(16,\)\.",
        ),
    ],
    ids=["prefix", "missing", "unknown", "shape"],
)
def test_tensors_of_another_encoder_are_refused(
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]],
    said: str,
    saved: tuple[Path, dict[str, torch.Tensor], Callable[[Path], Any]],
) -> None:
    folder, _, read = saved
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")
    with pytest.raises(ModelError, match=rf"whole: not the tensors of a ViT\w*Model \(38 expected\)\. {said}"):
        read(folder)


def test_a_folder_that_cannot_be_read_is_named(
    saved: tuple[Path, dict[str, torch.Tensor], Callable[[Path], Any]], tmp_path: Path
) -> None:
    folder, _, read = saved
    with pytest.raises(
        ModelError, match=r"nowhere: no such folder\. Expected a ViT\w*Model as transformers' save_pretrained"
    ):
        read(tmp_path / "nowhere")
    (folder / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"whole: cannot be read as a ViT\w*Model of transformers"):
        read(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"whole: cannot be read as a ViT\w*Model of transformers"):
        read(folder)
