"""The data sets of `spatia bench` where the user gives none: simulated slides that ask every task, small (quick) or larger (full).

Their answers are exact, and nobody's patients. Four corpora: two donors (split by donor, and by blocks), sections with panels
that differ (label transfer), and a cohort of donors with an outcome (biomarker).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spatia import keys
from spatia.bench.dataset import DataSet, SplitKind, write_dataset
from spatia.corpus.build import build
from spatia.corpus.settings import BuildSettings, NicheSettings
from spatia.errors import SpatiaError
from spatia.io.source import Source
from spatia.log import logger
from spatia.simulate.celltypes import STATES
from spatia.simulate.settings import SimulationSettings
from spatia.simulate.slide import simulate
from spatia.simulate.states import TYPES_WITH

UM_PER_PX = 0.425
PANEL_SHARE = 0.7
TRANSITIONS = ("emt of tumour", "luminal→tumour")  # a change of state, and one of type
TUMOUR = ("tumour_core", "tumour_margin")
IMMUNE = ("t_cell", "b_cell", "plasma", "macrophage")


@dataclass(frozen=True)
class Size:
    """How much is simulated.

    Attributes
    ----------
    cells
        Of each of the two sections of a pair.
    donors, donor_cells
        Of the cohort.
    seeds
        Pairs and cohorts, one a seed.
    """

    cells: int
    donors: int
    donor_cells: int
    seeds: int


SIZES = {"quick": Size(1_000, 16, 250, 1), "full": Size(5_000, 24, 500, 3)}


def suite_data(folder: Path, size: Size) -> list[Path]:
    """Make what is not there yet, and return the JSON files of the data sets."""
    paths = []
    for seed in range(size.seeds):
        pair = simulated_corpus(folder, f"pair_{seed}", n_cells=size.cells, n_sections=2, n_donors=2, seed=seed)
        whole: tuple[SplitKind, ...] = ("donor", "block")
        for split in whole:
            paths.append(_pair(folder, f"pair_{seed}", pair, size, seed, split))
        panels = f"panels_{seed}"
        corpus = simulated_corpus(
            folder, panels, n_cells=size.cells, n_sections=2, n_donors=2, seed=100 + seed, panel_share=PANEL_SHARE
        )
        paths.append(_pair(folder, panels, corpus, size, seed, "section"))
        paths.append(_cohort(folder, size, seed))
    return paths


def simulated_corpus(folder: Path, name: str, **settings: Any) -> Path:
    """Simulate sections and build their corpus as `spatia run` does; the slides stay in NAME_slides."""
    corpus, slides = folder / name, folder / f"{name}_slides"
    if (corpus / "corpus.json").exists():
        return corpus
    known = SimulationSettings(um_per_px=UM_PER_PX, transcripts=False, **settings)
    logger.info("%s: simulating %d sections of %s cells", name, known.n_sections, f"{known.n_cells:,}")
    folders = section_folders(slides)
    if len(folders) < known.n_sections:
        folders = simulate(slides, known)
    sources = [
        Source(one.name, one, donor=f"donor_{known.donor_of(number) + 1}", tissue="breast")
        for number, one in enumerate(folders)
    ]
    result = build(sources, corpus, BuildSettings(niches=NicheSettings(definition="knn")))
    if result.exit_code:
        raise SpatiaError("; ".join(section.message for section in result.sections if section.message))
    return corpus


def section_folders(slides: Path) -> list[Path]:
    """Return the bundles of a simulation, in order."""
    return sorted(slides.glob("section_*"), key=lambda path: int(path.name.removeprefix("section_")))


def truth_labels(slides: Path) -> pd.DataFrame:
    """Return what is true of every cell: type, domain, and continuous states (missing where a type cannot have one)."""
    tables = []
    for folder in section_folders(slides):
        table = pd.read_parquet(folder / "truth" / "cells.parquet").assign(sample=folder.name)
        for state in STATES:
            table.loc[~table["type"].isin(TYPES_WITH[state]), f"state_{state}"] = np.nan
        tables.append(table)
    columns = ["cell_id", keys.SAMPLE, "type", "domain", "donor", *(f"state_{state}" for state in STATES)]
    return pd.concat(tables, ignore_index=True)[columns].astype({"type": str, "domain": str})


def inflamed(labels: pd.DataFrame) -> pd.Series:
    """Return 1 for cells of donors whose tumour holds more immune cells than the median donor's, else 0.

    A fact of the tissue that no single cell carries: the share of immune cells among the cells of tumour core and margin.
    """
    tumour = labels[labels["domain"].isin(TUMOUR)]
    immune = pd.Series(tumour["type"].isin(IMMUNE), dtype=np.float64)
    share = immune.groupby(tumour["donor"]).mean()
    return labels["donor"].map((share > share.median()).astype(int))


def _pair(folder: Path, name: str, corpus: Path, size: Size, seed: int, split: SplitKind) -> Path:
    labels = folder / f"{name}_labels.parquet"
    if not labels.exists():
        truth_labels(folder / f"{name}_slides").to_parquet(labels)
    says = {"donor": "other donor", "block": "other blocks", "section": "other panel"}[split]
    whole = split != "block"
    return write_dataset(
        DataSet(
            name=f"simulated {2 * size.cells:,} cells, {says}",
            corpus=corpus,
            labels=labels,
            cell_type="type",
            domain="domain",
            states=tuple(f"state_{state}" for state in STATES),
            transitions=TRANSITIONS if split == "donor" else (),
            split=split,
            test=0.5 if whole else 0.2,
            validation=0.0 if whole else 0.1,
            only_seed=seed,
        ),
        folder / f"{name}_{split}.json",
    )


def _cohort(folder: Path, size: Size, seed: int) -> Path:
    name = f"cohort_{seed}"
    corpus = simulated_corpus(
        folder, name, n_cells=size.donor_cells, n_sections=size.donors, n_donors=size.donors, seed=200 + seed
    )
    labels = folder / f"{name}_labels.parquet"
    if not labels.exists():
        table = truth_labels(folder / f"{name}_slides")
        table.assign(inflamed=inflamed(table)).to_parquet(labels)
    data = DataSet(
        name=f"simulated cohort of {size.donors}",
        corpus=corpus,
        labels=labels,
        cell_type="type",
        outcome="inflamed",
        split="donor",
        test=0.5,
        validation=0.0,
        only_seed=seed,
    )
    return write_dataset(data, folder / f"{name}.json")
