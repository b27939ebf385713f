"""`spatia screen` on the tiny corpus, with a generator of random weights: everything it is told shows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tests.unit.conftest import TinySection, write_corpus
from tests.unit.screening.toy_generator import write_generator
from typer.testing import CliRunner

import spatia
from spatia import Corpus, Generator
from spatia.cli.main import app
from spatia.errors import SettingsError
from spatia.inference.conditions import SEEN, CellConditions
from spatia.inference.session import embedded
from spatia.screening.result import Screen
from spatia.screening.surroundings import NicheFollower

SECTIONS = (TinySection("left", 1, ("EPCAM", "CD3E", "ACTB"), ("DAPI", "boundary"), n_windows=9),)
SMALL = {"limit": 8, "draws": 2, "evaluations": 3, "split": "block", "read": "image"}
PLANTED, N_GENES = "G3", 8


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("tiny") / "corpus", SECTIONS)


@pytest.fixture(scope="module")
def generator(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_generator(corpus, tmp_path_factory.mktemp("generator") / "generator")


def run(corpus: Path, generator: Path, **more: Any) -> Screen:
    return spatia.screen(corpus, generator, device="cpu", **{**SMALL, **more})


def test_a_screen_ranks_every_gene_and_writes_its_folder(corpus: Path, generator: Path, tmp_path: Path) -> None:
    found = run(corpus, generator, out=tmp_path / "out")
    assert set(found.ranking["name"]) == {"EPCAM", "CD3E", "ACTB"}
    assert found.ranking["magnitude"].is_monotonic_decreasing
    assert (found.ranking["magnitude"] > 0).all()
    assert (found.ranking["image_rms"] > 0).all()
    table = pd.read_parquet(tmp_path / "out" / "effects.parquet")
    pd.testing.assert_frame_equal(table, found.effects)
    tested = table[table["kind"] == "feature"]
    assert ((tested["low"] <= tested["effect"] + 1e-12) & (tested["effect"] <= tested["high"] + 1e-12)).mean() > 0.95
    assert tested["p"].between(0, 1).all()
    facts = json.loads((tmp_path / "out" / "screen.json").read_text())
    assert facts["synthetic"] is True
    assert "not evidence of cause" in facts["caveat"]
    assert len(facts["cells"]) == 8
    assert not list(tmp_path.glob(".*"))
    run(corpus, generator, out=tmp_path / "out", genes=["ACTB"])  # an older screen is replaced
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("x")
    with pytest.raises(SettingsError, match=r"is no folder of a screen"):
        run(corpus, generator, out=tmp_path / "other")


def test_ranking_by_the_change_of_the_input(corpus: Path, generator: Path) -> None:
    by_size, by_unit = (run(corpus, generator, rank_by=by).ranking for by in ("magnitude", "sensitivity"))
    assert by_unit["sensitivity"].is_monotonic_decreasing
    expected = by_size["magnitude"] / by_size["input_change"]
    np.testing.assert_allclose(by_size["sensitivity"], expected)


def test_equal_seeds_give_equal_screens(corpus: Path, generator: Path) -> None:
    first, again = run(corpus, generator, seed=3), run(corpus, generator, seed=3)
    pd.testing.assert_frame_equal(first.effects, again.effects)
    assert not np.allclose(first.effects["effect"], run(corpus, generator, seed=4).effects["effect"])


def test_a_gene_does_not_depend_on_the_others_that_are_screened(corpus: Path, generator: Path) -> None:
    every = run(corpus, generator).effects.set_index(["name", "reading"])["effect"]
    alone = run(corpus, generator, genes=["CD3E"]).effects.set_index(["name", "reading"])["effect"]
    # embeddings may differ in the last digit with the batch, and an intensity may then round to the next
    np.testing.assert_allclose(alone, every.loc[alone.index], atol=0.02)


@pytest.mark.parametrize("fast", [None, 0.0, 0.5, "embedding"])
def test_a_cell_without_the_gene_does_not_move(corpus: Path, generator: Path, fast: float | str | None) -> None:
    cells = Corpus.open(corpus).section("left").cells
    counts = cells.read_csr("X", 0, cells.n_rows("X")).toarray()
    gene = list(cells.var().index).index("CD3E")
    without = [str(name) for name, row in zip(cells.obs().index, counts, strict=True) if row[gene] == 0]
    pd.DataFrame({"cell_id": without, "lacks": 1.0}).to_parquet(corpus.parent / f"lacks_{fast}.parquet")
    table = corpus.parent / f"lacks_{fast}.parquet"
    more = {"read": "embedding", "fast": None} if fast == "embedding" else {"fast": fast}
    found = run(corpus, generator, genes=["CD3E", "ACTB"], cells=table, where="lacks == 1", split=None, **more)
    by_name = found.effects.groupby("name")["effect"]
    assert (by_name.get_group("CD3E") == 0).all()
    assert (by_name.get_group("ACTB") != 0).any()
    assert found.ranking.set_index("name").loc["CD3E", ["n_changed", "q"]].tolist() == [0, 1.0]


def test_the_permuted_control_exchanges_genes_under_their_names(corpus: Path, generator: Path) -> None:
    plain = run(corpus, generator).ranking.set_index("name")["magnitude"]
    control = run(corpus, generator, permute_genes=True, seed=1).ranking.set_index("name")["magnitude"]
    same_noise = run(corpus, generator, seed=1).ranking.set_index("name")["magnitude"]
    assert sorted(control.round(9)) == sorted(same_noise.round(9))
    assert not control.sort_index().equals(same_noise.sort_index())
    assert set(plain.index) == set(control.index)


def test_a_stronger_change_moves_more(corpus: Path, generator: Path) -> None:
    weak, strong = (
        run(corpus, generator, genes=["ACTB"], factor=factor).ranking["image_rms"].item() for factor in (0.9, 0.0)
    )
    assert 0 < weak < strong


def test_levels_of_another_state(corpus: Path, generator: Path) -> None:
    found = run(corpus, generator, genes=["ACTB"], level_of="cell_type == 'immune'")
    assert found.ranking["n_changed"].item() > 0
    with pytest.raises(SettingsError, match=r"level_of .*no level to set genes to"):
        run(corpus, generator, genes=["ACTB"], level_of="cell_type == 'nothing'")


@pytest.mark.parametrize(("score", "quality"), [("cell_type=immune", "held_out_auroc"), ("image_share", None)])
@pytest.mark.parametrize("read", ["image", "embedding"])
def test_a_score_of_state(corpus: Path, generator: Path, score: str, quality: str | None, read: str) -> None:
    found = run(corpus, generator, score=score, read=read)
    rows = found.effects[found.effects["kind"] == "score"]
    assert set(rows["reading"]) == {score}
    assert score in found.ranking
    if quality is not None:
        assert 0 <= found.facts["score"][quality] <= 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"score": "nothing"}, r"no column 'nothing'"),
        ({"score": "cell_type"}, r"Name the label: cell_type=LABEL"),
        ({"score": "cell_type=stroma"}, r"0 of \d+ real cells have that label"),
        ({"genes": ["ACTBB"]}, r"gene 'ACTBB' is not in .*Nearest: ACTB"),
        ({"where": "image_share > 5"}, r"0 cells with part 'test', where"),
        ({"part": "dev"}, r"has no part 'dev'"),
        ({"evaluation": 3}, r"unknown setting 'evaluation', did you mean 'evaluations'"),
        ({"fast": 1.0}, r"fast is 1.0: input should be less than 1"),
    ],
)
def test_what_does_not_go_is_refused(corpus: Path, generator: Path, more: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        run(corpus, generator, **more)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"conditions": ("niche", "tissue")}, r"is told niche, tissue, but not genes"),
        ({"task": "transition"}, r"draws changes of state; it is not told the expression"),
        ({"level": "niche"}, r"draws images of niches"),
    ],
)
def test_a_generator_that_is_not_told_genes_is_refused(
    corpus: Path, tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    other = write_generator(corpus, tmp_path / "other", **config)
    with pytest.raises(SettingsError, match=message):
        run(corpus, other)


@pytest.mark.parametrize("definition", ["grid", "knn"])
def test_an_unchanged_cell_has_the_surroundings_it_had(tmp_path: Path, definition: str) -> None:
    corpus = Corpus.open(write_corpus(tmp_path / "corpus", SECTIONS, definition))
    maker = Generator.load(write_generator(corpus.path, tmp_path / "generator"), device="cpu")
    section, row = np.zeros(5, np.int64), np.array([0, 3, 4, 11, 20])
    with embedded(corpus, maker.model, use=SEEN, device="cpu") as session:
        read = CellConditions(session.sections).read(torch.from_numpy(section), torch.from_numpy(row))
        follow = NicheFollower(corpus, maker.model, session.sections, section, row)
    torch.testing.assert_close(follow(np.arange(5), read["genes"]), read["niche"], atol=1e-5, rtol=1e-5)
    other = read["genes"] + 1
    assert not torch.allclose(follow(np.arange(5), other), read["niche"], atol=1e-3)


def planted_counts(section: TinySection, rows: np.ndarray) -> np.ndarray:
    """Independent counts of every gene."""
    return np.random.default_rng(section.number).poisson(2.0, (len(rows), len(section.genes)))


def planted_crops(section: TinySection, rows: np.ndarray, px: int) -> np.ndarray:
    """Crops whose nuclear stain is brighter the more of one gene a cell has; the other channel is noise."""
    counts = planted_counts(section, rows)[:, section.genes.index(PLANTED)]
    noise = np.random.default_rng(1).integers(0, 60, (len(rows), 2, px, px))
    noise[:, 0] += np.minimum(30 * counts, 180)[:, None, None]
    return noise.astype(np.uint8)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A corpus where one gene alone acts on the image, and a generator of random weights, whose images are not read."""
    folder = tmp_path_factory.mktemp("planted")
    genes = tuple(f"G{number}" for number in range(N_GENES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.unit.conftest.cell_counts", planted_counts)
        patch.setattr("tests.unit.conftest.crops", planted_crops)
        corpus = write_corpus(folder / "corpus", (TinySection("one", 1, genes, ("DAPI", "boundary"), n_windows=60),))
    return corpus, write_generator(corpus, folder / "generator")


PLANTED_SETTINGS = {"read": "embedding", "limit": 60, "n_drawn": 0}


def test_the_gene_that_acts_on_the_image_is_ranked_first(planted: tuple[Path, Path]) -> None:
    down = run(*planted, **PLANTED_SETTINGS).ranking
    assert down.loc[0, "name"] == PLANTED
    assert down.loc[0, "magnitude"] > 3 * down.loc[1, "magnitude"]
    assert down.loc[0, "q"] < 1e-6
    assert down.loc[0, "strongest"].startswith("DAPI")
    means = run(*planted, **PLANTED_SETTINGS, factor=3).effects.set_index(["name", "reading"])["effect"]
    assert means[PLANTED, "DAPI_mean"] > 0.5
    knocked = run(*planted, **PLANTED_SETTINGS).effects.set_index(["name", "reading"])["effect"]
    assert knocked[PLANTED, "DAPI_mean"] < -0.5
    assert abs(knocked[PLANTED, "boundary_mean"]) < 0.2


def test_the_permuted_control_loses_it(planted: tuple[Path, Path]) -> None:
    control = run(*planted, **PLANTED_SETTINGS, permute_genes=True).ranking
    assert control.loc[0, "name"] != PLANTED
    assert control.set_index("name").loc[PLANTED, "magnitude"] < control.loc[0, "magnitude"] / 3


def test_what_is_read_from_embeddings_says_how_well(planted: tuple[Path, Path]) -> None:
    quality = run(*planted, **PLANTED_SETTINGS).facts["readout"]
    assert quality["DAPI_mean"] > 0.8
    assert abs(quality["boundary_mean"]) < 0.3


def test_images_of_the_first_changes_are_drawn_beside_an_embedding(corpus: Path, generator: Path) -> None:
    found = run(corpus, generator, read="embedding", n_drawn=1)
    assert [strip.name for strip in found.strips] == [found.ranking.loc[0, "name"]]
    assert found.ranking["image_rms"].notna().tolist() == [True, False, False]
    assert not (found.effects["kind"] == "image").any()


def test_surroundings_matter(corpus: Path, generator: Path) -> None:
    sizes = [
        run(corpus, generator, genes=["ACTB"], surroundings=how).ranking["magnitude"].item()
        for how in ("follow", "keep", "drop")
    ]
    assert len({round(size, 9) for size in sizes}) == 3


def test_the_command(corpus: Path, generator: Path, tmp_path: Path) -> None:
    sets = tmp_path / "sets.gmt"
    sets.write_text("both\t\tEPCAM\tCD3E\n")
    command = ["screen", str(corpus), "-g", str(generator), "--split", "block", "--limit", "6", "--draws", "1"]
    command += ["--evaluations", "2", "--device", "cpu", "--sets", str(sets), "--genes", "ACTB"]
    shown = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "out"), "--json"])
    assert shown.exit_code == 0, shown.output
    content = json.loads(shown.stdout)
    assert {one["name"] for one in content["first"]} == {"both", "ACTB"}
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"effects.parquet", "ranking.csv", "screen.json", "volcano.png", "strips.png"}
    told = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "again"), "--set", "surroundings=keep"])
    assert told.exit_code == 0
    assert "not evidence of cause" in told.stdout
    refused = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "bad"), "--set", "surrounding"])
    assert refused.exit_code == 2
    assert not (tmp_path / "bad").exists()


def test_what_is_read_from_embeddings_is_lost_with_exchanged_images(planted: tuple[Path, Path]) -> None:
    found = run(*planted, **PLANTED_SETTINGS, shuffle_images=True)
    plain = run(*planted, **PLANTED_SETTINGS)
    assert found.facts["readout"]["DAPI_mean"] < 0.3
    control, size = (one.ranking.set_index("name").loc[PLANTED, "magnitude"] for one in (found, plain))
    assert control < size / 3
    with pytest.raises(SettingsError, match="shuffle_images with read=image"):
        run(*planted, **(PLANTED_SETTINGS | {"read": "image"}), shuffle_images=True)
