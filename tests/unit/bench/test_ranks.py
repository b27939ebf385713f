"""Ranks and wins from rows that were made up."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spatia.bench.ranks import (
    as_fixed,
    chosen_on_training,
    differences,
    markdown,
    models_of,
    of_one_method_each,
    rank,
    wins,
)
from spatia.cli.bench_results import questions_of, write_summary
from spatia.plotting.questions import plot_questions
from spatia.plotting.ranks import plot_ranks


def _rows(values: dict[str, list[float]], **more: object) -> pd.DataFrame:
    """Methods on questions q0, q1, …, one seed each."""
    table = [
        {
            "task": f"q{number}",
            "data": f"d{number}",
            "metric": "m",
            "seed": 0,
            "method": method,
            "value": value,
            "status": "ok",
            **more,
        }
        for method, of in values.items()
        for number, value in enumerate(of)
    ]
    return pd.DataFrame(table)


def test_mean_ranks_and_what_is_told_apart() -> None:
    n = 20
    rng = np.random.default_rng(0)
    base = rng.uniform(size=n)
    found = rank(_rows({"best": list(base + 2), "middle": list(base + 1), "worst": list(base)}))
    assert found.mean_rank.to_dict() == {"best": 1.0, "middle": 2.0, "worst": 3.0}
    assert found.p_value < 1e-6
    # Demšar 2006, table 5: q = 2.343 for three methods
    assert found.critical_difference == pytest.approx(2.343 * np.sqrt(3 * 4 / (6 * n)), rel=1e-3)
    assert "| best | 1.00 |" in markdown(found)


def test_only_questions_that_all_answered_count() -> None:
    rows = _rows({"a": [1, 2, 3, 4], "b": [4, 3, 2, 1], "part": [9]})
    found = rank(rows)
    assert set(found.mean_rank.index) == {"a", "b"}
    assert rank(rows, ["a", "part"]).n_questions == 1
    most = rank(_rows({"a": [1, 2, 3, 4], "b": [4, 3, 2]}))  # three quarters are enough, and three questions are left
    assert set(most.mean_rank.index) == {"a", "b"}
    assert (most.n_questions, most.n_data_sets) == (3, 3)
    assert np.isnan(found.critical_difference)  # two methods


def test_ours_are_ranked_as_one_method_each_and_others_by_what_others_answered() -> None:
    rows = _rows({"spatia": [5, 5, 5, 5], "spatia genes": [9, 9, 9, 9], "a": [3, 4, 1], "b": [4, 3, 2], "part": [9]})
    rows["held_out"] = np.nan
    found = rank(of_one_method_each(rows))
    assert set(found.mean_rank.index) == {"spatia", "a", "b"}  # no view, and not who answered one of three
    assert (found.n_questions, found.mean_rank["spatia"]) == (3, 1.0)
    of_image = rows.assign(task="expression to image")
    assert as_fixed(of_image, "spatia")["value"].tolist() == [9] * 4
    rows["held_out"] = 0.1
    assert "spatia, chosen on training cells" in rank(of_one_method_each(rows)).mean_rank.index


def test_questions_of_one_data_set_are_no_evidence_of_a_difference() -> None:
    """Methods that differ from data set to data set, each alike in all questions of one: none is better in general."""
    rng = np.random.default_rng(0)
    told_apart = 0
    for _ in range(20):
        of_data = rng.normal(size=(6, 5))
        rows = [
            _rows({f"m{m}": (of_data[d, m] + 0.3 * rng.normal(size=21)).tolist() for m in range(5)}).assign(
                data=f"d{d}"
            )
            for d in range(6)
        ]
        found = rank(pd.concat(rows))
        assert (found.n_questions, found.n_data_sets) == (126, 6)
        told_apart += np.ptp(found.mean_rank) > found.critical_difference
    assert told_apart <= 4


def test_wins_are_ours_against_the_best_other() -> None:
    rows = pd.concat(
        [
            _rows({"spatia": [0.9, 0.5, 0.1], "spatia genes": [0.8, 0.6, 0.1], "pca": [0.7, 0.62, 0.9]}),
            _rows({"spatia": [0.9, 0.5, 0.1], "spatia genes": [0.8, 0.74, 0.1], "pca": [0.7, 0.72, 0.9]}, seed=1),
        ]
    )
    table = wins(rows).set_index("task")
    assert table["outcome"].to_dict() == {"q0": "first", "q1": "tied", "q2": "behind"}
    assert table.loc["q1", "our_method"] == "spatia genes"
    assert wins(_rows({"pca": [1.0]})).empty


def test_methods_are_compared_on_the_seeds_that_both_answered() -> None:
    """A failed seed, or one more, must not make a mean better."""
    seeds = [
        _rows({"spatia": [ours], "pca": [pca], "lucky": [lucky]}, seed=k)
        for k, (ours, pca, lucky) in enumerate([(0.88, 0.9, 0.99), (0, 0.5, 0), (0, 0.6, 0)])
    ]
    rows = pd.concat(seeds)
    rows.loc[(rows["seed"] > 0) & (rows["method"] == "spatia"), ["status", "value"]] = ["failed", np.nan]
    rows = rows[~((rows["seed"] > 0) & (rows["method"] == "lucky"))]
    (one,) = wins(rows[rows["method"] != "lucky"]).to_dict("records")
    assert (one["ours"], one["other"], one["outcome"]) == (0.88, 0.9, "behind")
    assert (one["ahead"], one["n_seeds"], one["missing"]) == (0, 1, 2)
    assert "-0.020 | 0 of 1 (2 missing) | behind |" in differences(wins(rows[rows["method"] != "lucky"]))


def test_a_small_lead_on_every_seed_counts_and_a_large_one_on_some_does_not() -> None:
    """Slides differ more than methods do: what counts is the difference on each."""
    rows = pd.concat([
        _rows({"spatia": [0.51 + step, 0.9 - 5 * step], "pca": [0.5 + step, 0.5 + step]}, seed=seed) for seed, step in enumerate((0.0, 0.1, 0.2))
    ])  # fmt: skip
    table = wins(rows).set_index("task")
    assert table["outcome"].to_dict() == {"q0": "first", "q1": "tied"}
    assert table["difference"].to_numpy() == pytest.approx([0.01, -0.2])
    assert wins(rows.assign(value=-rows["value"])).set_index("task")["outcome"].to_dict() == {
        "q0": "behind",
        "q1": "tied",
    }


def test_shuffled_copies_and_splits_of_one_corpus_are_no_further_evidence() -> None:
    one = _rows({"spatia": [0.9], "pca": [0.8], "hvg": [0.7]}, corpus_id="slide")
    rows = pd.concat([one, one.assign(data="d0, genes shuffled", corpus_id="copy"), one.assign(data="d0, blocks")])
    found = rank(rows)
    assert (found.n_questions, found.n_data_sets) == (2, 1)
    assert sorted(wins(rows)["data"]) == ["d0", "d0, blocks"]


def test_methods_are_ranked_once_in_each_corpus() -> None:
    """Nemenyi's difference is of one rank a corpus, whatever the number of questions."""
    rows = pd.concat(
        [
            _rows({"a": [3, 3, 3], "b": [2, 2, 2], "c": [1, 1, 1]}),
            _rows({"a": [1], "b": [2], "c": [0]}).assign(task="more"),
        ]
    )
    assert rank(rows).mean_rank.to_dict() == {
        "a": pytest.approx((1.5 + 1 + 1) / 3),
        "b": pytest.approx((1.5 + 2 + 2) / 3),
        "c": 3.0,
    }


def test_a_method_of_the_users_is_compared_with_all_others_and_ranked(tmp_path: Path) -> None:
    values = {"spatia": [0.9, 0.4], "pca": [0.8, 0.6], "hvg": [0.1, 0.1]}
    rows = pd.concat(
        [
            _rows(
                {**values, "mine": [0.85]},
                seed=seed,
                held_out=np.nan,
                n=9,
                n_train=9,
                seconds=1.0,
                command="c",
                peak_memory_mb=1.0,
                message="",
                n_seeds=1,
            )
            for seed in (0, 1)
        ]
    )
    (one,) = wins(rows, of="mine").to_dict("records")
    assert (one["our_method"], one["other_method"], one["outcome"]) == ("mine", "spatia", "behind")
    assert "mine" not in rank(rows).mean_rank
    assert "mine" in rank(rows, keep=["mine"]).mean_rank
    (tmp_path / "questions-old.png").touch()
    said = write_summary(rows, tmp_path, {}, json=False)
    assert "### `mine` against the best of all others" in said
    assert "in 39% of questions by chance" in said
    assert not (tmp_path / "questions-old.png").exists()


def test_a_rival_whose_name_begins_like_ours_is_none_of_ours() -> None:
    rows = _rows({"spatia genes": [0.5], "spatialglue": [0.9], "pca": [0.7]})
    assert models_of(rows["method"]) == ["spatia"]
    assert wins(rows)[["our_method", "other_method", "outcome"]].to_numpy().tolist() == [
        ["spatia genes", "spatialglue", "behind"]
    ]


def test_the_embedding_fixed_in_advance_is_not_the_best_of_many() -> None:
    rows = _rows({"spatia": [0.5], "spatia genes": [0.9], "spatia as it comes": [0.4], "pca": [0.7]})
    assert models_of(rows["method"]) == ["spatia", "spatia as it comes"]
    assert wins(rows)["outcome"].tolist() == ["first"]
    assert wins(rows, fixed="spatia")["outcome"].tolist() == ["behind"]
    of_image = rows.assign(task="image to expression")
    assert wins(of_image, fixed="spatia").empty  # it is the embedding of the image that is fixed for this task
    of_genes = rows.assign(task="expression to image")
    assert wins(of_genes, fixed="spatia")["our_method"].tolist() == ["spatia genes"]


def test_without_images_the_view_of_the_genes_is_fixed_in_advance() -> None:
    with_images = _rows({"spatia": [0.6], "spatia genes": [0.9], "pca": [0.7]})
    without = _rows({"spatia genes": [0.5], "spatia genes, niche smoothed": [0.8], "pca": [0.7]}).assign(data="tables")
    rows = pd.concat([with_images, without], ignore_index=True).assign(held_out=np.nan)
    assert as_fixed(rows, "spatia")["value"].tolist() == [0.6, 0.5]
    assert wins(rows, fixed="spatia")["outcome"].tolist() == ["behind", "behind"]
    domains = rows.assign(task="domains", metric="ARI")
    assert as_fixed(domains, "spatia")["value"].tolist() == [0.8]
    assert wins(domains, fixed="spatia")["our_method"].tolist() == ["spatia genes, niche smoothed"]
    chosen = chosen_on_training(pd.concat([rows.assign(held_out=0.1), domains], ignore_index=True), "spatia")
    of_domains = chosen[chosen["task"] == "domains"]  # nothing to choose by
    assert of_domains["message"].tolist() == ["spatia genes, niche smoothed"]


def test_the_view_is_chosen_without_a_look_at_test_cells() -> None:
    rows = _rows(
        {"spatia": [0.5, 0.4], "spatia genes": [0.6, 0.7], "spatia image, cell": [0.9, 0.1], "pca": [0.65, 0.65]}
    )
    held_out = {"spatia": [0.1, np.nan], "spatia genes": [0.3, np.nan], "spatia image, cell": [0.2, np.nan]}
    for name, values in held_out.items():
        rows.loc[rows["method"] == name, "held_out"] = values
    chosen = chosen_on_training(rows, "spatia")
    assert chosen["message"].tolist() == [
        "spatia genes",
        "spatia",
    ]  # nothing to choose by in q1: what is fixed in advance
    assert chosen["value"].tolist() == [0.6, 0.4]
    assert set(chosen["method"]) == {"spatia, chosen on training cells"}
    outcome = wins(pd.concat([rows, chosen]), fixed="spatia, chosen on training cells")
    assert outcome["outcome"].tolist() == ["behind", "behind"]
    assert wins(rows)["outcome"].tolist() == [
        "first",
        "first",
    ]  # the best of all, chosen on test cells, would have been
    assert chosen_on_training(rows.drop(columns="held_out").assign(held_out=np.nan), "spatia").empty


def test_clusters_are_chosen_from_what_the_command_chooses_from() -> None:
    rows = _rows({"spatia": [0.5], "spatia genes, cell": [0.6], "spatia genes, expected counts": [0.7]})
    for name, told in {"spatia": 0.1, "spatia genes, cell": 0.2, "spatia genes, expected counts": 0.3}.items():
        rows.loc[rows["method"] == name, "held_out"] = told
    assert chosen_on_training(rows, "spatia")["message"].tolist() == ["spatia genes, expected counts"]
    clusters = rows.assign(task="clustering")
    assert chosen_on_training(clusters, "spatia")["message"].tolist() == ["spatia genes, cell"]
    without_images = clusters[clusters["method"] != "spatia"].replace(
        {"method": {"spatia genes, expected counts": "spatia genes"}}
    )
    assert chosen_on_training(without_images, "spatia")["message"].tolist() == ["spatia genes"]
    with_images = pd.concat([without_images, clusters[clusters["method"] == "spatia"]])
    assert chosen_on_training(with_images, "spatia")["message"].tolist() == ["spatia genes, cell"]


def test_each_question_is_drawn_with_ours_and_the_best_rival(tmp_path: Path) -> None:
    one = _rows(
        {"spatia": [0.5, 0.2], "spatia genes": [0.9, 0.1], "pca": [0.7, 0.3], "hvg": [0.6, 0.1]},
        held_out=np.nan,
        n=9,
        seconds=1.0,
    )
    one.loc[one["method"] == "spatia genes", "held_out"] = 1.0
    rows = pd.concat([one, one.assign(seed=1, value=one["value"] + 0.02)])
    found = questions_of(rows, "spatia")
    first, second = (found[name][0] for name in ("d0", "d1"))
    assert (first.name, first.best_name, first.outcome) == ("q0: m", "pca", "first")
    np.testing.assert_allclose([first.ours[0], first.fixed[0], first.best[0]], [0.91, 0.51, 0.71])
    np.testing.assert_allclose(first.ours[1], np.std([0.9, 0.92], ddof=1))
    assert sorted(first.others) == pytest.approx([0.61, 0.71])
    assert (second.best_name, second.outcome) == ("pca", "behind")
    assert plot_questions(found, tmp_path / "questions.png").stat().st_size > 5_000
    assert not questions_of(rows[rows["method"].str.startswith("spatia")], "spatia")  # nobody to compare with


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    path = plot_ranks(
        {"spatia": 1.2, "pca": 1.5, "knn": 3.0}, 0.5, tmp_path / "ranks.png", ours=["spatia"], n_questions=9
    )
    assert path.stat().st_size > 5_000
