"""Whether a model was trained on the cells that it is to judge: what its folder says of that."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spatia.corpus.corpus import Corpus
from spatia.corpus.same_cells import known_again
from spatia.errors import ModelError, TrainingError
from spatia.log import logger
from spatia.models.checkpoint import read_description
from spatia.models.shipped import model_folder
from spatia.training.run_folder import read_run


@dataclass(frozen=True)
class Seen:
    """What a model folder says about cells it was trained on.

    Attributes
    ----------
    problem
        Why its scores on the test cells may be too good; None where they were not seen.
    certain
        False where it is not known.
    """

    problem: str | None
    certain: bool


def saw_test_cells(folder: Path, corpus: Corpus, split: str | None, part: str) -> Seen:
    """Find out from ``run.json`` whether a model was trained on the cells it is to judge."""
    try:
        run: dict[str, Any] | None = read_run(folder)
    except TrainingError as error:
        return Seen(str(error), certain=False)
    if run is None:
        return _saw_by_description(folder, corpus)
    if same := [one for one in run["corpora"] if one["corpus_id"] == corpus.corpus_id]:
        if problem := _overlap(run["settings"], same[0], corpus, split, part):
            return Seen(f"{folder}: {problem}", certain=True)
    elif again := known_again(run["corpora"], corpus):
        return Seen(f"{folder}: was trained on {again}, so it may have seen the cells it is to judge", certain=True)
    if run.get("start_from") is not None:
        return Seen(f"{folder}: was trained from {run['start_from']}, of which nothing is known", certain=False)
    return Seen(None, certain=True)


def _saw_by_description(folder: Path, corpus: Corpus) -> Seen:
    """Find out from ``model.json``, which says less: the model that ships has no ``run.json``."""
    try:
        facts = read_description(folder)["facts"]
    except ModelError as error:
        return Seen(str(error), certain=False)
    trained_on = facts.get("corpora", ())
    here = any(one.get("corpus_id") == corpus.corpus_id for one in trained_on)
    again = f"all cells of {corpus.path}" if here else known_again(trained_on, corpus)
    if again is not None and facts.get("split", "not recorded") is None:
        return Seen(f"{folder}: was trained on {again}, so it has seen the cells it is to judge", certain=True)
    return Seen(f"{folder}: no run.json, so it is not known which cells the model was trained on", certain=False)


def warn_of_seen(model: object, corpus: Corpus, split: str | None, part: str) -> None:
    """Warn where the folder of a model says that it was trained on cells that it is to judge; no split: all cells are judged."""
    if not isinstance(model, str | Path):
        return
    seen = saw_test_cells(model_folder(model), corpus, split, part)
    if seen.problem is not None and seen.certain:
        logger.warning("%s: the scores may be too good", seen.problem)


def _overlap(
    settings: dict[str, Any], recorded: dict[str, Any], corpus: Corpus, split: str | None, part: str
) -> str | None:
    if settings["split"] is None:
        return "was trained on all cells of this corpus, those it is to judge among them"
    used = f"was trained on part {settings['part']!r} of split {settings['split']!r}"
    if settings["split"] != split:
        return f"{used}; evaluated is split {split!r}, so it may have seen the cells it is to judge"
    if split is not None and corpus.split(split).made_anew(recorded):
        return f"{used} before that was made anew, so it may have seen the cells it is to judge"
    return f"{used}, which is what it is to judge" if settings["part"] == part else None
