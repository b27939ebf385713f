"""From a corpus to a folder of pairs: parts stay apart, and test cells influence nothing that training uses."""

import json
import shutil
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import zarr

from spatia.corpus.corpus import Corpus
from spatia.errors import PairingError, SettingsError
from spatia.pairing.cells import _joined, read_cells
from spatia.pairing.pair import pair
from spatia.pairing.pairs import PAIRS_FILE, SIGNATURES_FILE, read_pairs
from spatia.pairing.settings import CostSettings, PairSettings, SolverSettings
from spatia.pairing.transitions import find_ends, make_transitions
from spatia.training.generator_settings import GeneratorSettings
from spatia.training.generator_train import _with_split_of

LOOSE = SolverSettings(tolerance=1e-3)
SETTINGS = PairSettings(solver=LOOSE, cost=CostSettings(n_components=4), top_k=4)


def paired(toy, out: Path, settings: PairSettings = SETTINGS, **arguments):
    return pair(
        toy.path, toy.transitions, out, cells=arguments.pop("cells", toy.states), settings=settings, **arguments
    )


def part_of(toy) -> pd.Series:
    """Part of each cell, by (sample, row)."""
    split = Corpus.open(toy.path).split("block")
    found = {}
    for part, by_sample in split.parts.items():
        for sample, ranges in by_sample.items():
            found |= {(sample, row): part for start, stop in ranges for row in range(start, stop)}
    return pd.Series(found)


def test_the_folder_holds_what_the_call_returns(toy, tmp_path: Path) -> None:
    pairs = paired(toy, tmp_path / "pairs")
    again = read_pairs(tmp_path / "pairs", Corpus.open(toy.path))
    pd.testing.assert_frame_equal(pairs.table, again.table)
    assert again.transitions == ("emt", "to immune")
    assert set(pairs.table["part"]) == {"train", "test"}
    assert pairs.facts["split"]["name"] == "block"
    assert pairs.facts["settings"]["cost"]["n_components"] == 4
    assert all(max(one["source_error"], one["target_error"]) <= 1e-3 for one in pairs.facts["problems"])
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_pairs_join_sources_to_targets_of_the_same_part(toy, tmp_path: Path) -> None:
    table = paired(toy, tmp_path / "pairs").table
    emt = toy.states.set_index("cell_id")["emt"]
    own = table[table["transition"] == "emt"]
    assert (emt.loc[own["source"]] < 0.4).all()
    assert (emt.loc[own["target"]] > 0.7).all()
    part = part_of(toy)
    for end in ("source", "target"):
        place = list(zip(table[f"{end}_sample"], table[f"{end}_row"], strict=True))
        assert (part.loc[place].to_numpy() == table["part"].to_numpy()).all()


def test_scope_keeps_partners_near(toy, tmp_path: Path) -> None:
    corpus = Corpus.open(toy.path)
    table = paired(toy, tmp_path / "pairs").table
    own = table[table["transition"] == "to immune"]  # scope: tissue
    assert (own["source_sample"] == own["target_sample"]).all()
    window = {sample: section.cells.column("tissue").to_numpy() for sample, section in corpus.sections.items()}
    for sample, rows in own.groupby("source_sample"):
        assert (window[sample][rows["source_row"]] == window[sample][rows["target_row"]]).all()
    niche = paired(toy, tmp_path / "niche", SETTINGS.model_copy(update={"scope": "niche"})).table
    number = {sample: section.cells.column("niche").to_numpy() for sample, section in corpus.sections.items()}
    for sample, rows in niche[niche["transition"] == "emt"].groupby("source_sample"):
        assert (number[sample][rows["source_row"]] == number[sample][rows["target_row"]]).all()


def test_equal_inputs_give_equal_bytes(toy, tmp_path: Path) -> None:
    paired(toy, tmp_path / "a")
    paired(toy, tmp_path / "b", cells=toy.states.sample(frac=1, random_state=0))
    for name in (PAIRS_FILE, SIGNATURES_FILE):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("what", ["counts", "states", "missing states"])
def test_a_test_cell_cannot_influence_training_pairs_or_signatures(toy, tmp_path: Path, what: str) -> None:
    before = paired(toy, tmp_path / "before")
    part = part_of(toy)
    states = toy.states.copy()
    place = list(zip(states["sample"], states.groupby("sample").cumcount(), strict=True))
    test = part.reindex(place).to_numpy() == "test"
    assert 10 < test.sum() < len(test) / 2
    rng = np.random.default_rng(1)
    if what == "counts":
        change_counts_of_test_cells(toy, part, rng)
    else:
        states.loc[test, "emt"] = rng.random(test.sum()) if what == "states" else np.nan
        states.loc[test & (rng.random(len(test)) < 0.5), "emt"] = 0.99
    after = paired(toy, tmp_path / "after", cells=states)
    pd.testing.assert_frame_equal(before.signatures, after.signatures, check_exact=True)
    train = [pairs.table[pairs.table["part"] == "train"].reset_index(drop=True) for pairs in (before, after)]
    pd.testing.assert_frame_equal(*train, check_exact=True)
    unseen = [pairs.table[pairs.table["part"] == "test"].reset_index(drop=True) for pairs in (before, after)]
    assert not unseen[0].equals(unseen[1])  # the change was one


def change_counts_of_test_cells(toy, part: pd.Series, rng: np.random.Generator) -> None:
    for sample, section in Corpus.open(toy.path).sections.items():
        store = zarr.open_group(section.cells.path, mode="a")["X"]
        data, indptr = store["data"][:], store["indptr"][:]
        for row in range(section.entry.n_cells):
            if part.get((sample, row)) == "test":
                data[indptr[row] : indptr[row + 1]] = rng.integers(1, 60, indptr[row + 1] - indptr[row])
        store["data"][:] = data


def test_a_training_cell_does_influence_them(toy, tmp_path: Path) -> None:
    before = paired(toy, tmp_path / "before")
    states = toy.states.assign(emt=np.random.default_rng(5).permutation(toy.states["emt"].to_numpy()))
    after = paired(toy, tmp_path / "after", cells=states)
    assert not before.signatures.equals(after.signatures)


def test_a_spatial_term_draws_partners_near(toy, tmp_path: Path) -> None:
    section = PairSettings(solver=LOOSE, cost=CostSettings(n_components=4), scope="section")
    near = section.model_copy(update={"cost": CostSettings(n_components=4, spatial_weight=2.0)})

    def distance(table: pd.DataFrame) -> float:
        own = table[(table["transition"] == "emt") & (table["rank"] == 0)]
        return float(np.abs(own["source_row"] - own["target_row"]).mean())  # cells stand 10 µm apart in a line

    assert distance(paired(toy, tmp_path / "b", near).table) < distance(paired(toy, tmp_path / "a", section).table) / 2


def test_an_embedding_may_be_the_space(toy, tmp_path: Path) -> None:
    table = ad.AnnData(np.zeros((len(toy.states), 1)), obs=toy.states.set_index("cell_id"))
    table.obsm["X_z"] = np.column_stack([toy.states["emt"], np.arange(len(toy.states)) % 7])
    cost = CostSettings(space="embedding")
    pairs = paired(toy, tmp_path / "pairs", PairSettings(embedding="X_z", cost=cost, solver=LOOSE), cells=table)
    own = pairs.table[(pairs.table["transition"] == "emt") & (pairs.table["rank"] == 0)]
    row = toy.states.reset_index().set_index("cell_id")["index"]
    assert (
        row.loc[own["source"]].to_numpy() % 7 == row.loc[own["target"]].to_numpy() % 7
    ).mean() > 0.4  # by chance 1 / 7
    with pytest.raises(SettingsError, match=r"no embedding 'X_q' in obsm; there: X_z"):
        paired(toy, tmp_path / "no", PairSettings(embedding="X_q", cost=cost), cells=table)
    table.obsm["X_z"][3] = np.nan
    with pytest.raises(PairingError, match="have no finite embedding"):
        paired(toy, tmp_path / "no", PairSettings(embedding="X_z", cost=cost), cells=table)


def test_confidence_is_calibrated_only_under_the_settings_of_the_calibration(toy, tmp_path: Path) -> None:
    assert paired(toy, tmp_path / "other").table["calibrated"].isna().all()
    default = paired(toy, tmp_path / "default", PairSettings())
    assert default.facts["calibration"]["used"]
    assert default.table["calibrated"].between(0, 1).all()


def test_a_plan_that_does_not_converge_leaves_the_old_folder(toy, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    paired(toy, out)
    before = (out / "pairing.json").read_bytes()
    hasty = PairSettings(solver=SolverSettings(max_iterations=1, epsilon=0.001, tolerance=1e-9))
    with pytest.raises(
        PairingError, match=r"Transition 'emt', part 'train', global 'all' \(\d+ × \d+ cells\): .* did not converge"
    ):
        paired(toy, out, hasty)
    assert (out / "pairing.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_cannot_be_paired_is_refused(toy, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(PairingError, match=r"holds no pairing\.json"):
        paired(toy, other)
    far = PairSettings(cost=CostSettings(spatial_weight=1.0))
    with pytest.raises(SettingsError, match=r"places in different sections have no distance\. Use scope: section"):
        paired(toy, out, far)
    with pytest.raises(SettingsError, match=r"none of its cells .* is a cell of the corpus"):
        paired(toy, out, cells=toy.states.assign(cell_id="x" + toy.states["cell_id"]))
    with pytest.raises(SettingsError, match="stands twice"):
        paired(toy, out, cells=pd.concat([toy.states, toy.states.head(1)]))
    with pytest.raises(SettingsError, match=r"no such file\. Expected a table of cells"):
        paired(toy, out, cells=tmp_path / "none.parquet")
    train = part_of(toy)
    rows = list(zip(toy.states["sample"], toy.states.groupby("sample").cumcount(), strict=True))
    only_test = toy.states.assign(emt=np.where(train.reindex(rows).to_numpy() == "test", toy.states["emt"], np.nan))
    with pytest.raises(PairingError, match="0 sources and 0 targets in the training part"):
        paired(toy, out, cells=only_test)
    shutil.rmtree(toy.path / "splits")
    with pytest.raises(
        SettingsError, match="paired within the parts of a split, and it has none; make one with `spatia split`"
    ):
        paired(toy, out)
    assert not out.exists()


def test_cell_centred_niches_are_refused_as_a_scope(tiny_knn_corpus, tmp_path: Path) -> None:
    transitions = [{"name": "t", "key": "cell_type", "source": "tumour", "target": "immune"}]
    with pytest.raises(SettingsError, match="scope 'niche' needs niches that partition the cells"):
        pair(tiny_knn_corpus.path, transitions, tmp_path / "p", settings=PairSettings(scope="niche"))


def test_facts_are_plain_json(toy, tmp_path: Path) -> None:
    paired(toy, tmp_path / "pairs")
    facts = json.loads((tmp_path / "pairs" / "pairing.json").read_text())
    assert {"corpus_id", "split", "seed", "settings", "versions", "calibration", "transitions", "problems"} <= set(
        facts
    )
    assert facts["transitions"][0]["source"] == {"where": "emt < 0.4"}
    assert {"solver", "iterations", "source_error", "target_error", "mass", "cost", "parts"} <= set(
        facts["problems"][0]
    )


@pytest.mark.parametrize("named", [None, "block"])
def test_a_generator_learns_from_the_cells_of_the_split_whether_pairing_named_it_or_not(
    toy, tmp_path: Path, named: str | None
) -> None:
    pairs = paired(toy, tmp_path / "pairs", SETTINGS.model_copy(update={"split": named}))
    assert pairs.facts["settings"]["split"] == named
    for asked in (None, "block"):
        assert _with_split_of(pairs, GeneratorSettings(task="transition", split=asked)).split == "block"
    for coupling in (None, "ot"):  # a flow learns from the pairs themselves, and says whose training cells they are
        given = {"task": "transition", "coupling": coupling}
        assert _with_split_of(pairs, GeneratorSettings(**given)).split == "block"
        with pytest.raises(SettingsError, match=r"split=donor, but the pairs .* were made on split 'block'"):
            _with_split_of(pairs, GeneratorSettings(**given, split="donor"))


def test_a_table_of_some_cells_leaves_the_types_of_its_columns(toy) -> None:
    corpus = Corpus.open(toy.path)
    states = toy.states.assign(stage=np.arange(len(toy.states)) % 2 + 1, flag=np.arange(len(toy.states)) % 3 == 0)
    states = states.assign(score=states["emt"].round(), kind=pd.Categorical(states["stage"].astype(str)))
    some = states.sample(frac=0.5, random_state=0)
    whole, partial = (read_cells(corpus, corpus.split("block"), table, None).obs for table in (states, some))
    for value in (
        {"key": "stage", "source": 1, "target": 2},
        {"source": {"where": "flag == true"}, "target": {"where": "flag == false"}},
        {"source": {"where": "stage < 2"}, "target": {"where": "stage in [2]"}},
        {"source": {"where": "score < 1"}, "target": {"where": "score == 1"}},
        {"key": "score", "source": "0.0", "target": "1.0"},
        {"key": "kind", "source": "1", "target": {"where": "kind == '2'"}},
    ):
        (transition,) = make_transitions([{"name": "t", **value}], where="here")
        of_all, of_some = (find_ends(obs, transition) for obs in (whole, partial))
        known = partial.index.isin(some["cell_id"])
        assert (of_some.source == of_all.source & known).all()
        assert (of_some.target == of_all.target & known).all()
        assert of_some.source.any()
    assert partial["stage"].isna().sum() == len(whole) - len(some)


def test_pairs_of_a_split_that_was_made_anew_are_refused(toy, tmp_path: Path) -> None:
    folder = tmp_path / "of its own"
    shutil.copytree(toy.path, folder)
    pair(folder, toy.transitions, tmp_path / "pairs", cells=toy.states, settings=SETTINGS)
    read_pairs(tmp_path / "pairs", Corpus.open(folder))
    file = folder / "splits" / "block.json"
    content = json.loads(file.read_bytes())
    content["parts"]["train"], content["parts"]["test"] = content["parts"]["test"], content["parts"]["train"]
    file.write_text(json.dumps(content), "utf-8")
    with pytest.raises(PairingError, match=r"split 'block' of .* was made anew since: [\d,]+ of [\d,]+ source"):
        read_pairs(tmp_path / "pairs", Corpus.open(folder))
    file.unlink()
    with pytest.raises(PairingError, match=r"made on split 'block', which .* no longer has"):
        read_pairs(tmp_path / "pairs", Corpus.open(folder))


def test_a_users_column_does_not_take_the_place_of_the_corpus_niches(toy, tmp_path: Path) -> None:
    corpus = Corpus.open(toy.path)
    niche = {name: section.cells.obs()["niche"].to_numpy() for name, section in corpus.sections.items()}
    same = toy.states.assign(niche=np.concatenate([niche[name] for name in toy.states["sample"].unique()]))
    pd.testing.assert_frame_equal(
        paired(toy, tmp_path / "same", cells=same).table, paired(toy, tmp_path / "none").table
    )
    for wrong in (same["niche"] + (same.index == 3), "stroma"):
        with pytest.raises(SettingsError, match=r"column 'niche' differs from the corpus's in [\d,]+ of [\d,]+ cells"):
            paired(toy, tmp_path / "wrong", cells=same.assign(niche=wrong))


def test_a_table_of_which_some_cells_are_unknown_is_said(toy, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    states = toy.states.copy()
    states.loc[3, "cell_id"] = "nobody"
    with caplog.at_level("WARNING", "spatia"):
        paired(toy, tmp_path / "pairs", cells=states)
        paired(toy, tmp_path / "pairs")
    assert "1 of its" in caplog.text
    assert "(first: 'nobody' of section '" in caplog.text
    assert "pairs are there already" in caplog.text


def test_ids_of_a_csv_are_text(tmp_path: Path) -> None:
    path = tmp_path / "states.csv"
    path.write_text("sample,cell_id,emt\n01,0001,0.5\n01,1,0.25\n")
    own = pd.DataFrame({"sample": "01"}, index=pd.Index(["1", "0001"], name="cell_id"))
    joined, _ = _joined(own, path, None)
    assert joined["emt"].tolist() == [0.25, 0.5]
