"""The loop on a toy stage: it learns, stops where it must, goes on where it stopped, and says what it did."""

import json
import logging
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.conftest import Tiny
from tests.unit.training.toy import Stage, ToyModule, open_tiny

from spatia.corpus.corpus import Corpus
from spatia.data.loader import cell_loader
from spatia.errors import CorpusError, SettingsError, TrainingError
from spatia.training import stage_training
from spatia.training.checkpoint import read_checkpoint
from spatia.training.evaluation import Validation
from spatia.training.loop import run_stages
from spatia.training.parallel import make_fabric
from spatia.training.run_folder import RunFolder, read_run
from spatia.training.settings import TrainSettings
from spatia.training.train import run_training, train

VARYING = {"rows_per_s", "memory_bytes"}  # what a line says of the machine


def settings(**values: Any) -> TrainSettings:
    return TrainSettings.model_validate({"accelerator": "cpu", "log_every": 3, "lr": 0.01, **values})


def begin(out: Path, corpora: list[Corpus], chosen: TrainSettings, *, resume: bool = False) -> RunFolder:
    folder = RunFolder(out)
    folder.begin(corpora, chosen, None, resume=resume)
    return folder


def fit(
    out: Path, stages: list[Stage], corpora: list[Corpus], chosen: TrainSettings, *, resume: bool = False
) -> RunFolder:
    folder = begin(out, corpora, chosen, resume=resume)
    fabric = make_fabric(chosen)
    fabric.launch()
    run_stages(stages, folder, chosen, fabric, resume=resume)
    return folder


def lines(folder: RunFolder) -> list[dict[str, Any]]:
    read = [json.loads(line) for line in folder.log.read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in VARYING} for line in read]


def weights(stage: Stage) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in stage.module.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def corpora(tiny_corpus: Tiny) -> list[Corpus]:
    return open_tiny(tiny_corpus.path)


class StopAfter(ToyModule):
    """Behaves as if Ctrl-C were pressed while a batch is computed."""

    stop_at = 7

    def forward(self, batch: Any, epoch: int) -> Any:
        terms = super().forward(batch, epoch)
        if self.training and self.calls == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return terms


def test_the_loss_falls(corpora: list[Corpus], tmp_path: Path) -> None:
    folder = fit(tmp_path / "m", [Stage(corpora, epochs=15)], corpora, settings())
    steps = [line for line in lines(folder) if line["kind"] == "step"]
    validations = [line for line in lines(folder) if line["kind"] == "validation"]
    assert steps[-1]["loss"] < 0.85 * steps[0]["loss"]
    assert validations[-1]["loss"] < validations[0]["loss"]


def test_equal_seeds_are_equal_bit_for_bit(corpora: list[Corpus], tmp_path: Path) -> None:
    stages = [Stage(corpora, dropout=0.3) for _ in range(2)]
    folders = [fit(tmp_path / str(n), [stage], corpora, settings()) for n, stage in enumerate(stages)]
    assert lines(folders[0]) == lines(folders[1])
    assert same(weights(stages[0]), weights(stages[1]))


def test_another_seed_is_another_run(corpora: list[Corpus], tmp_path: Path) -> None:
    folders = [fit(tmp_path / str(s), [Stage(corpora, dropout=0.3)], corpora, settings(seed=s)) for s in (0, 1)]
    assert lines(folders[0]) != lines(folders[1])


def test_a_line_holds_the_means_of_its_steps(corpora: list[Corpus], tmp_path: Path) -> None:
    """With no learning, the line of an epoch does not depend on how the 186 cells were cut into batches."""
    frozen = {"lr": 1e-12, "weight_decay": 0, "log_every": 1000}
    small, large = (
        fit(tmp_path / str(n), [Stage(corpora, epochs=1, batch_cells=n)], corpora, settings(**frozen)) for n in (6, 62)
    )
    one, other = lines(small)[0], lines(large)[0]
    assert one["rows"] == other["rows"] == 186
    assert one["terms"] == pytest.approx(other["terms"], rel=1e-5)
    assert one["loss"] == pytest.approx(one["terms"]["genes"] + 0.5 * one["terms"]["image"])


def test_ctrl_c_and_resume_give_the_unbroken_run(corpora: list[Corpus], tmp_path: Path) -> None:
    whole = Stage(corpora, epochs=3, dropout=0.3)
    expected = fit(tmp_path / "whole", [whole], corpora, settings())
    n_genes = len(whole.loader(0, 1).vocabulary.genes)
    broken = Stage(corpora, epochs=3)
    torch.manual_seed(3)
    broken.module = StopAfter(n_genes, dropout=0.3)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "broken", [broken], corpora, settings())
    saved = read_checkpoint(tmp_path / "broken" / "checkpoint")
    assert saved is not None
    assert saved.state["step"] == StopAfter.stop_at + 1  # the wish came while that step was computed
    resumed = Stage(corpora, epochs=3, dropout=0.3)
    with torch.no_grad():
        resumed.module.genes.weight.fill_(7.0)  # whatever the module begins with, the checkpoint counts
    folder = fit(tmp_path / "broken", [resumed], corpora, settings(), resume=True)
    assert lines(folder) == lines(expected)
    assert same(weights(resumed), weights(whole))


@pytest.mark.parametrize("epoch_of_second", [0, 1])
def test_resume_in_a_later_stage(epoch_of_second: int, corpora: list[Corpus], tmp_path: Path) -> None:
    def two(stop_at: int | None) -> list[Stage]:
        first = Stage(corpora, name="cells", epochs=2, dropout=0.3)
        if stop_at is not None:
            torch.manual_seed(3)
            first.module = StopAfter(first.module.genes.out_features, dropout=0.3)
            first.module.stop_at = stop_at
        return [first, Stage(corpora, name="context", epochs=2, module=first.module)]

    whole = two(None)
    expected = fit(tmp_path / "whole", whole, corpora, settings())
    steps = len(whole[0].loader(0, 1))
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "broken", two(steps * (2 + epoch_of_second) + 2), corpora, settings())
    resumed = two(None)
    folder = fit(tmp_path / "broken", resumed, corpora, settings(), resume=True)
    assert lines(folder) == lines(expected)
    assert same(weights(resumed[0]), weights(whole[0]))
    assert [stage["name"] for stage in folder.facts["stages"]] == ["cells", "context"]


def test_lines_after_the_checkpoint_are_dropped(corpora: list[Corpus], tmp_path: Path) -> None:
    expected = fit(tmp_path / "whole", [Stage(corpora, epochs=1)], corpora, settings())
    folder = fit(tmp_path / "m", [Stage(corpora, epochs=1)], corpora, settings())
    with folder.log.open("a") as log:
        log.write('{"kind": "step", "step": 99, ')  # a process killed while it wrote
    folder = fit(tmp_path / "m", [Stage(corpora, epochs=1)], corpora, settings(), resume=True)
    assert lines(folder) == lines(expected)


def test_a_loss_that_is_not_a_number_stops_the_run(corpora: list[Corpus], tmp_path: Path) -> None:
    stage = Stage(corpora, epochs=2)
    poisoned = Stage(corpora, epochs=2, poison_at=len(stage.loader(0, 1)) + 2)
    with pytest.raises(
        TrainingError,
        match=rf"Stage 'cells', epoch 2, step {len(stage.loader(0, 1)) + 2}: the loss term 'image' is nan "
        r"\(batch of section (left|right|bare)",
    ):
        fit(tmp_path / "m", [poisoned], corpora, settings())
    saved = read_checkpoint(tmp_path / "m" / "checkpoint")
    assert saved is not None
    assert saved.state["training"]["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in saved.tensors["weights"].values())


def test_a_gradient_that_is_infinite_stops_the_run(corpora: list[Corpus], tmp_path: Path) -> None:
    stage = Stage(corpora, epochs=1)
    stage.module.genes.weight.register_hook(lambda gradient: gradient / 0)
    before = weights(stage)
    with pytest.raises(TrainingError, match=r"epoch 1, step 1: the gradient is (nan|inf)"):
        fit(tmp_path / "m", [stage], corpora, settings())
    assert same(weights(stage), before)


def test_the_best_epoch_is_what_remains(corpora: list[Corpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience ends the stage, and the weights are the averaged ones of the best epoch."""
    losses = iter([3.0, 2.0, 2.5, 2.2, 1.0])
    averages: list[dict[str, torch.Tensor]] = []
    validate = stage_training.StageTraining._validate

    def scripted(self: Any, number: int) -> Any:
        averages.append(weights(stage))
        found = validate(self, number)
        return Validation(next(losses), found.terms, found.spread)

    monkeypatch.setattr(stage_training.StageTraining, "_validate", scripted)
    stage = Stage(corpora, epochs=9)
    folder = fit(tmp_path / "m", [stage], corpora, settings(patience=2))
    assert len(averages) == 4
    assert folder.facts["stages"][0]["best_epoch"] == 2
    assert same(weights(stage), averages[1])


def test_a_critic_that_wins_chooses_no_epoch(corpora: list[Corpus], tmp_path: Path) -> None:
    """Its loss is low where the model's is not: it is logged, and left out of what epochs are compared by."""

    class Criticised(ToyModule):
        def forward(self, batch: Any, epoch: int) -> Any:
            terms = super().forward(batch, epoch)
            return {"genes": terms["genes"], "adversarial": terms.get("image", terms["genes"])}

    module = Criticised(len(Stage(corpora).loader(0, 1).vocabulary.genes))
    stage = Stage(corpora, module=module)
    stage.weights = {"genes": 1.0, "adversarial": 2.0}
    folder = fit(tmp_path / "m", [stage], corpora, settings())
    found = [line for line in lines(folder) if line["kind"] == "validation"]
    assert [line["loss"] for line in found] == [line["terms"]["genes"] for line in found]
    assert all(line["terms"]["adversarial"] > 0 for line in found)


def test_validation_leaves_the_training_alone(corpora: list[Corpus], tmp_path: Path) -> None:
    with_, without = (
        fit(tmp_path / str(v), [Stage(corpora, dropout=0.3, validate=v)], corpora, settings()) for v in (True, False)
    )
    steps = [[line for line in lines(folder) if line["kind"] == "step"] for folder in (with_, without)]
    assert steps[0] == steps[1]
    assert [line["loss"] for line in lines(without) if line["kind"] == "validation"] == [None, None]


def test_collapse_is_warned_of(corpora: list[Corpus], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Flat(ToyModule):
        def embedding(self, batch: Any) -> torch.Tensor:
            return torch.ones(len(batch), 8)

    stage = Stage(corpora, epochs=1)
    fit(tmp_path / "fine", [stage], corpora, settings())
    assert "collapsed" not in caplog.text
    stage.module = Flat(stage.module.genes.out_features)
    folder = fit(tmp_path / "flat", [stage], corpora, settings())
    assert "effective rank of 0.0 of 8 dimensions" in caplog.text
    assert "collapsed" in folder.facts["warnings"][0]
    assert folder.facts["stages"][0]["effective_rank"] == 0.0


def test_frozen_parameters_stay(corpora: list[Corpus], tmp_path: Path) -> None:
    stage = Stage(corpora, epochs=1)
    stage.module.model.first.requires_grad_(False)
    before = weights(stage)
    fit(tmp_path / "m", [stage], corpora, settings())
    after = weights(stage)
    assert torch.equal(before["model.first.weight"], after["model.first.weight"])
    assert not torch.equal(before["genes.weight"], after["genes.weight"])


def test_nothing_to_train_is_refused(corpora: list[Corpus], tmp_path: Path) -> None:
    stage = Stage(corpora)
    stage.module.requires_grad_(False)
    with pytest.raises(TrainingError, match="no parameter has requires_grad"):
        fit(tmp_path / "m", [stage], corpora, settings())


def test_bfloat16_learns_too(corpora: list[Corpus], tmp_path: Path) -> None:
    folder = fit(tmp_path / "m", [Stage(corpora, epochs=10)], corpora, settings(precision="bf16-mixed"))
    steps = [line for line in lines(folder) if line["kind"] == "step"]
    assert steps[-1]["loss"] < steps[0]["loss"]


def test_tensorboard(corpora: list[Corpus], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    folder = fit(tmp_path / "m", [Stage(corpora, epochs=1)], corpora, settings(tensorboard=True))
    assert list((folder.path / "tensorboard").glob("events*"))


def test_run_json_says_everything(corpora: list[Corpus], tmp_path: Path) -> None:
    folder = fit(tmp_path / "m", [Stage(corpora, epochs=1)], corpora, settings(seed=4))
    run = read_run(folder.path)
    assert run is not None
    assert run["settings"]["lr"] == 0.01
    assert run["seed"] == 4
    assert run["corpora"][0]["corpus_id"] == corpora[0].corpus_id
    assert {"spatia", "torch", "numpy"} <= set(run["versions"])
    assert run["machine"]["cores"] >= 1
    assert run["peak_memory_bytes"] > 1e6
    assert run["steps"] == lines(folder)[-1]["step"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"lr": 0.02}, r"lr was 0.01, is 0.02"), ({"weights": {"genes": 2.0}}, r"weights.genes was 1.0, is 2.0")],
)
def test_resume_refuses_other_settings(
    changed: dict[str, Any], said: str, corpora: list[Corpus], tmp_path: Path
) -> None:
    begin(tmp_path / "m", corpora, settings())
    with pytest.raises(TrainingError, match=said):
        begin(tmp_path / "m", corpora, settings(**changed), resume=True)


def test_resume_takes_settings_that_change_no_number(corpora: list[Corpus], tmp_path: Path) -> None:
    begin(tmp_path / "m", corpora, settings())
    begin(tmp_path / "m", corpora, settings(checkpoint_every_s=1.0, tensorboard=True), resume=True)


def test_resume_refuses_other_corpora(corpora: list[Corpus], tiny_knn_corpus: Tiny, tmp_path: Path) -> None:
    begin(tmp_path / "m", corpora, settings())
    with pytest.raises(TrainingError, match=r"corpora were .*\(id \w{8}\), are .*knn.*\(id \w{8}\)"):
        begin(tmp_path / "m", open_tiny(tiny_knn_corpus.path), settings(), resume=True)


def test_resume_refuses_a_split_made_anew(tiny_corpus: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "corpus"
    shutil.copytree(tiny_corpus.path, path)
    chosen = settings(split="block")
    begin(tmp_path / "m", open_tiny(path), chosen)
    begin(tmp_path / "m", open_tiny(path), chosen, resume=True)
    file = path / "splits" / "block.json"
    split = json.loads(file.read_text())
    parts = split["parts"]
    parts["train"], parts["test"] = parts["test"], parts["train"]
    file.write_text(json.dumps(split))
    with pytest.raises(TrainingError, match=r"cannot resume, .*: split 'block' was made anew since"):
        begin(tmp_path / "m", open_tiny(path), chosen, resume=True)


def test_a_wrong_split_or_part_is_refused_before_anything_is_made(corpora: list[Corpus], tmp_path: Path) -> None:
    for values, said in (
        ({"split": "blok"}, "no split 'blok'"),
        ({"split": "block", "part": "tran"}, "no part 'tran'"),
        ({"split": "block", "validation_part": "validate"}, r"no part 'validate'\. Its parts: train, margin, test"),
    ):
        with pytest.raises(CorpusError, match=said):
            train(corpora, tmp_path / "m", settings(**values))
    assert not (tmp_path / "m").exists()


def test_a_run_is_not_overwritten(corpora: list[Corpus], tmp_path: Path) -> None:
    begin(tmp_path / "m", corpora, settings())
    with pytest.raises(SettingsError, match=r"holds a training run already \(running\)\. Continue it with --resume"):
        begin(tmp_path / "m", corpora, settings())


def test_another_folder_is_not_touched(corpora: list[Corpus], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(SettingsError, match="is not empty, and no training run"):
        begin(tmp_path, corpora, settings())


def test_resume_where_nothing_was_begins(corpora: list[Corpus], tmp_path: Path) -> None:
    folder = fit(tmp_path / "m", [Stage(corpora, epochs=1)], corpora, settings(), resume=True)
    assert lines(folder)


def test_resume_refuses_another_number_of_processes(
    corpora: list[Corpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fit(tmp_path / "m", [Stage(corpora, epochs=1)], corpora, settings())
    fabric = make_fabric(settings())
    monkeypatch.setattr(type(fabric), "world_size", 2)
    with pytest.raises(TrainingError, match=r"written by 1 process\(es\), but there are 2"):
        run_stages([Stage(corpora)], folder, settings(), fabric, resume=True)


def fail_before_the_first_save(folder: RunFolder) -> None:
    """Leave run.json as `run_training` does where making the stages fails."""
    folder.write(status="failed", error="SettingsError: a disk was not there")


def test_a_resumed_run_that_fails_at_once_is_still_the_run_it_was(corpora: list[Corpus], tmp_path: Path) -> None:
    before = fit(tmp_path / "m", [Stage(corpora, epochs=1)], corpora, settings()).facts
    assert before["steps"] > 0
    folder = begin(tmp_path / "m", corpora, settings(), resume=True)
    for name in ("started", "seconds", "steps", "stages", "warnings", "peak_memory_bytes"):
        assert folder.facts[name] == before[name], name
    fail_before_the_first_save(folder)
    with pytest.raises(SettingsError, match=r"holds a training run already \(failed\)"):
        begin(tmp_path / "m", corpora, settings())
    with pytest.raises(TrainingError, match=r"lr was 0.01, is 0.02"):
        begin(tmp_path / "m", corpora, settings(lr=0.02), resume=True)


def test_a_failed_run_with_a_checkpoint_is_not_new_whatever_it_says(corpora: list[Corpus], tmp_path: Path) -> None:
    """Versions before this one wrote 0 steps into a resumed run."""
    folder = fit(tmp_path / "m", [Stage(corpora, epochs=1)], corpora, settings())
    folder.write(status="failed", steps=0)
    with pytest.raises(SettingsError, match="holds a training run already"):
        begin(tmp_path / "m", corpora, settings())


def test_a_run_that_failed_before_anything_was_trained_may_begin_anew(corpora: list[Corpus], tmp_path: Path) -> None:
    fail_before_the_first_save(begin(tmp_path / "m", corpora, settings()))
    folder = begin(tmp_path / "m", corpora, settings(lr=0.02), resume=True)
    assert folder.facts["resumed"] == []
    assert folder.facts["settings"]["lr"] == 0.02


def test_a_run_killed_after_its_last_checkpoint_says_what_it_did(corpora: list[Corpus], tmp_path: Path) -> None:
    class Flat(ToyModule):
        def embedding(self, batch: Any) -> torch.Tensor:
            return torch.ones(len(batch), 8)

    def stage() -> Stage:
        made = Stage(corpora, epochs=1)
        made.module = Flat(made.module.genes.out_features)
        return made

    folder = fit(tmp_path / "m", [stage()], corpora, settings())
    before, written = dict(folder.facts), lines(folder)
    assert len(before["warnings"]) == len(before["stages"]) == 1
    folder.write(steps=0, stages=[], warnings=[], peak_memory_bytes=1 << 60)  # killed between checkpoint and run.json
    folder = fit(tmp_path / "m", [stage()], corpora, settings(), resume=True)
    for name in ("steps", "stages", "warnings"):
        assert folder.facts[name] == before[name], name
    assert folder.facts["peak_memory_bytes"] == 1 << 60
    assert lines(folder) == written


def test_a_run_of_no_epoch_finishes(corpora: list[Corpus], tmp_path: Path) -> None:
    out = run_training(corpora, tmp_path / "m", settings(), lambda _: [Stage(corpora, epochs=0)], lambda *_: None)
    run = read_run(out)
    assert run is not None
    assert (run["status"], run["steps"]) == ("finished", 0)


def test_a_split_without_a_validation_part_is_said(
    corpora: list[Corpus], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The usual one may be absent, as in a split of two donors; one that was asked for may not."""
    said = []
    for name in ("validation", "test"):
        chosen = settings(split="block", validation_part=name)
        with caplog.at_level(logging.WARNING, logger="spatia"):
            run_training(corpora, tmp_path / name, chosen, lambda _: [Stage(corpora, epochs=0)], lambda *_: None)
        said.append("no cell is in part 'validation' of split 'block': nothing chooses the best epoch" in caplog.text)
        caplog.clear()
    assert said == [True, False]


def test_without_an_embedding_no_batch_is_read_to_watch_it(corpora: list[Corpus], tmp_path: Path) -> None:
    class Plain(torch.nn.Module):
        def __init__(self, toy: ToyModule) -> None:
            super().__init__()
            self.toy = toy

        def forward(self, batch: Any, epoch: int) -> Any:
            return self.toy(batch, epoch)

    stage = Stage(corpora, epochs=2, validate=False)
    stage.module = Plain(stage.module)
    opened, open_loader = [], stage.loader
    stage.loader = lambda *ranks: opened.append(ranks) or open_loader(*ranks)  # type: ignore[method-assign, func-returns-value]
    folder = fit(tmp_path / "m", [stage], corpora, settings())
    assert len(opened) == 1
    assert folder.facts["stages"][0]["effective_rank"] is None


def test_a_rank_without_validation_rows_takes_part(corpora: list[Corpus], tmp_path: Path) -> None:
    stage = Stage(corpora, epochs=1)
    many = {"shuffle": False, "split": "block", "part": "test", "rank": 0, "world_size": 10_000}
    stage.validation = lambda *_: cell_loader(corpora, batch_size=5, **many)  # type: ignore[method-assign]
    assert len(stage.validation(0, 1)) == 0
    folder = fit(tmp_path / "m", [stage], corpora, settings())
    assert lines(folder)[-1]["loss"] is None
