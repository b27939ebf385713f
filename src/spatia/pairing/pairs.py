"""Pairs on disk (``docs/pairing.md``): written whole or not at all, read strictly."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.corpus import Corpus
from spatia.corpus.files import sha256, whole_folder, write_json
from spatia.corpus.splits import PARTS
from spatia.errors import PairingError
from spatia.pairing.signatures import COLUMNS as SIGNATURE_COLUMNS
from spatia.pairing.signatures import FEATURE, GENE, NUMBERS

FORMAT: Final = "spatia-pairs"
FORMAT_VERSION: Final = 1
FACTS_FILE: Final = "pairing.json"
PAIRS_FILE: Final = "pairs.parquet"
SIGNATURES_FILE: Final = "signatures.parquet"
ENDS_FILE: Final = "ends.parquet"
ENDS_COLUMNS: Final = ("transition", "part", "end", "cell_id", keys.SAMPLE, "row")

Floats = NDArray[np.float64]
# One row for each kept partner of each source; what belongs to the source stands in each of its rows.
COLUMNS: Final[dict[str, str]] = {
    "transition": "text",
    "group": "text",
    "part": "text",
    "problem": "int",
    "source": "text",
    "source_sample": "text",
    "source_row": "int",
    "rank": "int",
    "target": "text",
    "target_sample": "text",
    "target_row": "int",
    "probability": "share",
    "confidence": "share",
    "entropy": "positive",
    "mass": "positive",
    "cost": "positive",
    "n_targets": "int",
    "calibrated": "share or missing",
}
REQUIRED_FACTS: Final = ("corpus_id", "split", "transitions", "settings", "problems", "sha256")
_REDO: Final = "Pair again with `spatia pair`."


@dataclass(frozen=True)
class TransitionPairs:
    """The pairs of one transition in one part of the split, as arrays.

    Attributes
    ----------
    source, source_sample, source_row
        (n,) id, section and row in ``cells.zarr`` of each source cell.
    target, target_sample, target_row
        (n, k) of its partners, the likeliest first; -1 and empty text where there are fewer than k.
    probability
        (n, k) share of the source that goes to each partner; rows add up to less than 1 where the plan has more partners than kept.
    confidence, calibrated, entropy, mass, cost
        (n,) as in the table. ``calibrated`` is NaN where no calibration fits the settings.
    """

    transition: str
    part: str
    source: NDArray[np.object_]
    source_sample: NDArray[np.object_]
    source_row: NDArray[np.int64]
    target: NDArray[np.object_]
    target_sample: NDArray[np.object_]
    target_row: NDArray[np.int64]
    probability: Floats
    confidence: Floats
    calibrated: Floats
    entropy: Floats
    mass: Floats
    cost: Floats

    def __len__(self) -> int:
        return len(self.source)

    def sample(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw a partner for every source, by the kept probabilities: the column of each, (n,)."""
        edges = np.cumsum(self.probability, axis=1)
        drawn = rng.random(len(self)) * edges[:, -1]
        return np.minimum((edges <= drawn[:, None]).sum(axis=1), (self.probability > 0).sum(axis=1) - 1)

    def weights(self, gamma: float = 1.0, *, calibrated: bool = True) -> Floats:
        r"""Return :math:`w_i = c_i^\gamma / \mathrm{mean}(c^\gamma)`, (n,): how much each source counts in a loss.

        Raises
        ------
        PairingError
            If calibrated confidence is asked for and there is none.
        """
        trusted = self.calibrated if calibrated else self.confidence
        if not np.isfinite(trusted).all():
            raise PairingError(
                f"Transition {self.transition!r}: no calibrated confidence, since the pairs were made under other settings than "
                "the calibration. Pair with --calibration FILE made for them, or weigh by the plain confidence."
            )
        raised = trusted**gamma
        return raised / raised.mean()


@dataclass(frozen=True)
class Pairs:
    """A folder of pairs, validated.

    Attributes
    ----------
    table
        ``pairs.parquet``: one row a source and kept partner.
    signatures
        ``signatures.parquet``: one row a transition and gene or feature.
    facts
        ``pairing.json``: settings, versions, corpus, convergence of every problem.
    ends
        ``ends.parquet``: one row a cell of the source or target state (``end``) in a part, whether or not it became a partner. None of
        folders of before.
    """

    path: Path
    table: pd.DataFrame
    signatures: pd.DataFrame
    facts: Mapping[str, Any]
    ends: pd.DataFrame | None = None

    @property
    def corpus_id(self) -> str:
        """Which corpus the pairs are of."""
        return str(self.facts["corpus_id"])

    @property
    def split(self) -> str:
        """Which split the cells were paired within: `spatia pair` takes the only one where the user names none."""
        return str(self.facts["split"]["name"])

    @cached_property
    def transitions(self) -> tuple[str, ...]:
        """Names of the transitions, in the order of the user's file."""
        return tuple(str(one["name"]) for one in self.facts["transitions"])

    def of(self, transition: str, part: str = "train") -> TransitionPairs:
        """Return the pairs of one transition in one part, in the order of the source cells; none where the part has none."""
        self._check_name(transition)
        if part not in PARTS:
            raise PairingError(f"{self.path}: no part {part!r}. Parts: {', '.join(PARTS)}.")
        own = self.table[(self.table["transition"] == transition) & (self.table["part"] == part)]
        own = own.sort_values(["source_sample", "source_row", "rank"], kind="stable")
        first = own["rank"].to_numpy() == 0
        at = (np.cumsum(first) - 1, own["rank"].to_numpy(np.int64))
        shape = (int(first.sum()), int(at[1].max(initial=0)) + 1)

        def wide(name: str, fill: Any, dtype: Any) -> NDArray[Any]:
            values = np.full(shape, fill, dtype)
            values[at] = own[name].to_numpy(dtype)
            return values

        def once(name: str, dtype: Any = np.float64) -> NDArray[Any]:
            return own.loc[first, name].to_numpy(dtype)

        return TransitionPairs(
            transition,
            part,
            once("source", object),
            once("source_sample", object),
            once("source_row", np.int64),
            wide("target", "", object),
            wide("target_sample", "", object),
            wide("target_row", -1, np.int64),
            wide("probability", 0.0, np.float64),
            *(once(name) for name in ("confidence", "calibrated", "entropy", "mass", "cost")),
        )

    def cells_at(self, transition: str, end: str) -> pd.DataFrame:
        """Return ``cell_id`` and ``sample`` of all cells of the source or target state; of folders of before, of those in pairs."""
        self._check_name(transition)
        if self.ends is not None:
            own = self.ends[(self.ends["transition"] == transition) & (self.ends["end"] == end)]
            return own[["cell_id", keys.SAMPLE]].reset_index(drop=True)
        own = self.table[(self.table["transition"] == transition) & (self.table[end].astype(str) != "")]
        named = own[[end, f"{end}_sample"]].set_axis(["cell_id", keys.SAMPLE], axis=1)
        return named.drop_duplicates(ignore_index=True)

    def signature(self, transition: str, kind: str) -> pd.DataFrame:
        """Return Δ of one transition, indexed by name.

        Parameters
        ----------
        kind
            ``"gene"`` or ``"morphology"``.
        """
        self._check_name(transition)
        if kind not in (GENE, FEATURE):
            raise PairingError(f"no signature of {kind!r}; expected {GENE!r} or {FEATURE!r}.")
        own = self.signatures[(self.signatures["transition"] == transition) & (self.signatures["kind"] == kind)]
        return own.set_index("name").drop(columns=["transition", "kind"])

    def _check_name(self, transition: str) -> None:
        if transition not in self.transitions:
            raise PairingError(f"{self.path}: no transition {transition!r}. There are: {', '.join(self.transitions)}.")


def write_pairs(
    folder: Path,
    table: pd.DataFrame,
    signatures: pd.DataFrame,
    facts: Mapping[str, Any],
    ends: pd.DataFrame | None = None,
) -> None:
    """Write a folder aside and rename it; an older folder of pairs is replaced, anything else is left alone."""
    check_out(folder)
    tables = {PAIRS_FILE: table, SIGNATURES_FILE: signatures} | ({} if ends is None else {ENDS_FILE: ends})
    with whole_folder(folder) as aside:
        for name, content in tables.items():
            content.to_parquet(aside / name, index=False)
            with (aside / name).open("rb") as file:
                os.fsync(file.fileno())
        digests = {name: sha256(aside / name) for name in tables}
        write_json(aside / FACTS_FILE, {"format": FORMAT, "format_version": FORMAT_VERSION, **facts, "sha256": digests})


def check_out(folder: Path) -> None:
    """Refuse to write where something other than pairs stands."""
    if folder.exists() and not (folder / FACTS_FILE).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise PairingError(
            f"{folder}: exists and holds no {FACTS_FILE}, so it is no folder of pairs. Name another with -o."
        )


def read_pairs(folder: str | Path, corpus: Corpus | None = None) -> Pairs:
    """Read a folder of pairs.

    Parameters
    ----------
    corpus
        Where given, the pairs must be of this corpus, name its cells, and lie in the parts that their split has now.

    Raises
    ------
    PairingError
        If a file is missing, changed or of another format, a column or value is not as it should be, a pair joins cells of two
        parts, the corpus is another, or their split is gone or was made anew.
    """
    folder = Path(folder)
    facts = _read_facts(folder)
    table, signatures = (
        _read_table(folder / name, facts["sha256"].get(name)) for name in (PAIRS_FILE, SIGNATURES_FILE)
    )
    ends = _read_table(folder / ENDS_FILE, facts["sha256"][ENDS_FILE]) if ENDS_FILE in facts["sha256"] else None
    pairs = check_pairs(Pairs(folder, table, signatures, facts, ends))
    if corpus is not None:
        _check_corpus(pairs, corpus)
    return pairs


def check_pairs(pairs: Pairs) -> Pairs:
    """Return pairs whose columns and values are as they should be, and refuse others."""
    _check_table(pairs)
    _check_signatures(pairs)
    if pairs.ends is not None and (missing := [name for name in ENDS_COLUMNS if name not in pairs.ends]):
        raise PairingError(f"{pairs.path / ENDS_FILE}: no column {missing[0]!r}. {_REDO}")
    return pairs


def _read_facts(folder: Path) -> dict[str, Any]:
    path = folder / FACTS_FILE
    if not path.is_file():
        raise PairingError(f"{path}: no such file. Expected a folder of pairs as `spatia pair` writes it.")
    try:
        facts: dict[str, Any] = json.loads(path.read_bytes())
        found = (facts["format"], facts["format_version"])
        wrong = [name for name in REQUIRED_FACTS if name not in facts]
        wrong += [] if wrong or "name" in facts["split"] else ["split.name"]
    except (ValueError, KeyError, TypeError) as error:
        raise PairingError(f"{path}: not a description of pairs ({error!r}). {_REDO}") from error
    if found != (FORMAT, FORMAT_VERSION):
        raise PairingError(
            f"{path}: format {found[0]!r}, version {found[1]!r}; expected {FORMAT!r}, version {FORMAT_VERSION}. {_REDO}"
        )
    if wrong:
        raise PairingError(f"{path}: no {wrong[0]!r}. {_REDO}")
    return facts


def _read_table(path: Path, digest: str | None) -> pd.DataFrame:
    if not path.is_file():
        raise PairingError(f"{path}: no such file. {_REDO}")
    if (found := sha256(path)) != digest:
        raise PairingError(
            f"{path}: digest {found[:12]}…, but {FACTS_FILE} says {str(digest)[:12]}…: it was changed. {_REDO}"
        )
    return pd.read_parquet(path)


def _check_table(pairs: Pairs) -> None:
    table, path = pairs.table, pairs.path / PAIRS_FILE
    if missing := [name for name in COLUMNS if name not in table]:
        raise PairingError(f"{path}: no column {missing[0]!r}. {_REDO}")
    checks = {
        "a part that is none": ~table["part"].isin(PARTS),
        "a transition that pairing.json does not name": ~table["transition"].isin(pairs.transitions),
        "a negative row, rank or number": (table[["source_row", "target_row", "rank", "problem", "n_targets"]] < 0).any(
            axis=1
        ),
        "a share outside [0, 1]": ~_share(table["probability"]) | ~_share(table["confidence"]),
        "a calibrated probability outside [0, 1]": ~_share(table["calibrated"]) & table["calibrated"].notna(),
        "a negative entropy, mass or cost": ~(table[["entropy", "mass", "cost"]] >= 0).all(axis=1),
        "a pair that stands twice": table.duplicated(["transition", "part", "source_sample", "source_row", "rank"]),
    }
    for what, wrong in checks.items():
        if wrong.any():
            raise PairingError(f"{path}: row {int(np.flatnonzero(wrong)[0]):,} has {what}. {_REDO}")


def _share(values: pd.Series) -> pd.Series:
    return values.between(0, 1 + 1e-6)


def _check_signatures(pairs: Pairs) -> None:
    table, path = pairs.signatures, pairs.path / SIGNATURES_FILE
    if missing := [name for name in SIGNATURE_COLUMNS if name not in table]:
        raise PairingError(f"{path}: no column {missing[0]!r}. {_REDO}")
    numbers = [table[list(NUMBERS)].to_numpy(np.float64), *table["resampled"]]
    if not all(np.isfinite(values).all() for values in numbers):
        raise PairingError(f"{path}: holds values that are not finite. {_REDO}")
    without = [name for name in pairs.transitions if not (table["transition"] == name).any()]
    if without:
        raise PairingError(f"{path}: no signature of transition {without[0]!r}. {_REDO}")


def _check_corpus(pairs: Pairs, corpus: Corpus) -> None:
    if pairs.corpus_id != corpus.corpus_id:
        raise PairingError(
            f"{pairs.path}: pairs of corpus {pairs.corpus_id[:12]}…, but {corpus.path} is {corpus.corpus_id[:12]}…. "
            "Pair the cells of this corpus."
        )
    if pairs.split not in corpus.split_names():
        raise PairingError(
            f"{pairs.path}: made on split {pairs.split!r}, which {corpus.path} no longer has (it has: "
            f"{', '.join(corpus.split_names()) or 'none'}), so which cells are new to a model is not known. {_REDO}"
        )
    split = corpus.split(pairs.split)
    for end in ("source", "target"):
        for sample, own in pairs.table.groupby(f"{end}_sample", observed=True):
            ids = corpus.section(str(sample)).cells.obs().index.astype(str).to_numpy()
            rows = own[f"{end}_row"].to_numpy(np.int64)
            if (rows >= len(ids)).any() or (ids[rows] != own[end].astype(str).to_numpy()).any():
                raise PairingError(
                    f"{pairs.path / PAIRS_FILE}: section {sample!r} has other {keys.CELL_ID}s at the rows of its {end} cells. {_REDO}"
                )
            now = split.part_of_rows(str(sample), len(ids))[rows]
            if (moved := now != own["part"].to_numpy(object)).any():
                raise PairingError(
                    f"{pairs.path}: split {pairs.split!r} of {corpus.path} was made anew since: {int(moved.sum()):,} of {len(own):,} {end} "
                    f"cells of section {sample!r} are in another part now. {_REDO}"
                )
