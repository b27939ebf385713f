"""The figures of a report: drawn from the result files into ``OUT/figures``, and put into the page as data."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from spatia import keys
from spatia.plotting.benchmark import Dots, plot_benchmark
from spatia.plotting.embedding import Panel, plot_umap
from spatia.plotting.gene_maps import GeneMap, plot_gene_maps
from spatia.plotting.gene_scores import (
    GeneScores,
    Scatter,
    plot_gene_scores,
    plot_measured_against_predicted,
)
from spatia.plotting.group_maps import plot_group_maps
from spatia.plotting.paper import DPI
from spatia.plotting.reconstructions import plot_reconstructions
from spatia.plotting.unusual import plot_unusual
from spatia.report.contents import FIGURES, Cells, RunFolder
from spatia.report.tables import BenchmarkTable

MOST_SECTIONS = 6  # drawn; the caption says how many there are
MOST_DOTS = 60_000  # of a map or UMAP: more would only hide each other
NONE = "(none)"  # cells without a group
CSS_PX_PER_PX = 96 / DPI  # a figure is shown at the size it was drawn for, or smaller
PICTURE_ABOVE_BYTES = 700_000  # larger PNGs are photographs; as JPEG they are a fifth of the size


@dataclass(frozen=True)
class Picture:
    """An image in the page.

    Attributes
    ----------
    alt
        What it shows, for those who cannot see it.
    """

    data_uri: str
    width: int
    height: int
    alt: str
    caption: str


def picture(path: Path, alt: str, caption: str) -> Picture:
    """Read an image file into a data URI."""
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        width, height = (round(side * CSS_PX_PER_PX) for side in image.size)
        kind = "png"
        if len(content) > PICTURE_ABOVE_BYTES:
            packed = io.BytesIO()
            image.convert("RGB").save(packed, "JPEG", quality=88, subsampling=0, optimize=True)
            content, kind = packed.getvalue(), "jpeg"
    return Picture(f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}", width, height, alt, caption)


def found_pictures(folder: RunFolder, pattern: str, alt: str, caption: str) -> list[Picture]:
    """Return the pictures that a step left at ``pattern`` below the folder."""
    return [picture(path, alt, caption) for path in sorted(folder.path.glob(pattern))]


def section_pictures(folder: RunFolder, stem: str, alt: str, caption: str) -> list[Picture]:
    """Return the pictures of single sections that a step left at ``stem``.png (of the only one) or ``stem``-SAMPLE.png."""
    found = sorted(folder.path.glob(f"{stem}*.png"))
    name = Path(stem).name
    pictures = []
    for path in found[:MOST_SECTIONS]:
        sample = path.stem.removeprefix(name).removeprefix("-")
        pictures.append(picture(path, alt, f"Section {sample}. {caption}" if sample else caption))
    if left := len(found) - len(pictures):
        pictures[-1] = replace(
            pictures[-1], caption=f"{pictures[-1].caption} Not shown here: {left:,} more sections, {stem}-*.png."
        )
    return pictures


def _thinned(rows: np.ndarray) -> np.ndarray:
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST_DOTS)).astype(int))]


def umap_picture(folder: RunFolder) -> Picture | None:
    """Draw the UMAP by cluster, by label or domain, by depth and by section."""
    cells = folder.cells
    if cells is None or cells.umap is None:
        return None
    rows = _thinned(np.flatnonzero(np.isfinite(cells.umap).all(axis=1)))
    obs = cells.obs.iloc[rows]
    panels = [
        Panel(name, obs[column], cells.categories(column))
        for column, name in (
            (keys.CLUSTER, "Clusters"),
            (keys.DOMAIN, "Spatial domains"),
            (keys.PREDICTED_LABEL, "Predicted labels"),
        )
        if column in obs
    ]
    if len(cells.samples) > 1:
        panels.append(Panel("Sections", obs[keys.SAMPLE], cells.samples, legend=True))
    if "n_counts" in obs:
        depth = np.log10(1 + obs["n_counts"].to_numpy(np.float64))
        panels.append(Panel("Depth (a technical quantity)", depth, unit="log10(1 + molecules)"))
    if keys.UNUSUAL in obs:
        panels.append(Panel("Unlike the training cells", obs[keys.UNUSUAL].to_numpy(np.float64), unit="score"))
    path = plot_umap(cells.umap[rows], panels, folder.path / FIGURES / "umap.png")
    names = ", ".join(panel.name.lower() for panel in panels)
    caption = (
        "Each dot is a cell; near dots have similar embeddings. Distances between far groups mean little. "
        "If groups follow depth rather than biology, distrust them."
    )
    return picture(path, f"UMAP of {len(cells.obs):,} cells, once for each of: {names}.", caption)


def group_map(folder: RunFolder, column: str, what: str) -> Picture | None:
    """Draw a column of groups on the tissue."""
    cells = folder.cells
    if cells is None or column not in cells.obs:
        return None
    groups = cells.categories(column)
    rows = {sample: _thinned(cells.rows(sample)) for sample in cells.samples[:MOST_SECTIONS]}
    path = plot_group_maps(
        {sample: cells.position_um[index] for sample, index in rows.items()},
        {sample: cells.obs[column].iloc[index] for sample, index in rows.items()},
        groups,
        folder.path / FIGURES / f"map-{column.removeprefix('spatia_')}.png",
    )
    sizes = cells.obs[column].astype(str).value_counts(normalize=True)
    largest = ", ".join(f"{name} ({share:.0%})" for name, share in sizes.head(3).items())
    more = f" The first {MOST_SECTIONS} of {len(cells.samples)} sections." if len(cells.samples) > MOST_SECTIONS else ""
    alt = f"Map of {len(groups)} {what} on the tissue; the largest are {largest}."
    return picture(path, alt, f"{what.capitalize()} on the tissue, with each one's share of all cells.{more}")


def predicted_genes(folder: RunFolder, task: str) -> pd.DataFrame | None:
    """Return measured and predicted values of the shown genes for one way of predicting."""
    table = folder.table(
        "predicted_genes", ("cell_id", keys.SAMPLE, "gene", "task", "measured", "predicted", "held_out")
    )
    if table is None or not (table["task"] == task).any():
        return None
    return table[table["task"] == task]


def gene_map_picture(folder: RunFolder, task: str, words: str) -> Picture | None:
    """Draw measured and predicted maps of the shown genes, on the section with most held-out cells."""
    cells, table = folder.cells, predicted_genes(folder, task)
    if cells is None or table is None:
        return None
    sample = table.loc[table["held_out"], keys.SAMPLE].astype(str).value_counts().index[0]
    here = table[table[keys.SAMPLE].astype(str) == sample]
    genes = list(dict.fromkeys(here["gene"].astype(str)))
    row_of = {str(cell): row for row, cell in zip(cells.rows(sample), cells.obs.index[cells.rows(sample)], strict=True)}
    maps, position, held_out = [], np.zeros((0, 2)), np.zeros(0, bool)
    for gene, values in here.groupby("gene", sort=False, observed=True):
        values = values[values["cell_id"].astype(str).isin(row_of)]
        position = cells.position_um[[row_of[str(cell)] for cell in values["cell_id"]]]
        held_out = values["held_out"].to_numpy(bool)
        measured, predicted = values["measured"].to_numpy(np.float64), values["predicted"].to_numpy(np.float64)
        note = correlation_words(measured[held_out], predicted[held_out])
        maps.append(GeneMap(str(gene), measured, predicted, note))
    path = plot_gene_maps(position, maps, folder.path / FIGURES / f"genes-{task}.png", held_out=held_out)
    alt = f"Maps of measured and predicted expression on section {sample} for {', '.join(genes)}."
    where = f" Section {sample}." if len(cells.samples) > 1 else ""
    caption = (
        f"{words}{where} The shaded part was held out: the model never saw its cells, and the correlation r is over these alone. "
        "Elsewhere the model was trained, so agreement there proves nothing. Each map has its own colour scale."
    )
    return picture(path, alt, caption)


def correlation_words(measured: np.ndarray, predicted: np.ndarray) -> str:
    """Return ``r = 0.42``, or nothing where a correlation has no meaning."""
    if len(measured) < 3 or np.ptp(measured) == 0 or np.ptp(predicted) == 0:
        return ""
    return f"r = {np.corrcoef(measured, predicted)[0, 1]:.2f}"


def scatter_picture(folder: RunFolder, task: str) -> Picture | None:
    """Draw measured against predicted values of the shown genes on held-out cells."""
    table = predicted_genes(folder, task)
    if table is None:
        return None
    table = table[table["held_out"]]
    scatters = [
        Scatter(str(gene), values["measured"].to_numpy(np.float64), values["predicted"].to_numpy(np.float64))
        for gene, values in table.groupby("gene", sort=False, observed=True)
    ]
    path = plot_measured_against_predicted(scatters, folder.path / FIGURES / f"scatter-{task}.png")
    caption = (
        "Held-out cells. Orange: mean of the measured values along the predicted ones; on the dotted line, the prediction "
        "is right on average."
    )
    return picture(path, f"Measured against predicted expression of {len(scatters)} genes on held-out cells.", caption)


def gene_score_picture(folder: RunFolder) -> Picture | None:
    """Draw each gene's correlation for every way of predicting."""
    result, table = folder.expression, folder.table("expression_genes", ("task", "gene", "pearson", "baseline_pearson"))
    if result is None or table is None:
        return None
    scores = []
    for task in result.tasks:
        rows = table[table["task"] == task.name]
        baseline = rows["baseline_pearson"].to_numpy(np.float64)
        name = "From the image alone" if task.name == "image" else "Hidden genes, from the other genes and the image"
        compared = baseline if np.isfinite(baseline).any() else np.zeros(0)
        genes = rows["gene"].astype(str).tolist()
        scores.append(GeneScores(name, genes, rows["pearson"].to_numpy(np.float64), compared, task.baseline or ""))
    path = plot_gene_scores(scores, folder.path / FIGURES / "gene-scores.png")
    alt = "Bars of the correlation of predicted with measured expression, one for each gene, best first."
    return picture(path, alt, "One bar a gene, best first; the mark is the simple predictor beside it.")


def reconstruction_picture(folder: RunFolder) -> Picture | None:
    """Draw real crops above their reconstructions."""
    result = folder.reconstruction
    if result is None:
        return None
    rows = {"real": "real", "image": "from the\nimage", "genes": "from the\ngenes alone"}
    shown = min(12, result.n_cells)
    alt = f"{shown} real cell crops, and under each the model's reconstruction from the image and from the genes."
    caption = (
        "Held-out cells, one a column. A reconstruction is the expected picture, so it is smoother than a real one; what to look "
        "for is size, place and brightness of nucleus and cell."
    )
    return _rows_of_crops(folder, "reconstructions", rows, alt, caption, rgb=result.rgb)


def drawn_picture(folder: RunFolder) -> Picture | None:
    """Draw generated cells above the real ones and the nearest training cells."""
    result = folder.drawn
    if result is None:
        return None
    rows = {
        "generated": "drawn from\nits genes",
        "nearest": "nearest\ntraining cell",
        "real": "the real\ncell",
        "from_real": "drawn from a\ntraining cell",
        "began": "that training\ncell",
    }
    alt = f"{result.n_cells} cells drawn from their genes, with the real cell, and the training cells most like the drawing and begun at."
    caption = (
        "Held-out cells, one a column, taken evenly, not chosen. The generator was told the genes and the surroundings, never an image. A "
        "drawing is one of the cells that fit, so it need not be the real one in the middle; drawn from its genes alone it should differ from "
        "the nearest training cell, too."
    )
    if result.n_real:
        caption += (
            " Below, it began at the training cell whose picture genes and surroundings say is the most alike, and redrew what should differ: it "
            "looks real because it nearly is."
        )
    return _rows_of_crops(folder, "drawn", rows, alt, caption, rgb=result.rgb)


def _rows_of_crops(
    folder: RunFolder, name: str, rows: Mapping[str, str], alt: str, caption: str, *, rgb: bool
) -> Picture | None:
    """Draw the arrays of a result, named in ``rows`` with what stands beside them; None where they are not there."""
    arrays = folder.arrays(name)
    if not arrays:
        return None
    crops = {words: arrays[key] for key, words in rows.items() if key in arrays}
    return picture(plot_reconstructions(crops, folder.path / FIGURES / f"{name}.png", rgb=rgb), alt, caption)


def benchmark_picture(folder: RunFolder, table: BenchmarkTable) -> Picture:
    """Draw the benchmark as dots."""
    dots = []
    for task in table.tasks:
        scores = [table.score(method, task.key) for method in table.methods]
        dots.append(
            Dots(
                task.title,
                task.measure,
                table.methods,
                [score.mean if score else np.nan for score in scores],
                [score.spread if score else np.nan for score in scores],
                [table.is_ours(method) for method in table.methods],
            )
        )
    path = plot_benchmark(dots, folder.path / FIGURES / "benchmark.png")
    alt = "Dot plot of the benchmark: one panel a task, one row a method; the table holds the same numbers."
    return picture(path, alt, "Mean over seeds; the whiskers are one standard deviation. Ours in blue.")


def unusual_shares(folder: RunFolder) -> dict[str, float]:
    """Return the share of each section's cells that count as unlike the training cells; empty where none is known."""
    cells, result = folder.cells, folder.embedding
    if cells is None or keys.UNUSUAL not in cells.obs or result is None or result.unusual_above is None:
        return {}
    above = cells.obs[keys.UNUSUAL].to_numpy(np.float64) > result.unusual_above
    return {sample: float(above[cells.rows(sample)].mean()) for sample in cells.samples}


def unusual_picture(folder: RunFolder) -> Picture | None:
    """Draw the out-of-distribution score of all cells, and its map on the section with the largest share of unusual ones."""
    cells, result = folder.cells, folder.embedding
    if cells is None or keys.UNUSUAL not in cells.obs:
        return None
    shares = unusual_shares(folder)
    sample = max(shares, key=lambda name: shares[name]) if shares else cells.samples[0]
    rows, score = _thinned(cells.rows(sample)), cells.obs[keys.UNUSUAL].to_numpy(np.float64)
    several_sections = len(cells.samples) > 1
    path = plot_unusual(
        score,
        score[rows],
        cells.position_um[rows],
        folder.path / FIGURES / "unusual.png",
        above=result.unusual_above if result else None,
        section=sample if several_sections else "",
    )
    caption = f"Left: the cells of all sections. Right: section {sample}" if several_sections else f"Section {sample}"
    caption += ", which has the largest share of unusual cells." if several_sections and shares else "."
    alt = f"Histogram of the out-of-distribution score of all cells, and its map on the tissue of section {sample}."
    return picture(path, alt, caption)


def composition_shares(cells: Cells, of: str, within: str) -> pd.DataFrame:
    """Return the share of each group ``of`` among the cells of each group ``within``; rows sum to 1."""
    groups = cells.obs[of].astype(object).where(cells.obs[of].notna(), NONE).astype(str)
    shares = pd.crosstab(cells.obs[within].astype(str), groups, normalize="index")
    columns = [*cells.categories(of), *([NONE] if (groups == NONE).any() else [])]
    return shares.reindex(index=cells.categories(within), columns=columns, fill_value=0.0)


def several(pictures: Sequence[Picture | None]) -> list[Picture]:
    """Return those that are there."""
    return [one for one in pictures if one is not None]
