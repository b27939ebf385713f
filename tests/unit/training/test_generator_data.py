"""What a generator learns from and is judged on: rows with an image, and no image on both sides."""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.unit.conftest import TinySection, write_corpus
from tests.unit.model_setup import SMALL

from spatia.corpus.corpus import Corpus
from spatia.data.vocabulary import Vocabulary
from spatia.errors import SettingsError
from spatia.generation.batch import GenerationBatch
from spatia.inference.conditions import CellConditions, cell_conditions
from spatia.models.spatia import Spatia
from spatia.nn.hashing import row_keys
from spatia.pairing.pair import pair
from spatia.pairing.pairs import Pairs
from spatia.pairing.settings import CostSettings, PairSettings, SolverSettings
from spatia.training.generator_data import CorpusData, choose_shown
from spatia.training.generator_pairs import PairData, PartPairs
from spatia.training.generator_settings import GeneratorSettings
from spatia.training.generator_stages import ProxyStage
from spatia.training.generator_train import _with_split_of

GENES = ("EPCAM", "CD3E", "ACTB", "VIM", "MS4A1", "KRT8")
SECTIONS = (
    TinySection("left", 1, GENES, ("DAPI",), n_windows=12, features=("area_um2",)),
    TinySection("bare", 3, GENES, (), n_windows=4),
)
TO_IMMUNE = {"name": "to immune", "key": "cell_type", "source": "tumour", "target": "immune"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    shown = (SECTIONS[0], replace(SECTIONS[1], channels=("DAPI",)))  # pairs of cells without an image are left out
    return Corpus.open(write_corpus(tmp_path_factory.mktemp("tiny") / "corpus", shown))


def data_of(corpus: Corpus, **values: Any) -> CorpusData:
    settings = GeneratorSettings.model_validate(
        {"split": "block", "validation_part": "validation", "weights": {"morphology": 0}, **values}
    )
    unread: Any = CellConditions([])  # nothing is loaded here
    return CorpusData(corpus, Vocabulary.of([corpus]), unread, settings)


@pytest.mark.parametrize(
    ("validation", "cells", "niches"),
    [
        ({"bare": [[0, 20]]}, False, False),  # of a section without image nothing is drawn
        ({"left": [[0, 1]], "bare": [[0, 20]]}, True, False),  # no whole niche
        ({"left": [[0, 20]]}, True, True),
        ({"left": []}, False, False),
        (None, False, False),
    ],
)
def test_there_is_validation_where_the_loader_gives_rows_of_it(
    tmp_path: Path, validation: dict[str, list[list[int]]] | None, cells: bool, niches: bool
) -> None:
    path = write_corpus(tmp_path / "corpus", SECTIONS)
    file = path / "splits" / "block.json"
    split = json.loads(file.read_text())
    if validation is not None:
        split["parts"]["validation"] = validation
    file.write_text(json.dumps(split))
    for level, expected in (("cell", cells), ("niche", niches)):
        data = data_of(Corpus.open(path), level=level)
        assert data.has_validation == expected
        if expected:
            assert len(data.loader("validation", 0, 1, shuffle=False)) > 0
    assert not data_of(Corpus.open(path), split=None).has_validation


# --- rows to look at while training


class Drawn:
    """Batches of two rows, of which the ones named have an image."""

    has_validation = False

    def __init__(self, seen: tuple[int, ...], n_batches: int = 6) -> None:
        self.n_rows = 2 * n_batches
        self._seen = set(seen)

    def loader(self, part: str | None, rank: int, world_size: int, *, shuffle: bool) -> Any:
        for row in range(0, self.n_rows, 2):
            rows = torch.arange(row, row + 2)
            yield GenerationBatch(
                section=torch.zeros(2, dtype=torch.int64),
                row=rows,
                key=rows,
                target=rows[:, None, None, None].expand(2, 1, 4, 4).to(torch.uint8),
                channels_present=torch.tensor([[number in self._seen] for number in rows.tolist()]),
                conditions={"genes": rows[:, None].float()},
                known={"genes": torch.ones(2, dtype=torch.bool)},
            )


@pytest.mark.parametrize(
    ("seen", "shown"), [((5, 8, 9, 10), [5, 8, 9]), ((11,), [11]), ((0, 1, 3), [0, 1, 3]), ((), None)]
)
def test_rows_to_look_at_are_found_beyond_a_first_batch_without_an_image(
    seen: tuple[int, ...], shown: list[int] | None
) -> None:
    data: Any = Drawn(seen)
    found = choose_shown(data, GeneratorSettings(sample_rows=3, batch=2))
    if shown is None:
        assert found is None
    else:
        assert found is not None
        assert found.batch.row.tolist() == found.batch.conditions["genes"][:, 0].tolist() == shown
        assert found.training[:, 0, 0, 0].tolist() == list(seen)  # no black one among which the nearest is looked for


# --- pairs without a validation part: what the proxy is judged on is held out by hash


@pytest.fixture(scope="module")
def pairs(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    how = PairSettings(solver=SolverSettings(tolerance=1e-3), cost=CostSettings(n_components=3), top_k=4)
    return pair(corpus, [TO_IMMUNE], tmp_path_factory.mktemp("paired") / "pairs", settings=how)


@contextmanager
def opened(corpus: Corpus, pairs: Pairs, folder: Path, coupling: str = "ot") -> Iterator[PairData]:
    torch.manual_seed(0)
    model = Spatia(SMALL, Vocabulary.of([corpus])).eval()
    settings = GeneratorSettings.model_validate({"task": "transition", "coupling": coupling, "batch": 4})
    with cell_conditions(corpus, model, device="cpu") as conditions:
        yield PairData(corpus, model, conditions, pairs, settings, folder)


@pytest.fixture(scope="module")
def pair_data(corpus: Corpus, pairs: Pairs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PairData]:
    with opened(corpus, pairs, tmp_path_factory.mktemp("pairs")) as data:
        yield data


def test_a_pair_names_the_image_it_learns_from(pair_data: PairData) -> None:
    part, rows = pair_data.parts["train"], np.arange(len(pair_data.parts["train"]))
    batch = pair_data.batch(part, rows, 0)
    places = row_keys(torch.from_numpy(pair_data._section), torch.from_numpy(pair_data._row))
    assert batch.target_key is not None
    assert torch.isin(batch.target_key, places[np.unique(part.target[part.target >= 0])]).all()
    assert len(batch.target_key.unique()) < len(batch)  # several sources have one target
    crops = np.load(pair_data._path)
    where = [int((places == key).nonzero()) for key in batch.image_key]
    assert np.array_equal(batch.target.numpy(), crops[where])
    assert torch.equal(batch.take(torch.tensor([2])).image_key, batch.image_key[2:3])


def test_no_image_that_the_proxy_is_judged_on_is_one_it_learns_from(pair_data: PairData) -> None:
    """In no epoch, though a source draws another partner in each."""
    unused: Any = None
    stage = ProxyStage(data=pair_data, settings=pair_data._settings, objective=unused, epochs=1)
    assert not pair_data.has_validation or pytest.fail("the pairs have a validation part")
    learnt, judged = stage.loader(0, 1), stage.validation(0, 1)
    assert judged is not None
    held_out = {key for batch in judged for key in batch.image_key.tolist()}
    assert held_out
    for _ in range(3):
        # a batch of held-out rows alone keeps one, as a step needs a row
        seen = {key for batch in learnt if len(batch) > 1 for key in batch.image_key.tolist()}
        assert seen
        assert not seen & held_out


def test_pairs_of_a_cell_without_an_image_are_left_out(
    corpus: Corpus, pairs: Pairs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every seventh cell of the corpus: there is nothing to begin at, and nothing to draw."""
    with caplog.at_level(logging.WARNING, logger="spatia"), opened(corpus, pairs, tmp_path) as data:
        found = re.search(r"pairs: (\d+) of (\d+) pairs have a cell without an image", caplog.text)
        assert found is not None
        n_lost, n_before = map(int, found.groups())
        seen = data._present.any(axis=1)
        assert 0 < seen.sum() < len(seen)
        for part in data.parts.values():
            assert seen[part.source].all()
            assert seen[part.target[part.target >= 0]].all()
        assert sum(part.n_pairs for part in data.parts.values()) == n_before - n_lost
        batch = data.batch(data.parts["train"], np.arange(data.n_rows), 0)
        assert batch.source is not None
        assert (batch.source.amax(dim=(1, 2, 3)) > 0).all()
        assert (batch.target.amax(dim=(1, 2, 3)) > 0).all()
    bare = replace(pairs, table=pairs.table[pairs.table["source_row"] % 7 == 0])
    with (
        pytest.raises(SettingsError, match=r"no pair in part 'train' has an image of both its cells"),
        opened(corpus, bare, tmp_path / "bare"),
    ):
        pass


@pytest.mark.parametrize(("coupling", "learnt"), [("ot", False), ("noise", True)])
def test_a_channel_that_the_source_lacks_is_not_learnt_from_a_black_one(
    corpus: Corpus, pairs: Pairs, tmp_path: Path, coupling: str, learnt: bool
) -> None:
    with opened(corpus, pairs, tmp_path, coupling) as data:
        part = data.parts["train"]
        data._present[part.source] = False
        kept = np.setdiff1d(part.target, part.source)
        batch = data.batch(part, np.flatnonzero(np.isin(part.target[:, 0], kept)), 0)
        assert len(batch)
        assert batch.channels_present.any().item() == learnt


def test_a_source_that_loses_a_partner_goes_to_the_others() -> None:
    part = PartPairs(
        transition=np.array([0, 0, 1]),
        source=np.array([0, 1, 2]),
        target=np.array([[3, 4, 5], [3, -1, -1], [4, 3, -1]]),
        probability=np.array([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0], [0.6, 0.4, 0.0]]),
        confidence=np.array([0.1, 0.2, 0.3], np.float32),
    )
    kept = part.among(np.arange(6)[:, None] != 3)
    assert (kept.transition.tolist(), kept.source.tolist()) == ([0, 1], [0, 2])
    assert kept.target.tolist() == [[4, 5, -1], [4, -1, -1]]
    assert kept.probability.tolist() == [[0.3, 0.2, 0.0], [0.6, 0.0, 0.0]]
    assert part.among(np.arange(6)[:, None] != 0).source.tolist() == [
        1,
        2,
    ]  # nor is there a way from a cell that is not kept
    channels = np.array([[1, 1], [0, 1], [1, 0], [1, 0], [1, 1], [1, 1]], bool)
    common = part.among(channels)
    assert (common.source.tolist(), common.target.tolist()) == ([0, 2], [[3, 4, 5], [4, 3, -1]])


@pytest.mark.parametrize("coupling", ["noise", "control", "ot", "ot-confidence", "self"])
def test_a_generator_of_transitions_learns_on_the_split_of_its_pairs(pairs: Pairs, coupling: str) -> None:
    given = {"task": "transition", "coupling": coupling, "part": "test"}
    for split in (None, "block"):
        found = _with_split_of(pairs, GeneratorSettings.model_validate({**given, "split": split}))
        assert (found.split, found.part) == ("block", "test")
    with pytest.raises(SettingsError, match=r"split=other, but the pairs .* were made on split 'block'"):
        _with_split_of(pairs, GeneratorSettings.model_validate({**given, "split": "other"}))


def test_a_row_has_an_image_of_its_own_unless_it_says_otherwise() -> None:
    batch = GenerationBatch(
        section=torch.zeros(2, dtype=torch.int64),
        row=torch.arange(2),
        key=torch.tensor([7, 9]),
        target=torch.zeros(2, 1, 4, 4, dtype=torch.uint8),
        channels_present=torch.ones(2, 1, dtype=torch.bool),
        conditions={},
        known={},
    )
    assert batch.image_key.tolist() == [7, 9]
