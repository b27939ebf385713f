"""Scores of generated cells on a tiny corpus: what must be perfect, what must be worse, and what is refused."""

import json
from inspect import signature
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tests.unit.conftest import TinySection, write_corpus

from spatia.cli.evaluate_generation import evaluate_generation as command
from spatia.corpus.corpus import Corpus
from spatia.errors import SettingsError, SpatiaError
from spatia.tasks.evaluate_generation import Evaluation, evaluate_generation
from spatia.tasks.generated_cells import CellIndex
from spatia.tasks.generation_reference import EvaluationSettings, Reference
from spatia.tasks.generation_table import evaluation_text
from spatia.tasks.seen import saw_test_cells

pytestmark = pytest.mark.filterwarnings("ignore:Transforming to str index")
CHANNELS = ("DAPI", "boundary")
SETTINGS = EvaluationSettings(split="block", resamples=20)


@pytest.fixture(scope="module")
def corpus(tiny_corpus) -> Corpus:
    return Corpus.open(tiny_corpus.path)


@pytest.fixture(scope="module")
def index(corpus: Corpus) -> CellIndex:
    return CellIndex.of(corpus)


@pytest.fixture(scope="module")
def test_rows(index: CellIndex) -> np.ndarray:
    return index.with_image(index.part("block", "test"), CHANNELS)


@pytest.fixture(scope="module")
def reference(corpus: Corpus) -> Reference:
    return Reference(corpus, SETTINGS, labels="cell_type")


def test_the_device_is_chosen_where_there_is_a_gpu_and_else_the_cpu(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert signature(command).parameters["device"].default == "auto"
    for there, expected in ((True, "cuda:0"), (False, "cpu")):
        monkeypatch.setattr("torch.cuda.is_available", lambda there=there: there)
        monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
        monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
        assert str(Reference(corpus, SETTINGS, device="auto").device) == expected


def store(index: CellIndex, rows: np.ndarray, images: np.ndarray, **facts) -> ad.AnnData:
    obs = pd.DataFrame({"cell_id": index.cell_ids[rows], "sample": index.samples[rows], "draw": 0})
    transition = facts.pop("transition", None)
    if transition is not None:
        obs["transition"] = transition
    obs.index = obs.index.astype(str)
    table = ad.AnnData(obs=obs)
    table.obsm["single_cell_images"] = images
    level = index.corpus.levels[index.level]
    table.uns["spatia"] = {
        "synthetic": True,
        "task": "expression-to-image" if transition is None else "transition",
        "channels": list(CHANNELS),
        "um_per_px": level.um_per_px,
    } | facts
    return table


@pytest.fixture(scope="module")
def real(index: CellIndex, test_rows: np.ndarray) -> np.ndarray:
    return index.images(test_rows, CHANNELS)


@pytest.fixture(scope="module")
def perfect(index: CellIndex, test_rows: np.ndarray, real: np.ndarray, reference: Reference) -> Evaluation:
    return evaluate_generation(store(index, test_rows, real), reference)


def test_the_real_cells_themselves_are_perfect(perfect: Evaluation, test_rows: np.ndarray) -> None:
    (group,) = perfect.groups
    scores = group.rows["generated"]
    space = scores.spaces["morphology"]
    assert (scores.n, scores.n_real) == (len(test_rows), len(test_rows))
    assert space.frechet.value == pytest.approx(0, abs=1e-6)
    assert space.kid.value <= 0
    assert space.manifold["precision"].value == space.manifold["coverage"].value == 1
    assert scores.features.mean_wasserstein.value == pytest.approx(0, abs=1e-9)
    assert group.pairs.error["morphology"].value == pytest.approx(0, abs=1e-6)
    assert group.pairs.recognised["morphology"].value > 0.95
    assert group.pairs.pixel_rmse.value == 0 < group.pairs.pixel_rmse_of_others.value
    assert group.memorisation["pixels"].nearer.value == pytest.approx(0.5)


def test_order_changes_nothing(
    perfect: Evaluation, index: CellIndex, test_rows: np.ndarray, real: np.ndarray, reference: Reference
) -> None:
    shuffle = np.random.default_rng(0).permutation(len(test_rows))
    again = evaluate_generation(store(index, test_rows[shuffle], real[shuffle]), reference)
    for name, one in perfect.groups[0].rows.items():
        other = again.groups[0].rows[name]
        for side in ("frechet", "kid"):
            left, right = (getattr(row.spaces["morphology"], side) for row in (one, other))
            assert (left.value, left.low, left.high) == pytest.approx((right.value, right.low, right.high), abs=1e-8)


def test_noise_and_wrong_cells_score_worse(
    perfect: Evaluation, index: CellIndex, test_rows: np.ndarray, real: np.ndarray, reference: Reference
) -> None:
    noise = np.random.default_rng(0).normal(0, 60, real.shape)
    noisy = np.clip(real + noise, 0, 255).astype(np.uint8)
    wrong = np.roll(real, 11, axis=0)
    one = evaluate_generation(
        store(index, test_rows, noisy), reference, shuffled=store(index, test_rows, wrong, shuffled=True)
    )
    good, bad, shuffled = perfect.groups[0], one.groups[0], one.shuffled[0]
    assert bad.rows["generated"].spaces["morphology"].frechet.low > 1
    assert bad.rows["generated"].features.mean_wasserstein.low > 0.15
    # the same cells in another order: no distance between sets sees it, the pairs do
    assert shuffled.rows["generated"].spaces["morphology"].frechet.value == pytest.approx(0, abs=1e-6)
    assert shuffled.pairs.error["morphology"].low > good.pairs.error["morphology"].value
    assert shuffled.pairs.recognised["morphology"].value < 0.7


def test_only_the_same_cells_told_of_others_are_called_shuffled(
    index: CellIndex, test_rows: np.ndarray, real: np.ndarray, reference: Reference
) -> None:
    own = store(index, test_rows, real, generator="g1")
    for rows, facts, said in (
        (
            test_rows,
            {"generator": "g1"},
            r"\['shuffled'\] is not set, so its cells were told what is known of themselves",
        ),
        (test_rows, {"generator": "g2", "shuffled": True}, "drawn by generator g2, the generated cells by g1"),
        (test_rows[1:], {"generator": "g1", "shuffled": True}, "0 are not there, 1 are only there; first: .'left'"),
    ):
        other = store(index, rows, index.images(rows, CHANNELS), **facts)
        with pytest.raises(SettingsError, match=said):
            evaluate_generation(own, reference, shuffled=other)


def test_a_label_of_few_training_cells_is_left_out_alone(
    corpus: Corpus, index: CellIndex, test_rows: np.ndarray, real: np.ndarray
) -> None:
    training = index.with_image(index.part("block", "train"), CHANNELS)
    label = np.array(["even", "odd"], object)[np.arange(len(index.cell_ids)) % 2]
    plain = pd.DataFrame({"cell_id": index.cell_ids, "sample": index.samples, "label": label})
    label = label.copy()
    label[training[:2]] = label[test_rows[:3]] = "rare"
    rare = plain.assign(label=label)
    found = []
    for table in (plain, rare):
        one = evaluate_generation(store(index, test_rows, real), Reference(corpus, SETTINGS, labels=table))
        found.append(one.groups[0].rows["generated"].state["morphology"])
    assert any("left out of 'state recognised', and their cells with them: rare" in text for text in one.warnings)
    assert found[1].n_generated == found[0].n_generated - 3


def test_every_number_is_printed_with_n_interval_and_extractor(perfect: Evaluation) -> None:
    content = json.loads(json.dumps(perfect.to_json(), allow_nan=False))
    row = content["groups"][0]["rows"]["generated"]
    for name in ("frechet", "kid", "precision", "recall", "density", "coverage"):
        assert set(row["extractors"]["morphology"][name]) == {"value", "low", "high", "n_generated", "n_real"}
    assert content["settings"]["split"] == "block"
    text = evaluation_text(perfect)
    assert "morphology: nucleus, stain and texture measured from the pixels, without a mask" in text
    assert "real training cells" in text
    assert "20 resamples" in text


def test_a_transition_to_the_real_targets_has_the_real_shift(index: CellIndex, corpus: Corpus) -> None:
    rows = index.with_image(np.arange(len(index.samples)), CHANNELS)
    picture = index.images(rows, CHANNELS)[:, 0, 4, 4]
    label = np.where(picture > np.median(picture), "bright", "dark")
    table = pd.DataFrame({"sample": index.samples[rows], "cell_id": index.cell_ids[rows], "label": label})
    reference = Reference(corpus, EvaluationSettings(resamples=20), labels=table)
    dark, bright_rows = rows[label == "dark"][:30], rows[label == "bright"]
    rng = np.random.default_rng(0)
    drawn = index.images(rng.choice(bright_rows, len(dark)), CHANNELS)
    one = evaluate_generation(store(index, dark, drawn, transition="dark→bright"), reference)
    (group,) = one.groups
    assert group.name == "dark→bright"
    assert group.shift is not None
    assert group.shift.correlation.value > 0.9
    assert group.rows["generated"].state["morphology"].value > 0.8
    unchanged = group.rows["source cells, unchanged"]
    assert unchanged.state["morphology"].value < 0.2
    assert unchanged.features.mean_wasserstein.value > group.rows["generated"].features.mean_wasserstein.value
    assert any("No split was given" in text for text in one.warnings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.uns["spatia"].pop("synthetic"), r"'synthetic'\] is not set, so these are not generated images"),
        (lambda t: t.uns["spatia"].pop("channels"), r"no uns\['spatia'\]\['channels'\]"),
        (lambda t: t.obs.pop("cell_id"), r"no obs\['cell_id'\]"),
        (
            lambda t: t.obs.__setitem__("cell_id", "nobody"),
            r"cells are not in .*; first: sample 'left', cell_id 'nobody'",
        ),
        (lambda t: t.uns["spatia"].update(um_per_px=1.0), r"images of 8 × 8 px at 1 µm/px; the crops of"),
        (lambda t: t.uns["spatia"].update(channels=["DAPI", "PolyT"]), r"channel 'PolyT' is not in section 'left'"),
        (lambda t: t.uns["spatia"].update(level="niche"), r"images of the level 'niche'"),
        (lambda t: t.uns["spatia"].update(task="transition"), r"no obs\['transition'\]"),
    ],
)
def test_a_store_that_does_not_fit_is_refused(
    index: CellIndex, test_rows: np.ndarray, real: np.ndarray, reference: Reference, change, message: str
) -> None:
    table = store(index, test_rows, real)
    change(table)
    with pytest.raises(SpatiaError, match=message):
        evaluate_generation(table, reference)


def test_settings_may_be_given_by_name(
    corpus: Corpus, index: CellIndex, test_rows: np.ndarray, real: np.ndarray, perfect: Evaluation
) -> None:
    table = store(index, test_rows, real)
    named = evaluate_generation(table, corpus, labels="cell_type", **SETTINGS.model_dump(exclude_unset=True))
    assert named.to_json() == perfect.to_json()
    with pytest.raises(SettingsError, match="settings and split: give one or the other"):
        evaluate_generation(table, corpus, SETTINGS, split="block")


def test_cells_outside_the_part_and_too_few_cells_are_refused(
    index: CellIndex, test_rows: np.ndarray, real: np.ndarray, reference: Reference
) -> None:
    few = store(index, test_rows[:5], real[:5])
    with pytest.raises(SettingsError, match=r"5 cells and 5 real cells to compare with; at least 20"):
        evaluate_generation(few, reference)
    training = index.with_image(index.part("block", "train"), CHANNELS)[:25]
    table = store(index, training, index.images(training, CHANNELS))
    with pytest.raises(SettingsError, match=r"25 of 25 cells are not in part 'test' of split 'block'"):
        evaluate_generation(table, reference)


def test_a_model_that_saw_the_test_cells_is_found_out(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spatia.corpus.sketch.LEAST_COUNTS", 1)  # the tiny corpus has few molecules
    assert not saw_test_cells(tmp_path, corpus, "block", "test").certain  # no run.json

    def trained(
        split: str | None,
        part: str = "train",
        corpus_id: str = corpus.corpus_id,
        cells: list[str] | None = None,
        start: str | None = None,
        parts: str | None = None,
    ) -> str | None:
        run = {
            "format": "spatia-run",
            "format_version": 1,
            "corpora": [
                {"corpus_id": corpus_id, "path": "elsewhere", "cells": {"same": cells or []}, "split_sha256": parts}
            ],
            "settings": {"split": split, "part": part},
            "start_from": start,
        }
        (tmp_path / "run.json").write_text(json.dumps(run))
        return saw_test_cells(tmp_path, corpus, "block", "test").problem

    assert trained("block") is None
    assert trained("block", parts=corpus.split("block").digest) is None
    assert "split 'block' before that was made anew" in str(trained("block", parts="0" * 64))
    assert trained(None, corpus_id="another") is None
    again = next(iter(corpus.sections.values())).sketch
    assert "section same of elsewhere, which holds cells of" in str(trained(None, corpus_id="another", cells=again))
    assert "was trained on all cells" in str(trained(None))
    assert "which is what it is to judge" in str(trained("block", "test"))
    # what it started from may have seen every cell, also where the corpus is its own
    assert "was trained from elsewhere, of which nothing is known" in str(trained("block", start="elsewhere"))
    assert not saw_test_cells(tmp_path, corpus, "block", "test").certain
    assert "evaluated is split 'block'" in str(trained("donor"))
    with pytest.raises(SettingsError, match=r"evaluated is split 'block'.*--force"):
        Reference(corpus, SETTINGS, model=tmp_path)


def test_labels_of_other_cells_are_refused(corpus: Corpus) -> None:
    with pytest.raises(SettingsError, match=r"no column label"):
        Reference(corpus, SETTINGS, labels=pd.DataFrame({"cell_id": ["x"]}))
    with pytest.raises(SettingsError, match=r"none of its cells"):
        Reference(corpus, SETTINGS, labels=pd.DataFrame({"cell_id": ["x"], "label": ["y"]}))


def test_niches_are_compared_with_the_niches_of_the_part(tmp_path: Path) -> None:
    """The real ones are perfect, those of another order are not their own, and cells are not taken for niches."""
    corpus = Corpus.open(
        write_corpus(tmp_path / "corpus", (TinySection("left", 1, ("A", "B"), CHANNELS, n_windows=24),))
    )
    index = CellIndex.of(corpus, "niche")
    wanted, training = (index.with_image(index.part("block", part), CHANNELS) for part in ("test", "train"))
    assert len(wanted) >= 20
    assert not set(wanted) & set(training)
    section = corpus.section(str(index.samples[wanted[0]]))
    stop = section.niches.read("obs/cell_stop", 0, section.n_rows("niche"))[wanted[0] - index.starts[section.sample]]
    ranges = corpus.split("block").ranges("test", section.sample)
    assert any(a < stop <= b for a, b in ranges)
    reference = Reference(corpus, SETTINGS.model_copy(update={"level": "niche"}))
    pictures = index.images(wanted, CHANNELS)
    found = evaluate_generation(store(index, wanted, pictures, level="niche"), reference)
    scores = found.groups[0].rows["generated"]
    assert scores.spaces["morphology"].frechet.value == pytest.approx(0, abs=1e-6)
    assert scores.features.mean_wasserstein.value == pytest.approx(0, abs=1e-9)
    assert found.features[0] == "nuclei"
    turned = evaluate_generation(store(index, wanted, pictures[::-1].copy(), level="niche"), reference)
    assert turned.groups[0].pairs.pixel_rmse.value > found.groups[0].pairs.pixel_rmse.value == 0
    with pytest.raises(SettingsError, match=r"images of the level 'cell'; expected 'niche'\. Give --level cell"):
        evaluate_generation(store(index, wanted, pictures, level="cell"), reference)
    with pytest.raises(SettingsError, match="level=niche: our image encoder sees single cells"):
        Reference(corpus, SETTINGS.model_copy(update={"level": "niche"}), model="model")


def test_copies_of_training_cells_are_told_by_a_classifier_that_has_not_seen_them(
    corpus: Corpus, index: CellIndex, test_rows: np.ndarray
) -> None:
    rng = np.random.default_rng(0)
    label = rng.choice(["a", "b"], len(index.cell_ids))  # nothing in an image tells them, so what is told is remembered
    table = pd.DataFrame({"cell_id": index.cell_ids, "sample": index.samples, "label": label})
    reference = Reference(corpus, SETTINGS, labels=table)
    training = index.with_image(index.part("block", "train"), CHANNELS)
    copied = np.array([rng.choice(training[label[training] == label[row]]) for row in test_rows])
    images = index.images(copied, CHANNELS)
    (group,) = evaluate_generation(store(index, test_rows, images), reference).groups
    (once_more,) = evaluate_generation(store(index, test_rows, images ^ 1), reference).groups  # no longer copies
    assert group.rows["generated"].state["morphology"].value < 0.62
    assert group.rows["real training cells"].state["morphology"].value < 0.62
    assert (
        once_more.rows["generated"].state["morphology"].value > group.rows["generated"].state["morphology"].value + 0.1
    )
