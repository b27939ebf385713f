"""What stands in a report, section by section: the data of each, or in one line why it is absent."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import pandas as pd

from spatia import keys
from spatia.report import figures
from spatia.report.contents import Cells, RunFolder
from spatia.report.tables import (
    BENCHMARK_COLUMNS,
    BenchmarkTable,
    benchmark_table,
    markers_by_cluster,
)
from spatia.report.words import KeyNumber, key_numbers, run_state, some, summary

MOST_GROUPS_IN_TABLE: Final = 40


@dataclass(frozen=True)
class PageSection:
    """One section of the page.

    Attributes
    ----------
    anchor
        Its id in the page, and the name of its template.
    absent
        Why there is nothing to show; empty where there is.
    """

    anchor: str
    title: str
    data: dict[str, Any] = field(default_factory=dict)
    absent: str = ""


@dataclass(frozen=True)
class Page:
    """Everything the template prints.

    Attributes
    ----------
    verdict, verdict_words
        "complete", "partial" (without some sections), "unfinished" or "stopped"; and what is said of it.
    """

    title: str
    verdict: str
    verdict_words: str
    sentences: list[str]
    numbers: list[KeyNumber]
    sections: list[PageSection]
    folder: RunFolder


def make_page(folder: RunFolder) -> Page:
    """Read the folder, draw its figures and put the sections in order."""
    benchmark = _benchmark_table(folder)
    samples = [section.sample for section in folder.slide.sections] if folder.slide else []
    sections = [section for make in _SECTIONS if (section := make(folder)) is not None]
    annotation = next(place for place, section in enumerate(sections) if section.anchor == "annotation")
    sections.insert(annotation, _benchmark(folder, benchmark))
    title = (
        ", ".join(samples[:3]) + (f" and {len(samples) - 3} more" if len(samples) > 3 else "") if samples else "a slide"
    )
    return Page(title, *run_state(folder), summary(folder, benchmark), key_numbers(folder, benchmark), sections, folder)


def _slide(folder: RunFolder) -> PageSection:
    if folder.slide is None and not folder.checks:
        return PageSection("slide", "The slide and its quality", absent=folder.absence("check"))
    alt = "The whole slide with its cells, and a dense part of it magnified with outlines and centroids."
    caption = "Outlines and centroids over the nuclear stain. They should sit on the nuclei, left as well as right."
    pictures = figures.section_pictures(folder, "qc", alt, caption)
    order = ("refused", "warning", "ok")
    checks = [
        (check, sorted(check.findings, key=lambda finding: order.index(finding.severity)))
        for check in folder.checks or ()
    ]
    return PageSection(
        "slide", "The slide and its quality", {"slide": folder.slide, "checks": checks, "pictures": pictures}
    )


def _crops(folder: RunFolder) -> PageSection:
    alt = "A sheet of cell crops spread evenly over the section, each with its cell and nucleus border."
    caption = (
        "What the model sees: one crop of fixed physical size for every cell, never rescaled. Check that the middle of each crop is "
        "one cell, in focus, inside its border."
    )
    pictures = figures.section_pictures(folder, "figures/crops", alt, caption)
    absent = "" if pictures else folder.absence("draw")
    return PageSection("crops", "Cells as the model sees them", {"pictures": pictures}, absent)


def _training(folder: RunFolder) -> PageSection:
    if folder.training is None:
        return PageSection("training", "Training", absent=folder.absence("train"))
    alt = "Curves of every loss term over training, on training and validation cells."
    caption = "Each term of the loss. Falling and then flat is good; validation that rises again means too many epochs."
    pictures = figures.found_pictures(folder, "model/curves.png", alt, caption)
    return PageSection("training", "Training", {"training": folder.training, "pictures": pictures})


def _embedding(folder: RunFolder) -> PageSection:
    drawn = figures.umap_picture(folder)
    if folder.embedding is None and drawn is None:
        return PageSection("embedding", "The embedding", absent=folder.absence("embed"))
    data = {"embedding": folder.embedding, "pictures": figures.several([drawn]), "no_umap": folder.absence("umap")}
    return PageSection("embedding", "The embedding", data)


def _stability(folder: RunFolder, name: str) -> list[figures.Picture]:
    alt = f"How well the {name} of random halves of the cells agree, over the resolution, and the chosen resolution."
    caption = "Chosen where most comes back in other cells; no label was used."
    if name == "domains":
        alt = "How much of the surroundings in other places of the tissue domains tell, over the resolution, and the chosen resolution."
        caption = "The coarsest domains that tell nearly as much of other places as the best; no label was used."
    return figures.found_pictures(folder, f"figures/stability-{name}.png", alt, caption)


def _maps(folder: RunFolder) -> PageSection:
    maps = [
        figures.group_map(folder, keys.CLUSTER, "clusters"),
        figures.group_map(folder, keys.DOMAIN, "spatial domains"),
        figures.group_map(folder, keys.PREDICTED_LABEL, "predicted labels"),
        figures.gene_map_picture(folder, "image", "Genes predicted from the image alone."),
        figures.gene_map_picture(folder, "imputation", "Hidden genes, predicted from the other genes and the image."),
    ]
    pictures = figures.several(maps)
    data = {
        "pictures": pictures,
        "groups": [
            (folder.clusters, "Clusters", _stability(folder, "clusters")),
            (folder.domains, "Domains", _stability(folder, "domains")),
        ],
        "expression": folder.expression,
    }
    return PageSection("maps", "Maps of the tissue", data, "" if pictures else folder.absence("cluster"))


def _markers(folder: RunFolder) -> PageSection:
    markers, cells = markers_by_cluster(folder), folder.cells
    absent = ""
    if markers is None:
        absent = folder.absence("cluster")
    elif not markers:
        nowhere = cells is not None and cells.n_everywhere == 0
        absent = "No gene is higher in one cluster than in the others."
        if nowhere:
            absent = "No gene is measured in every section, so none was ranked."
    sizes: Any = (
        cells.obs[keys.CLUSTER].astype(str).value_counts() if cells is not None and keys.CLUSTER in cells.obs else {}
    )
    n_ranked = None if cells is None else cells.n_everywhere
    data = {"markers": markers, "sizes": sizes, "n_ranked": n_ranked}
    return PageSection("markers", "Marker genes of the clusters", data, absent)


def _composition(folder: RunFolder) -> PageSection:
    cells = folder.cells
    if cells is None or keys.DOMAIN not in cells.obs:
        return PageSection("composition", "What the domains are made of", absent=folder.absence("domains"))
    # where most cells are without a label, labels say little of what a domain is made of
    of = (
        keys.PREDICTED_LABEL
        if keys.PREDICTED_LABEL in cells.obs and cells.obs[keys.PREDICTED_LABEL].notna().mean() > 0.5
        else keys.CLUSTER
    )
    if of not in cells.obs:
        return PageSection("composition", "What the domains are made of", absent=folder.absence("cluster"))
    table = _shares(cells, of, keys.DOMAIN, "Domain", "label" if of == keys.PREDICTED_LABEL else "cluster")
    return PageSection("composition", "What the domains are made of", {"table": table})


@dataclass(frozen=True)
class _Shares:
    """A table of shares: of each group ``of`` (columns) among the cells of each group ``within`` (rows)."""

    within: str
    of: str
    shares: pd.DataFrame
    sizes: pd.Series
    cut: str  # which rows and columns are not shown; empty where all are


def _shares(cells: Cells, of: str, within: str, within_name: str, of_name: str) -> _Shares:
    whole = figures.composition_shares(cells, of, within)
    names = (within_name.lower(), of_name)
    cut = [
        f"Only the first {MOST_GROUPS_IN_TABLE} of {some(n, name)} are shown."
        for n, name in zip(whole.shape, names, strict=True)
        if n > MOST_GROUPS_IN_TABLE
    ]
    shown = whole.iloc[:MOST_GROUPS_IN_TABLE, :MOST_GROUPS_IN_TABLE]
    return _Shares(within_name, of_name, shown, cells.obs[within].astype(str).value_counts(), " ".join(cut))


def _sections(folder: RunFolder) -> PageSection | None:
    """Compare the sections; None where there is nothing to compare."""
    cells = folder.cells
    if cells is None or len(cells.samples) < 2:
        return None
    of = {keys.CLUSTER: "cluster", keys.DOMAIN: "domain", keys.PREDICTED_LABEL: "label"}
    tables = [
        _shares(cells, column, keys.SAMPLE, "Section", name) for column, name in of.items() if column in cells.obs
    ]
    return PageSection("sections", "What the sections are made of", {"tables": tables}) if tables else None


def _reconstructions(folder: RunFolder) -> PageSection:
    drawn = figures.reconstruction_picture(folder)
    absent = "" if drawn else folder.absence("reconstruct")
    data = {"pictures": figures.several([drawn]), "result": folder.reconstruction}
    return PageSection("reconstructions", "Images the model reconstructs", data, absent)


def _drawn(folder: RunFolder) -> PageSection:
    drawn = figures.drawn_picture(folder)
    absent = "" if drawn else folder.absence("generate")
    data = {"pictures": figures.several([drawn]), "result": folder.drawn}
    return PageSection("drawn", "Cells drawn from their genes", data, absent)


def _expression(folder: RunFolder) -> PageSection:
    if folder.expression is None or not folder.expression.tasks:
        return PageSection("expression", "Predicted and measured genes", absent=folder.absence("expression"))
    pictures = figures.several(
        [
            figures.gene_score_picture(folder),
            *(figures.scatter_picture(folder, name) for name in ("image", "imputation")),
        ]
    )
    return PageSection(
        "expression", "Predicted and measured genes", {"result": folder.expression, "pictures": pictures}
    )


def _benchmark_table(folder: RunFolder) -> BenchmarkTable | None:
    rows = folder.table("benchmark/rows", BENCHMARK_COLUMNS)
    return None if folder.benchmark is None or rows is None else benchmark_table(rows, folder.benchmark)


def _benchmark(folder: RunFolder, table: BenchmarkTable | None) -> PageSection:
    if table is None or not table.tasks:
        return PageSection("benchmark", "Compared with simple methods", absent=folder.absence("benchmark"))
    data = {"table": table, "result": folder.benchmark, "pictures": [figures.benchmark_picture(folder, table)]}
    return PageSection("benchmark", "Compared with simple methods", data)


def _annotation(folder: RunFolder) -> PageSection:
    absent = "" if folder.annotation else folder.absence("annotate")
    alt = "Share of right labels over the stated probability, before and after calibration; the diagonal is right on average."
    caption = (
        "On the diagonal, stated probabilities can be believed. Below: how many cells were given which probability."
    )
    pictures = figures.found_pictures(folder, "figures/reliability.png", alt, caption) if folder.annotation else []
    return PageSection("annotation", "Labels", {"result": folder.annotation, "pictures": pictures}, absent)


def _unusual(folder: RunFolder) -> PageSection:
    cells = folder.cells
    there = cells is not None and keys.UNUSUAL in cells.obs
    shares = figures.unusual_shares(folder)
    data = {
        "pictures": figures.several([figures.unusual_picture(folder)]),
        "embedding": folder.embedding,
        "shares": shares if len(shares) > 1 else {},
        "sizes": cells.obs[keys.SAMPLE].astype(str).value_counts() if cells is not None else {},
    }
    return PageSection("unusual", "Cells unlike the training data", data, "" if there else folder.absence("embed"))


def _warnings(folder: RunFolder) -> PageSection:
    return PageSection("warnings", "What was refused, skipped or warned of", {"warnings": list(folder.warnings())})


def _made(folder: RunFolder) -> PageSection:
    return PageSection("made", "How this was made", {"run": folder.run, "training": folder.training})


def _glossary(folder: RunFolder) -> PageSection:  # noqa: ARG001 - one signature for all sections
    return PageSection("glossary", "Terms and caveats")


_SECTIONS: Final[tuple[Callable[[RunFolder], PageSection | None], ...]] = (
    _slide, _crops, _training, _embedding, _maps, _markers, _composition, _sections, _reconstructions, _drawn, _expression, _annotation, _unusual,
    _warnings, _made, _glossary,
)  # fmt: skip
