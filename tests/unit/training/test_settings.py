"""Settings come from a file, options and single lines; what is wrong with them is said."""

from pathlib import Path

import pytest

from spatia.config import flatten
from spatia.errors import SettingsError, TrainingError
from spatia.generation.settings import GeneratorConfig
from spatia.training.generator_settings import GeneratorSettings
from spatia.training.run_folder import _refuse_other
from spatia.training.settings import FREE_ON_RESUME, TrainSettings, read_settings


def test_the_later_wins(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("lr: 0.1\nbatch_cells: 7\nepochs: {cells: 3, context: 4}\nweights:\n  image: 2\n")
    base = {"seed": 5, "lr": 0.5, "weights": {"genes": 3.0}}
    settings = read_settings(file, ["epochs.cells=9", "lr=1e-3"], {"batch_cells": 8}, base=base)
    assert (settings.seed, settings.lr, settings.batch_cells) == (5, 1e-3, 8)
    assert (settings.epochs.cells, settings.epochs.context) == (9, 4)
    assert (settings.weights.genes, settings.weights.image) == (3.0, 2.0)
    assert base == {"seed": 5, "lr": 0.5, "weights": {"genes": 3.0}}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("lr", r"--set 'lr': expected NAME=VALUE"),
        ("=3", "expected NAME=VALUE"),
        ("epochs..cells=3", "expected NAME=VALUE"),
        ("epochs.cels=3", r"unknown setting 'epochs.cels', did you mean 'cells'\?"),
        ("weights.genes=-1", "weights.genes is -1: input should be greater than or equal to 0"),
        ("preset=huge", "preset is 'huge'"),
        ("lr=[", "is not valid YAML"),
        ("epochs=3", "epochs is 3"),
        ("masking.image=[75,0]", r"masking.image.0 is 75: input should be less than or equal to 1"),
        ("masking.image=[-1]", r"masking.image.0 is -1: input should be greater than or equal to 0"),
        ("masking.all_image=0.7", r"masking.all_image=0.7 and masking.all_genes=0.35: together they are above 1"),
    ],
)
def test_a_wrong_line_is_named(line: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read_settings(overrides=[line])


OF_PAIRS = {"task": "transition"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"network": {"layers": 6, "levels": 4}}, r"network.layers=6 with network.levels=4: .* Take 4 or 8 layers"),
        ({"solver": {"kind": "adaptive", "early": 3.0}}, r"solver.early=3 with solver.kind=adaptive: it chooses"),
        ({"network": {"layers": 2, "levels": 4}}, None),
        ({"network": {"layers": 8, "levels": 4}}, None),
        ({"network": {"layers": 6, "levels": 4, "kind": "transformer"}}, None),
        ({"solver": {"kind": "adaptive"}}, None),
        ({"gamma": 3.0}, "gamma=3.0 says nothing: coupling=noise weighs no pair by its confidence. Leave gamma out"),
        ({**OF_PAIRS, "coupling": "ot", "gamma": 3.0}, "gamma=3.0 says nothing: coupling=ot"),
        ({**OF_PAIRS, "coupling": "ot-confidence", "gamma": 3.0}, None),
        ({"aim_cells": 5}, "aim_cells=5 says nothing: task=expression-to-image is no edit"),
        ({**OF_PAIRS, "coupling": "ot", "aim_cells": 5}, "aim_cells=5 says nothing: coupling=ot is no edit"),
        ({"aim_cells": 0, "weights": {"displacement": 0.0}}, None),
        ({**OF_PAIRS, "aim_cells": 5, "weights": {"displacement": 1.0}}, None),
        ({"weights": {"displacement": 1.0}}, "weights.displacement=1.0 says nothing"),
        ({"network": {"kind": "transformer", "fold": 4}}, "network.fold=4 says nothing: .* folds no pixels"),
        ({"network": {"kind": "transformer", "levels": 3}}, "network.levels=3 says nothing"),
        ({"network": {"patch_px": 4}}, "network.patch_px=4 says nothing: network.kind=unet cuts no patches"),
        ({"network": {"stem": 8}}, "network.stem=8 says nothing"),
        ({"network": {"kind": "transformer", "patch_px": 4, "stem": 8}}, None),
        ({"network": {"fold": 4, "levels": 2}}, None),
        ({**OF_PAIRS, "solver": {"kind": "adaptive"}}, "solver.kind=adaptive says nothing: an edit"),
        ({**OF_PAIRS, "solver": {"evaluations": 5}}, None),  # of all generators of a benchmark
        (
            {**OF_PAIRS, "coupling": "self", "path": {"kind": "step", "time_mean": 2.0}},
            "path.time_mean=2.0 says nothing: an edit",
        ),
        ({"path": {"time_mean": 2.0}}, None),
    ],
)
def test_what_would_not_be_used_is_refused(values: dict[str, object], said: str | None) -> None:
    """In training alone: generators that were trained with it are read and drawn with as before."""
    stored = {name: value for name, value in values.items() if name in GeneratorConfig.model_fields}
    GeneratorConfig.model_validate(stored)
    if said is None:
        GeneratorSettings.model_validate(values)
        return
    with pytest.raises(SettingsError, match=said):
        GeneratorSettings.model_validate(values)


def test_a_run_that_began_with_what_says_nothing_may_be_resumed() -> None:
    before = {**GeneratorSettings().model_dump(mode="json"), "gamma": 3.0, "aim_cells": 5}
    assert GeneratorSettings.model_validate(before).gamma == 3


def test_guidance_is_refused_where_no_row_is_told_nothing() -> None:
    values = {"guidance": 2.0, "drop": {"each": 0.1, "all": 0.0}}
    with pytest.raises(
        SettingsError, match=r"guidance=2 with drop.all=0: .* and 0.001 of the rows are such. Set drop.all to 0.01"
    ):
        GeneratorSettings.model_validate(values)
    assert GeneratorSettings.model_validate({**values, "drop": {}}).guidance == 2
    assert GeneratorSettings.model_validate({**values, "conditions": ("genes",)}).guidance == 2  # hidden of a tenth


@pytest.mark.parametrize(
    ("content", "said"), [("- 1", "expected settings by name"), ("a: [", "not valid YAML"), ("lrr: 1", "mean 'lr'")]
)
def test_a_wrong_file_is_named(content: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(content)
    with pytest.raises(SettingsError, match=said) as caught:
        read_settings(file)
    assert "s.yaml" in str(caught.value)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"s.yaml: cannot be read \(No such file"):
        read_settings(tmp_path / "s.yaml")


def test_settings_survive_json() -> None:
    settings = read_settings(overrides=["epochs.cells=1", "devices=2"])
    assert TrainSettings.model_validate(settings.model_dump(mode="json")) == settings
    _refuse_other(Path("m"), _run(settings), _run(TrainSettings.model_validate(settings.model_dump(mode="json"))))


def test_what_is_free_on_resume_is_a_setting() -> None:
    assert set(flatten(TrainSettings().model_dump())) >= FREE_ON_RESUME


def _run(settings: TrainSettings, **inputs: str) -> dict[str, object]:
    return {"settings": settings.model_dump(mode="json"), "corpora": [], "start_from": None, "inputs": inputs}


def test_a_run_is_not_resumed_with_more_or_with_fewer_inputs() -> None:
    settings = TrainSettings()
    less, more = _run(settings, model="m"), _run(settings, model="m", start_from="0123456789abcdef")
    _refuse_other(Path("g"), more, more)
    with pytest.raises(TrainingError, match=r"start_from was 0123456789ab…, is none\."):
        _refuse_other(Path("g"), more, less)
    with pytest.raises(TrainingError, match="start_from was none, is 0123456789ab…"):
        _refuse_other(Path("g"), less, more)


def test_a_term_that_nothing_would_read_is_refused() -> None:
    untrained = {"epochs": {"proxy": 0}}
    with pytest.raises(
        SettingsError, match=r"epochs.proxy=0 with weights.morphology=0.05: .* Set weights.morphology=0"
    ):
        GeneratorSettings.model_validate(untrained)
    GeneratorSettings.model_validate({**untrained, "weights": {"morphology": 0}})
    GeneratorSettings.model_validate({**untrained, "task": "transition"})  # an edit has no proxy


def test_steps_of_an_edit_and_of_a_flow_unless_they_are_given() -> None:
    def steps(**values: object) -> tuple[int, float]:
        found = GeneratorSettings.model_validate(values)
        return found.batch, found.lr

    assert steps(task="transition") == (16, 1e-3)
    assert steps() == steps(task="transition", coupling="ot") == (8, 2e-3)
    assert steps(task="transition", batch=4) == (4, 1e-3)


def test_a_stage_that_nothing_would_teach_is_refused() -> None:
    off = ["weights.niche=0", "weights.tissue=0"]
    with pytest.raises(
        SettingsError, match=r"weights.niche, weights.tissue are all 0: stage 'context' .* epochs.context=0"
    ):
        read_settings(overrides=off)
    assert read_settings(overrides=[*off, "epochs.context=0"]).weights.niche == 0
    with pytest.raises(SettingsError, match="stage 'cells' has nothing to learn from"):
        read_settings(overrides=[f"weights.{name}=0" for name in ("genes", "image", "contrastive", "morphology")])
