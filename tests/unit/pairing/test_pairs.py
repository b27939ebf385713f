"""The folder of pairs is read strictly; partners are drawn by their probability."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spatia.corpus.files import sha256
from spatia.errors import PairingError
from spatia.pairing.pairs import COLUMNS, read_pairs, write_pairs
from spatia.pairing.signatures import COLUMNS as SIGNATURE_COLUMNS

FACTS = {
    "corpus_id": "c",
    "split": {"name": "block"},
    "transitions": [{"name": "up"}],
    "settings": {"split": None},
    "problems": [],
}


def table() -> pd.DataFrame:
    rows = [("a", 0, 0, "x", 5, 0.5), ("a", 0, 1, "y", 6, 0.25), ("b", 3, 0, "y", 6, 1.0)]
    frame = pd.DataFrame(rows, columns=["source", "source_row", "rank", "target", "target_row", "probability"])
    fixed = {"transition": "up", "group": "", "part": "train", "problem": 0, "source_sample": "s", "target_sample": "s"}
    frame = frame.assign(**fixed, entropy=0.5, mass=1.0, cost=0.4, n_targets=2, confidence=[0.5, 0.5, 1.0])
    return frame.assign(calibrated=[0.25, 0.25, 0.75])[list(COLUMNS)]


def signatures() -> pd.DataFrame:
    values = [
        ("up", "gene", "EPCAM", "EPCAM", 1.0, 0.5, 1.5, 0.3, 0.1, 3, [0.9, 1.1]),
        ("up", "morphology", "area_um2", "area_um2", -2.0, 50.0, 48.0, 9.0, 1.0, 3, [-3.0, -1.0]),
    ]
    return pd.DataFrame(values, columns=list(SIGNATURE_COLUMNS))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pairs(tmp_path / "pairs", table(), signatures(), FACTS)
    return tmp_path / "pairs"


def test_arrays_of_one_transition(folder: Path) -> None:
    found = read_pairs(folder).of("up")
    assert found.source.tolist() == ["a", "b"]
    assert found.target_row.tolist() == [[5, 6], [6, -1]]
    assert found.target.tolist() == [["x", "y"], ["y", ""]]
    np.testing.assert_array_equal(found.probability, [[0.5, 0.25], [1.0, 0.0]])
    assert len(read_pairs(folder).of("up", "test")) == 0
    assert read_pairs(folder).signature("up", "gene").loc["EPCAM", "delta"] == 1.0


def test_partners_are_drawn_by_their_probability(folder: Path) -> None:
    found = read_pairs(folder).of("up")
    rng = np.random.default_rng(0)
    drawn = np.array([found.sample(rng) for _ in range(3000)])
    assert (drawn[:, 1] == 0).all()
    assert abs(drawn[:, 0].mean() - 1 / 3) < 0.03


def test_weights_have_mean_one_and_follow_confidence(folder: Path) -> None:
    found = read_pairs(folder).of("up")
    np.testing.assert_allclose(found.weights(), [0.5, 1.5])
    np.testing.assert_allclose(found.weights(0.0), [1, 1])
    np.testing.assert_allclose(found.weights(2.0, calibrated=False), [0.4, 1.6])


def test_weights_without_calibration_are_an_error(tmp_path: Path) -> None:
    write_pairs(tmp_path / "p", table().assign(calibrated=np.nan), signatures(), FACTS)
    with pytest.raises(PairingError, match="no calibrated confidence"):
        read_pairs(tmp_path / "p").of("up").weights()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"part": "margin"}, "a part that is none"),
        ({"transition": "down"}, "a transition that pairing.json does not name"),
        ({"probability": 1.5}, "a share outside"),
        ({"confidence": np.nan}, "a share outside"),
        ({"calibrated": -0.1}, "a calibrated probability outside"),
        ({"target_row": -1}, "a negative row"),
        ({"cost": np.nan}, "a negative entropy, mass or cost"),
        ({"rank": 0}, "a pair that stands twice"),
    ],
)
def test_wrong_values_are_refused(tmp_path: Path, change: dict, said: str) -> None:
    write_pairs(tmp_path / "p", table().assign(**change), signatures(), FACTS)
    with pytest.raises(PairingError, match=f"{said}.*Pair again"):
        read_pairs(tmp_path / "p")


def test_damage_is_refused(folder: Path) -> None:
    facts = json.loads((folder / "pairing.json").read_text())
    table().head(1).to_parquet(folder / "pairs.parquet")
    with pytest.raises(PairingError, match=r"pairs.parquet: digest .* it was changed"):
        read_pairs(folder)
    table().drop(columns="cost").to_parquet(folder / "pairs.parquet")
    facts["sha256"]["pairs.parquet"] = sha256(folder / "pairs.parquet")
    (folder / "pairing.json").write_text(json.dumps(facts))
    with pytest.raises(PairingError, match="no column 'cost'"):
        read_pairs(folder)
    (folder / "pairs.parquet").unlink()
    with pytest.raises(PairingError, match=r"pairs\.parquet: no such file"):
        read_pairs(folder)
    (folder / "pairing.json").write_text(json.dumps(facts | {"format_version": 9}))
    with pytest.raises(PairingError, match="version 9; expected 'spatia-pairs', version 1"):
        read_pairs(folder)
    (folder / "pairing.json").write_text("{")
    with pytest.raises(PairingError, match="not a description of pairs"):
        read_pairs(folder)
    with pytest.raises(PairingError, match=r"none/pairing.json: no such file. Expected a folder of pairs"):
        read_pairs(folder / "none")


def test_names_that_are_not_there_list_those_that_are(folder: Path) -> None:
    pairs = read_pairs(folder)
    with pytest.raises(PairingError, match=r"no transition 'dwon'. There are: up"):
        pairs.of("dwon")
    with pytest.raises(PairingError, match="no part 'tset'"):
        pairs.of("up", "tset")
    with pytest.raises(PairingError, match="no signature of 'protein'"):
        pairs.signature("up", "protein")


@pytest.mark.parametrize(("split", "said"), [(..., "no 'split'"), ({}, "no 'split.name'"), (None, "not a description")])
def test_pairs_must_say_which_split_they_were_made_on(tmp_path: Path, split: object, said: str) -> None:
    """What learns from all cells of a part asks for it."""
    facts = {name: value for name, value in FACTS.items() if name != "split"}
    write_pairs(tmp_path / "p", table(), signatures(), facts if split is ... else facts | {"split": split})
    with pytest.raises(PairingError, match=said):
        read_pairs(tmp_path / "p")


def test_the_split_is_the_one_that_was_used_not_the_one_that_was_named(folder: Path) -> None:
    assert read_pairs(folder).split == "block"
