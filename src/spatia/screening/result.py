"""The result of a screen as tables, and the folder it is written to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia.corpus.files import whole_folder, write_json
from spatia.errors import SettingsError
from spatia.screening.effects import Effects
from spatia.screening.genes import GeneSet
from spatia.screening.readings import IMAGE, SCORE, Readings

EFFECTS_FILE: Final = "effects.parquet"
RANKING_FILE: Final = "ranking.csv"
FACTS_FILE: Final = "screen.json"
FORMAT: Final = "spatia-screen"
LEAST_CHANGE: Final = 0.02  # of the input, in what is divided by it: a gene that hardly a cell expresses was not tried


@dataclass(frozen=True)
class Strip:
    """Some cells before and after one change; generated, not measured.

    Attributes
    ----------
    name
        Of the change.
    cell_ids
        The cells.
    before, after
        (cells, channels, y, x) with the same noise.
    """

    name: str
    cell_ids: tuple[str, ...]
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]


@dataclass(frozen=True)
class Screen:
    """What a screen found.

    Attributes
    ----------
    effects
        One row a change and reading: ``name, gene_ids, reading, kind, effect, low, high, t, p, q``. Features are in standard deviations of
        real cells, a score in its own units (log odds of a label), the image in intensities (0-255), which has no p.
    ranking
        One row a change, the largest first.
    strips
        Images of the first changes.
    facts
        Settings, generator, corpus, cells, time.
    """

    effects: pd.DataFrame
    ranking: pd.DataFrame
    strips: tuple[Strip, ...]
    facts: dict[str, Any]


def effects_table(sets: Sequence[GeneSet], readings: Readings, effects: Effects) -> pd.DataFrame:
    """Return one row for each change and reading; of the image only where it was drawn."""
    names, kinds = readings.names, readings.kinds
    n, width = len(sets), len(names)
    table = pd.DataFrame(
        {
            "name": np.repeat([one.name for one in sets], width),
            "gene_ids": np.repeat([" ".join(one.gene_ids) for one in sets], width),
            "reading": np.tile(names, n),
            "kind": np.tile(kinds, n),
            "effect": effects.mean.ravel(),
            "low": effects.low.ravel(),
            "high": effects.high.ravel(),
        }
    )
    tested = effects.p.shape[1]
    for key, values in (("t", effects.t[:, :tested]), ("p", effects.p), ("q", effects.q)):
        padded = np.full((n, width), np.nan)
        padded[:, :tested] = values
        table[key] = padded.ravel()
    return table[table["effect"].notna()].reset_index(drop=True)


def ranking_table(
    sets: Sequence[GeneSet],
    readings: Readings,
    effects: Effects,
    input_change: NDArray[np.float64],
    *,
    by: str = "magnitude",
) -> pd.DataFrame:
    """Return one row for each change, sorted by the size of what it does to the features.

    Parameters
    ----------
    input_change
        (changes,) mean over cells of the sum over genes of the absolute change of log(1 + count).
    by
        ``"magnitude"``, or ``"sensitivity"``: the magnitude over the change of the input.
    """
    sized = readings.sized
    size = effects.magnitude(sized)
    strongest = sized[np.abs(effects.mean[:, sized]).argmax(axis=1)]
    at = np.arange(len(sets))
    table = pd.DataFrame(
        {
            "name": [one.name for one in sets],
            "gene_ids": [" ".join(one.gene_ids) for one in sets],
            "magnitude": size,
            "sensitivity": size / np.maximum(input_change, LEAST_CHANGE),
            "q": effects.gene_q(sized),
            "strongest": np.array(readings.names)[strongest],
            "strongest_effect": effects.mean[at, strongest],
            "n_changed": effects.n_changed,
            "input_change": input_change,
        }
    )
    for column, kind in enumerate(readings.kinds):
        if kind in (SCORE, IMAGE):
            table[readings.names[column]] = effects.mean[:, column]
    table = table.sort_values([by, "name"], ascending=[False, True], kind="stable").reset_index(drop=True)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    return table


def check_out(folder: Path) -> None:
    """Refuse to write where something other than a screen stands, before the work."""
    if folder.exists() and not (folder / FACTS_FILE).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(
            f"{folder}: exists and holds no {FACTS_FILE}, so it is no folder of a screen. Name another with -o."
        )


def write_screen(screen: Screen, folder: Path, draw: Callable[[Screen, Path], None] | None = None) -> Path:
    """Write aside and rename, so that the folder is whole or absent.

    Parameters
    ----------
    draw
        Draws figures into a folder; given by whoever may import the plotting layer.
    """
    check_out(folder)
    with whole_folder(folder) as aside:
        screen.effects.to_parquet(aside / EFFECTS_FILE, index=False)
        screen.ranking.to_csv(aside / RANKING_FILE, index=False)
        if draw is not None:
            draw(screen, aside)
        write_json(aside / FACTS_FILE, screen.facts)
    return folder
