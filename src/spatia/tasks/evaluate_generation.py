"""How good are generated cells? Against real cells of a part that nothing was trained on, with intervals and named features.

The parts: ``generated_cells`` reads and joins, ``extractors`` makes features, ``generation_reference`` holds the real cells,
``generation_group`` scores, ``counterfactual_error`` knows the truth of simulated slides. Here they are put together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anndata as ad
import numpy as np

from spatia.config import make_settings
from spatia.corpus.corpus import Corpus
from spatia.errors import SettingsError
from spatia.tasks.counterfactual_error import CounterfactualScores, check_simulated, counterfactual_scores
from spatia.tasks.generated_cells import GeneratedCells
from spatia.tasks.generation_group import MEASURED, GroupScorer
from spatia.tasks.generation_reference import LEAST_CELLS, EvaluationSettings, Prepared, Reference
from spatia.tasks.generation_scores import GroupScores, column_correlation

ALL_CELLS: Final = "all cells"


@dataclass(frozen=True)
class Evaluation:
    """The scores of one store of generated images.

    Attributes
    ----------
    groups
        One per transition, or one of all cells.
    shuffled
        The same groups of the store that was generated with shuffled conditions.
    extractors
        Name -> description.
    features
        Names of the measured features.
    counterfactual
        Against the true counterfactual of each cell, on simulated slides.
    agreement
        Correlation of a measured feature with the corpus' own, from masks, over real cells.
    warnings
        What the numbers must be read with.
    facts
        What was compared: paths, split, sizes, generator.
    """

    groups: tuple[GroupScores, ...]
    shuffled: tuple[GroupScores, ...]
    extractors: dict[str, str]
    features: tuple[str, ...]
    counterfactual: tuple[CounterfactualScores, ...]
    agreement: dict[str, float]
    warnings: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            **self.facts,
            "extractors": self.extractors,
            "groups": [group.to_json(self.features) for group in self.groups],
            "shuffled": [group.to_json(self.features) for group in self.shuffled],
            "counterfactual": [one.to_json() for one in self.counterfactual],
            "agreement_with_masks": self.agreement,
            "warnings": list(self.warnings),
        }


def evaluate_generation(
    generated: ad.AnnData | str | Path,
    corpus: Corpus | str | Path | Reference,
    settings: EvaluationSettings | None = None,
    *,
    shuffled: ad.AnnData | str | Path | None = None,
    slides: Mapping[str, Path] | None = None,
    simulated: Mapping[str, str] | None = None,
    **sources: Any,
) -> Evaluation:
    """Score a store of generated images.

    Parameters
    ----------
    generated
        As `spatia generate` writes it.
    corpus
        That the images were generated for; or a :class:`Reference`, which several stores may share.
    settings, sources
        As :class:`Reference` takes them (model, inception, labels, pairs, device); of no use beside one. Fields of the settings may be given
        by name instead: ``split="block"``.
    shuffled
        A store generated for the same cells by the same generator with shuffled conditions: its scores stand beside.
    slides, simulated
        Section -> simulated slide, and transition of the store -> transition of the simulator: as
        :func:`spatia.tasks.counterfactual_error.counterfactual_scores` takes them.

    Raises
    ------
    SettingsError
        If the store does not fit the corpus, there are too few cells, or ``shuffled`` is not of the same cells and generator, shuffled.
    """
    if named := {name: sources.pop(name) for name in EvaluationSettings.model_fields if name in sources}:
        if settings is not None:
            raise SettingsError(f"settings and {', '.join(named)}: give one or the other.")
        settings = make_settings(EvaluationSettings, named, where="evaluate_generation")
    reference = corpus if isinstance(corpus, Reference) else Reference(corpus, settings, **sources)
    cells = GeneratedCells.of(generated)
    others = None if shuffled is None else GeneratedCells.of(shuffled)
    for one in (cells, others):
        if one is not None:
            reference.check_fit(one)
    if others is not None:
        others.check_shuffled_of(cells)
    check_simulated(reference, cells, slides or {}, simulated or {})
    prepared = reference.prepare(cells)
    groups = _score_groups(reference, prepared, cells)
    beside = () if others is None else _score_groups(reference, prepared, others)
    truth = counterfactual_scores(reference, cells, slides or {}, simulated, shuffled=others) if simulated else ()
    space = prepared.spaces[MEASURED]
    return Evaluation(
        groups,
        beside,
        {one.name: one.extractor.description for one in prepared.spaces.values()},
        space.extractor.features,
        truth,
        _agreement(reference, prepared, cells),
        tuple(reference.warnings),
        {
            "generated": cells.name,
            "n_images": len(cells),
            "shuffled_store": None if others is None else others.name,
            "task": str(cells.facts["task"]),
            "generator": _json_facts(cells.facts),
            "corpus": str(reference.corpus.path),
            "corpus_id": reference.corpus.corpus_id,
            "n_training": len(prepared.training),
            "settings": reference.settings.model_dump(mode="json"),
        },
    )


def _score_groups(reference: Reference, prepared: Prepared, cells: GeneratedCells) -> tuple[GroupScores, ...]:
    if not cells.transitions:
        return (GroupScorer(reference, prepared, cells, ALL_CELLS).score(),)
    parts = {name: cells.of_transition(name) for name in cells.transitions}
    return tuple(GroupScorer(reference, prepared, part, name).score() for name, part in parts.items())


def _agreement(reference: Reference, prepared: Prepared, cells: GeneratedCells) -> dict[str, float]:
    """Correlate the features measured without a mask with the corpus' own of the same name, over real cells."""
    training, space = prepared.training, prepared.spaces[MEASURED]
    table = reference.once(("masks", training.tobytes()), lambda: reference.index.morphology(training))
    values = reference.real_features(space, training, cells.channels)
    found = {}
    for column, name in enumerate(space.extractor.features):
        other = table[name].to_numpy(np.float64) if name in table else np.full(len(values), np.nan)
        both = np.isfinite(other)
        if both.sum() >= LEAST_CELLS:
            r = column_correlation(values[both][:, [column]], other[both][:, None])[0]
            found[name] = float(np.nan_to_num(r))
    return found


def _json_facts(facts: dict[str, Any]) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): plain(one) for key, one in value.items()}
        if isinstance(value, np.ndarray | list | tuple):
            return [plain(one) for one in list(value)]
        return value.item() if isinstance(value, np.generic) else value

    return {key: plain(value) for key, value in facts.items()}
