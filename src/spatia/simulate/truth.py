"""The truth of a simulated slide: what every cell is, and what the picture and counts were made from."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia.errors import SlideError
from spatia.simulate.celltypes import DOMAINS, FEATURES, STATES, TYPE_NAMES
from spatia.simulate.genes import DRIVER_GENES, DRIVERS, PROGRAMS
from spatia.simulate.outlines import Outlines
from spatia.simulate.section import Cells, Section, section_expression
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
    outlines = section.cells.outlines
    np.savez(truth / "outlines.npz", cell=outlines.cell, nucleus=outlines.nucleus, limit=outlines.limit)
    content = {
        "spatia_version": __version__,
        "section": section.number,
        "donor": section.donor,
        "side_um": section.side_um,
        "settings": settings.model_dump(mode="json", exclude={"workers", "tile_px"}),
    }
    (truth / "simulation.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _named(codes: NDArray[np.int8], names: tuple[str, ...]) -> pd.Categorical:
    return pd.Categorical(np.array(names, object)[codes], categories=list(names))


def _codes(column: pd.Series, names: tuple[str, ...]) -> NDArray[np.int8]:
    return pd.Categorical(column, categories=list(names)).codes.astype(np.int8)


def truth_table(settings: SimulationSettings, section: Section) -> pd.DataFrame:
    """Return what is true of every cell: one row per cell, in the order of the bundle."""
    cells = section.cells
    table = {
        "cell_id": cell_ids(settings.seed, section.number, len(cells)).astype(object),
        "type": _named(cells.kind, TYPE_NAMES),
        "domain": _named(cells.domain, DOMAINS),
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


@dataclass(frozen=True)
class Truth:
    """A simulated section, read back from its bundle."""

    settings: SimulationSettings
    section: Section


def read_truth(bundle: Path) -> Truth:
    """Read a section back from ``truth/``.

    Raises
    ------
    SlideError
        If the folder has no (complete) truth, or one of another version of this package.
    """
    folder = Path(bundle) / "truth"
    missing = [name for name in ("simulation.json", "cells.parquet", "outlines.npz") if not (folder / name).is_file()]
    if missing:
        raise SlideError(f"{folder}: no {missing[0]}. Expected a slide made by `spatia simulate`; make one anew.")
    content = json.loads((folder / "simulation.json").read_text(encoding="utf-8"))
    if content["spatia_version"] != __version__:
        raise SlideError(
            f"{folder}: made by spatia {content['spatia_version']}, this is {__version__}, whose simulator may draw "
            "other noise. Simulate the slide anew."
        )
    settings = SimulationSettings.model_validate_json(json.dumps(content["settings"]))
    table = pd.read_parquet(folder / "cells.parquet")
    with np.load(folder / "outlines.npz", allow_pickle=False) as arrays:
        outlines = Outlines(arrays["cell"], arrays["nucleus"], arrays["limit"])
    cells = Cells(
        centre_um=table[["x_true_um", "y_true_um"]].to_numpy(),
        kind=_codes(table["type"], TYPE_NAMES),
        domain=_codes(table["domain"], DOMAINS),
        axis=table["axis_rad"].to_numpy(),
        states=table[[f"state_{name}" for name in STATES]].to_numpy(np.float32),
        features=table[[f"latent_{name}" for name in FEATURES]].to_numpy(np.float32),
        scores=table[[f"driver_{name}" for name in DRIVER_GENES]].to_numpy(np.float32),
        library=table["library_size"].to_numpy(np.float32),
        outlines=outlines,
    )
    number = content["section"]
    expression = section_expression(settings, number)
    return Truth(settings, Section(cells, expression, content["side_um"], number, content["donor"]))
