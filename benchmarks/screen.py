"""Does `spatia screen` find the genes that drive morphology? On simulated slides they are known, and so is what each would do.

    python benchmarks/screen.py --run CORPUS GENERATOR SLIDES SPLIT [--run …] [--read embedding image:0 image] [--limit 96]

Beside the screen stand, on the same cells: the correlation of each gene with each feature over real training cells, one regression a gene,
ridge regression on all genes (both with the same genes knocked out), how much is expressed at all, and the screen whose real cells have each
other's images (`shuffle_images`).
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from spatia import screen
from spatia.corpus.corpus import Corpus
from spatia.corpus.intensity import IntensityMap
from spatia.inference.generator import Generator
from spatia.log import configure
from spatia.readout.predictors import fit_ridge
from spatia.screening.cells import ChosenCells, choose_cells
from spatia.screening.readings import Readings, make_readings
from spatia.screening.settings import ScreenSettings
from spatia.simulate.gene_counterfactual import gene_counterfactual
from spatia.simulate.genes import DRIVER_GENES

Floats = NDArray[np.float64]
LEAST_CHANGE = (
    0.02  # of log expression, in what is divided by it: a gene that hardly any cell expresses is not measured
)


class Truth(NamedTuple):
    """Whether each gene drives morphology, and its true effect on each feature, (genes, features)."""

    drives: NDArray[np.bool_]
    effect: Floats


class Guess(NamedTuple):
    """A score to rank genes by, predicted effects (genes, features) where there are any, and the score for one unit of change."""

    score: Floats
    effect: Floats | None
    by_unit: Floats


def expression(chosen: ChosenCells, rows: NDArray[np.int64], genes: list[str]) -> Floats:
    """Return raw counts of cells, (cells, genes)."""
    parts = []
    for sample, mine in chosen.rows_by_section(rows).items():
        cells = chosen.corpus.section(sample).cells
        counts = cells.read_csr("X", 0, cells.n_rows("X"))[mine].toarray().astype(np.float64)
        parts.append(counts[:, cells.var().index.get_indexer(pd.Index(genes))])
    return np.concatenate(parts)


def log_scaled(counts: Floats, depth: float) -> Floats:
    """Return log1p of counts at one depth."""
    return np.log1p(counts * (depth / np.maximum(counts.sum(axis=1, keepdims=True), 1)))


def measured(readings: Readings, images: NDArray[np.uint8]) -> Floats:
    """Return the features that sizes are made of, in standard deviations of real cells."""
    return readings.space.apply(readings.space.extractor.extract(images))[:, readings.sized]


def true_effects(
    chosen: ChosenCells, readings: Readings, slides: Path, symbols: list[str], channels: tuple[str, ...], factor: float
) -> Truth:
    """Draw the chosen cells with each driver changed, and measure them as generated images are measured."""
    level, n = chosen.corpus.levels["cell"], len(chosen.changed)
    total = np.zeros((len(symbols), len(readings.sized)))
    ids = chosen.obs.index.astype(str).to_numpy(object)
    for sample in chosen.samples:
        mine = chosen.changed[(chosen.obs["sample"].iloc[chosen.changed] == sample).to_numpy()]
        maps = chosen.corpus.section(sample).details["intensity"]

        def features(images: NDArray[np.uint16], names: tuple[str, ...], maps: dict = maps) -> Floats:
            own = [
                IntensityMap(float(maps[one]["low"]), float(maps[one]["high"])).apply(images[:, names.index(one)])
                for one in channels
            ]
            return measured(readings, np.stack(own, axis=1))

        for gene in DRIVER_GENES:
            drawn = gene_counterfactual(
                slides / sample, {gene: factor}, ids[mine].tolist(), size_um=level.size_um, size_px=level.px
            )
            change = features(drawn.after, drawn.channels) - features(drawn.before, drawn.channels)
            total[symbols.index(gene)] += change.sum(axis=0) / n
    return Truth(np.isin(symbols, DRIVER_GENES), total)


def guess_of(effect: Floats, change: Floats | None) -> Guess:
    """Rank genes by the root mean square of their effects.

    Parameters
    ----------
    change
        Mean change of log expression of each gene, where effects are those of the whole change; None: they are for one unit already.
    """
    size = size_of(effect)
    return Guess(size, effect, size if change is None else size / np.maximum(np.abs(change), LEAST_CHANGE))


def size_of(effect: Floats) -> Floats:
    """Return the root mean square over features."""
    return np.sqrt((effect**2).mean(axis=1))


def baselines(
    chosen: ChosenCells, readings: Readings, genes: list[str], channels: tuple[str, ...], factor: float
) -> tuple[dict[str, Guess], Floats]:
    """Return what simple methods say, fitted on real training cells and asked for the same change in the same cells.

    Beside it, the mean change of log expression of each gene.
    """
    real, mine = (expression(chosen, rows, genes) for rows in (chosen.reference, chosen.changed))
    depth = float(np.median(real.sum(axis=1)))
    x = log_scaled(real, depth)
    y = measured(readings, chosen.index.images(chosen.reference, channels))
    before = log_scaled(mine, depth)
    ridge = fit_ridge(x, y)
    weight = ridge.coefficients / ridge.standardiser.scale[:, None]  # by unit of log expression
    sd_x, sd_y = x.std(axis=0), y.std(axis=0)
    r = np.nan_to_num(((x - x.mean(0)).T @ (y - y.mean(0))) / len(x) / np.outer(sd_x, np.where(sd_y > 0, sd_y, np.inf)))
    change = np.empty((len(genes), len(genes)))  # mean change of each input when one gene is changed
    for column in range(len(genes)):
        after = mine.copy()
        after[:, column] *= factor
        change[column] = (log_scaled(after, depth) - before).mean(axis=0)
    own = np.diag(change)
    slope = r * sd_y / np.where(sd_x > 0, sd_x, np.inf)[:, None]
    direction = np.sign(own)[:, None]
    by_gene, by_ridge = slope * own[:, None], change @ weight
    guesses = {
        "correlation": guess_of(r * direction, None),
        "one regression a gene": guess_of(by_gene, own),
        "ridge, coefficients": guess_of(ridge.coefficients * direction, None),
        "ridge, genes changed": guess_of(by_ridge, own),
        "how much is expressed": Guess(np.abs(own), None, np.ones(len(own))),
    }
    return guesses, own


def judge(name: str, guess: Guess, truth: Truth) -> dict[str, float | str]:
    """Return one row of the table."""
    flat = truth.effect.ravel()
    row: dict[str, float | str] = {"method": name}
    row["auroc"] = float(roc_auc_score(truth.drives, guess.score))
    row["auroc by unit"] = float(roc_auc_score(truth.drives, guess.by_unit))
    first = np.argsort(-guess.score, kind="stable")[: truth.drives.sum()]
    row["found among as many"] = float(truth.drives[first].mean())
    if guess.effect is not None:
        row["r, all genes"] = float(np.corrcoef(guess.effect.ravel(), flat)[0, 1])
        inside = guess.effect[truth.drives].ravel()
        row["r, drivers"] = float(np.corrcoef(inside, truth.effect[truth.drives].ravel())[0, 1])
        row["slope"] = float(inside @ truth.effect[truth.drives].ravel() / (truth.effect[truth.drives] ** 2).sum())
    return row


def screened(
    opened: Corpus, maker: Generator, genes: list[str], names: list[str], values: dict[str, Any]
) -> tuple[Floats, float]:
    """Return the effects that a screen predicts, (genes, features), and the seconds it took."""
    found = screen(opened, maker, device="cpu", n_drawn=0, **values)
    features = found.effects[found.effects["kind"] == "feature"]
    wide = features.pivot(index="gene_ids", columns="reading", values="effect")
    return wide.loc[genes, names].to_numpy(), float(found.facts["seconds"])


def run(
    corpus: Path, generator: Path, slides: Path, split: str, arguments: argparse.Namespace, seed: int
) -> pd.DataFrame:
    """Judge the screen and the baselines on one corpus."""
    maker, opened = Generator.load(generator, device="cpu"), Corpus.open(corpus)
    channels = maker.channels
    values = {"split": split, "limit": arguments.limit, "factor": arguments.factor, "seed": seed}
    chosen = choose_cells(opened, channels, ScreenSettings.model_validate(values))
    readings = make_readings(chosen, channels, maker.space.um_per_px, None)
    names = [readings.space.extractor.features[column] for column in readings.sized]
    table = opened.genes.astype(str)
    genes, symbols = table["gene_id"].tolist(), table["symbol"].tolist()
    truth = true_effects(chosen, readings, slides, symbols, channels, arguments.factor)
    guesses, change = baselines(chosen, readings, genes, channels, arguments.factor)
    rows = [judge(name, guess, truth) for name, guess in guesses.items()]
    drawing = {"draws": arguments.draws, "evaluations": arguments.evaluations, "surroundings": arguments.surroundings}
    drawing["guidance"] = arguments.guidance
    kept: dict[str, Any] = {}
    for way in arguments.read:
        read, _, time = way.partition(":")
        more = {"read": read} | (drawing if read == "image" else {}) | ({"fast": float(time)} if time else {})
        effect, seconds = screened(opened, maker, genes, names, values | more)
        rows.append(judge(f"spatia screen, {way}", guess_of(effect, change), truth) | {"seconds": seconds})
        if read == "embedding":
            control, seconds = screened(opened, maker, genes, names, values | more | {"shuffle_images": True})
            rows.append(judge("images exchanged, embedding", guess_of(control, change), truth) | {"seconds": seconds})
        kept[way] = effect
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        path = arguments.keep / f"{corpus.name}_{generator.name}_{seed}.npz"
        facts: dict[str, Any] = {
            "truth": truth.effect,
            "drives": truth.drives,
            "symbols": symbols,
            "change": change,
            "features": names,
        }
        np.savez(path, **facts, **kept)
    return pd.DataFrame(rows).assign(corpus=corpus.name, generator=generator.name, seed=seed)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--run", nargs=4, action="append", required=True, metavar=("CORPUS", "GENERATOR", "SLIDES", "SPLIT")
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--limit", type=int, default=96)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--evaluations", type=int, default=8)
    parser.add_argument(
        "--read", nargs="+", default=["embedding", "image:0", "image"], help="image:0.3 is image with --fast 0.3"
    )
    parser.add_argument("--factor", type=float, default=0.0)
    parser.add_argument("--surroundings", default="follow")
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--keep", type=Path, help="folder for the effects and the truth of each run")
    arguments = parser.parse_args()
    configure()
    parts = []
    for corpus, generator, slides, split in arguments.run:
        for seed in arguments.seeds:
            parts.append(run(Path(corpus), Path(generator), Path(slides), split, arguments, seed))
            print(parts[-1].round(3).to_string(index=False), flush=True)
    table = pd.concat(parts).drop(columns=["corpus", "generator", "seed"])
    summary = table.groupby("method", sort=False).agg(["mean", "std"])
    print(summary.round(3).to_string())


if __name__ == "__main__":
    main()
