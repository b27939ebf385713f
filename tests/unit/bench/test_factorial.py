"""A grid of settings: what is read from a file, how combinations are named, and the mean effect of each level."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest

from spatia.bench.factorial import combinations, main_effects, name_of, read_factors, settings_of
from spatia.bench.rows import Row
from spatia.errors import SettingsError

GRID = "contrast: {on: [], off: [weights.contrastive=0]}\nfusion: {deep: [], none: [sizes.fusion_layers=0]}\n"


def written(folder: Path, text: str = GRID) -> Path:
    path = folder / "grid.yaml"
    path.write_text(text, "utf-8")
    return path


def test_a_file_gives_every_combination_with_its_settings(tmp_path: Path) -> None:
    factors = read_factors(written(tmp_path))
    found = {name_of(levels): settings_of(factors, levels) for levels in combinations(factors)}
    assert found == {  # on and off are words here, though YAML reads them as true and false
        "contrast=on fusion=deep": (),
        "contrast=on fusion=none": ("sizes.fusion_layers=0",),
        "contrast=off fusion=deep": ("weights.contrastive=0",),
        "contrast=off fusion=none": ("weights.contrastive=0", "sizes.fusion_layers=0"),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", "expected 'factor"),
        ("a: {x: []}\n", "two levels at least"),
        ("a: {x: [], y: lr}\n", "expected a list of 'name=value', found 'lr'"),
        ("a b: {x: [], y: []}\n", "take one word"),
        ("a: {x y: [], z: []}\n", "take one word"),
        ("a: [\n", "cannot be read as YAML"),
        ("a: {on: [], on: [lr=1], off: []}\n", "'on' stands twice"),
        ("a: {on: [], true: [lr=1], off: []}\n", "'on' stands twice"),
        ("a: {1: [], '1': [lr=1]}\n", "'1' stands twice"),
        ("a: {x: [], y: []}\na: {x: [], z: []}\n", "'a' stands twice"),
        ("a: {x: [], y: [lr=1]}\nb: {x: [], y: [lr=2]}\n", "two factors set lr"),
        ("\n".join(f"f{n}: {{x: [], y: []}}" for n in range(7)), "128 combinations, at most 64"),
        ("\n".join(f"f{n}: {{x: [], y: []}}" for n in range(60)), "at most 64"),
    ],
)
def test_a_file_that_is_no_grid_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read_factors(written(tmp_path, text))
    with pytest.raises(SettingsError, match="cannot be read"):
        read_factors(tmp_path / "absent.yaml")


def rows(factors: dict[str, dict[str, tuple[str, ...]]], lost: str = "") -> pd.DataFrame:
    """Contrast is worth 1 for what sees both, nothing for genes alone; fusion is worth 0.25."""
    found = []
    for seed in (0, 1):
        for levels in combinations(factors):
            for view in ("", " genes, cell"):
                method = f"spatia {name_of(levels)}{view}"
                value = (levels["contrast"] == "on") * (not view) + 0.25 * (levels["fusion"] == "deep") + 10 * seed
                row = Row("annotation", "made up", method, "F1", value, seed, 9, 9, 1.0, 1.0, "ok", "", "command", "{}")
                found += [asdict(row)] if not (seed == 1 and method == lost) else []
    return pd.DataFrame(found)


def test_an_effect_is_a_mean_over_the_other_factors_of_one_view(tmp_path: Path) -> None:
    factors = read_factors(written(tmp_path))
    others = rows(factors).iloc[:1].assign(method="pca")
    found = main_effects(pd.concat([rows(factors), others]), factors)
    mean = found.groupby("method")["value"].mean()
    assert sorted(mean.index) == sorted(
        f"{name} {level}"
        for name in ("spatia", "spatia genes, cell")
        for level in ("contrast=on", "contrast=off", "fusion=deep", "fusion=none")
    )
    assert mean["spatia contrast=on"] - mean["spatia contrast=off"] == pytest.approx(1)
    assert mean["spatia genes, cell contrast=on"] == pytest.approx(mean["spatia genes, cell contrast=off"])
    assert mean["spatia fusion=deep"] - mean["spatia fusion=none"] == pytest.approx(0.25)


def test_a_seed_that_lacks_a_combination_enters_no_effect_of_that_view(tmp_path: Path) -> None:
    factors = read_factors(written(tmp_path))
    found = main_effects(rows(factors, lost="spatia contrast=off fusion=deep"), factors)
    seeds = found.groupby("method")["seed"].unique().map(list)
    assert seeds["spatia contrast=on"] == [0]
    assert seeds["spatia genes, cell contrast=on"] == [0, 1]
    assert main_effects(rows(factors).iloc[:3], factors).empty


def test_names_are_whole_words() -> None:
    """layers=1 is not the beginning of layers=16, and ta=on not the end of beta=on: rows of another grid may stand beside."""
    few = {"layers": {"1": ("a=1",), "2": ("a=2",)}}
    more = {"layers": {"16": (), "26": ()}, "beta": {"on": (), "off": ()}}
    table = pd.concat([of_names(f"spatia {name_of(levels)}" for levels in combinations(grid)) for grid in (few, more)])
    found = main_effects(table, few)
    assert sorted(found["method"]) == ["spatia layers=1", "spatia layers=2"]
    assert main_effects(table, {"ta": {"on": (), "off": ()}}).empty


def test_without_a_row_that_is_ok_there_is_no_effect(tmp_path: Path) -> None:
    factors = read_factors(written(tmp_path))
    found = main_effects(rows(factors).assign(status="failed"), factors)
    assert found.empty
    assert found.columns.tolist() == rows(factors).columns.tolist()


def of_names(names: Iterable[str]) -> pd.DataFrame:
    made = [Row("t", "d", name, "F1", 1.0, 0, 9, 9, 1.0, 1.0, "ok", "", "command", "{}") for name in names]
    return pd.DataFrame(list(map(asdict, made)))
