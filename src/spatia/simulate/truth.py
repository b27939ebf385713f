"""The truth of a simulated slide: what every cell is, and what the picture and counts were made from."""

from pathlib import Path

import numpy as np
import pandas as pd

from spatia.simulate.celltypes import DOMAINS, FEATURES, STATES, TYPE_NAMES
from spatia.simulate.genes import DRIVER_GENES, DRIVERS, PROGRAMS
from spatia.simulate.section import Section
from spatia.simulate.settings import SimulationSettings
from spatia.simulate.tables import cell_ids
from spatia.version import __version__


def write_truth(folder: Path, settings: SimulationSettings, section: Section) -> None:
    """Write ``truth/``: cells, programmes, driver genes and the settings."""
    truth = folder / "truth"
    truth.mkdir()
    truth_table(settings, section).to_parquet(truth / "cells.parquet", index=False)
    panel = section.expression.panel
    rows = [
        (name, symbol, panel.gene_ids[column], loading)
        for name, loadings in zip(PROGRAMS, panel.loadings, strict=True)
        for column, (symbol, loading) in enumerate(zip(panel.symbols, loadings, strict=True))
        if loading > 0
    ]
    pd.DataFrame(rows, columns=["program", "symbol", "gene_id", "loading"]).to_csv(truth / "programs.csv", index=False)
    drivers = [
        (d.gene, panel.gene_ids[panel.symbols.index(d.gene)], d.feature, int(np.sign(d.effect)), d.effect)
        for d in DRIVERS
    ]
    pd.DataFrame(drivers, columns=["symbol", "gene_id", "feature", "sign", "effect"]).to_csv(
        truth / "driver_genes.csv", index=False
    )
    import json

    content = {
        "spatia_version": __version__,
        "section": section.number,
        "donor": section.donor,
        "side_um": section.side_um,
        "settings": settings.model_dump(mode="json", exclude={"workers"}),
    }
    (truth / "simulation.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def truth_table(settings: SimulationSettings, section: Section) -> pd.DataFrame:
    """Return what is true of every cell: one row per cell, in the order of the bundle."""
    cells = section.cells
    table = {
        "cell_id": cell_ids(settings.seed, section.number, len(cells)).astype(object),
        "type": pd.Categorical.from_codes(cells.kind, list(TYPE_NAMES)),
        "domain": pd.Categorical.from_codes(cells.domain, list(DOMAINS)),
        "donor": [f"donor_{section.donor + 1}"] * len(cells),
        "x_true_um": cells.centre_um[:, 0],
        "y_true_um": cells.centre_um[:, 1],
        "axis_rad": cells.axis,
        "library_size": cells.library,
    }
    table |= {f"state_{name}": cells.states[:, i] for i, name in enumerate(STATES)}
    table |= {f"latent_{name}": cells.features[:, i] for i, name in enumerate(FEATURES)}
    table |= {f"driver_{name}": cells.scores[:, i] for i, name in enumerate(DRIVER_GENES)}
    return pd.DataFrame(table)
