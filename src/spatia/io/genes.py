"""What a column of counts is: a gene (which?) or one of the vendor's controls."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from spatia import keys
from spatia.errors import SlideError
from spatia.io.border import Notice

GENE = "gene"
_ENSEMBL = re.compile(r"ENS[A-Z]{0,6}G\d{11}(\.\d+)?$")
# names that vendors give probes which measure no gene, where no column says so
_CONTROL_NAMES = {
    "Negative Control Probe": re.compile(r"(NegControlProbe|NegPrb|Negative\d*$|NegProbe|antisense_)", re.IGNORECASE),
    "Negative Control Codeword": re.compile(r"NegControlCodeword", re.IGNORECASE),
    "Blank Codeword": re.compile(r"(BLANK[_-]|FalseCode|Blank\d+$)", re.IGNORECASE),
    "Unassigned Codeword": re.compile(r"UnassignedCodeword", re.IGNORECASE),
    "Deprecated Codeword": re.compile(r"DeprecatedCodeword", re.IGNORECASE),
    "Genomic Control": re.compile(r"Intergenic_Region_", re.IGNORECASE),
    "System Control": re.compile(r"(SystemControl|Custom\d*Control)", re.IGNORECASE),
}


@dataclass(frozen=True)
class Features:
    """The var table of the border and what was noticed while making it."""

    var: pd.DataFrame
    notices: tuple[Notice, ...]


def feature_type(symbol: str) -> str:
    """Return "gene", or the kind of control that a probe's name says it is.

    Examples
    --------
    >>> feature_type("EPCAM"), feature_type("Blank-12"), feature_type("NegPrb10")
    ('gene', 'Blank Codeword', 'Negative Control Probe')
    >>> feature_type("Intergenic_Region_1004")
    'Genomic Control'
    """
    return next((kind for kind, pattern in _CONTROL_NAMES.items() if pattern.match(symbol)), GENE)


def describe_features(
    symbols: Sequence[str],
    where: Path,
    *,
    ids: Sequence[str] | None = None,
    types: Sequence[str] | None = None,
    panel: dict[str, str] | None = None,
) -> Features:
    """Build the var table: Ensembl ids where known, else the symbol, and what each feature is.

    Parameters
    ----------
    ids
        The vendor's ids; None where there are only symbols.
    types
        The vendor's feature types ("Gene Expression", …); None: told from the names.
    panel
        Symbol -> Ensembl id from the panel's own file, to resolve symbols used as ids.

    Raises
    ------
    SlideError
        If there is no feature, or a name is empty.
    """
    symbols, ids = list(symbols), list(ids if ids is not None else symbols)
    if not symbols or not all(symbols):
        raise SlideError(
            f"{where}: {sum(not s for s in symbols)} of {len(symbols)} features have no name; expected a panel."
        )
    kinds = [
        feature_type(s) if t in ("Gene Expression", GENE) else t
        for s, t in zip(symbols, types or [GENE] * len(symbols), strict=True)
    ]
    var = pd.DataFrame({keys.GENE_ID: ids, keys.SYMBOL: symbols, keys.FEATURE_TYPE: kinds})
    notices = []
    genes = var[keys.FEATURE_TYPE] == GENE
    foreign = genes & ~var[keys.GENE_ID].map(lambda name: bool(_ENSEMBL.match(name)))
    if foreign.any():
        resolved = var.loc[foreign, keys.SYMBOL].map(panel or {})
        var.loc[resolved.dropna().index, keys.GENE_ID] = resolved.dropna()
        notices.append(
            Notice(
                "symbols_as_ids",
                f"{int(foreign.sum()):,} of {int(genes.sum()):,} genes have a symbol instead of an Ensembl id; "
                f"{int(resolved.notna().sum()):,} resolved from the panel",
                "Ensembl ids",
                "Add the panel's gene_panel.json to the folder; unresolved symbols are kept as ids.",
            )
        )
    var.index = pd.Index(_unique_names(var[keys.GENE_ID]), dtype=str)
    return Features(var, tuple(notices))


def read_panel(path: Path) -> dict[str, str]:
    """Return symbol -> gene id of a Xenium ``gene_panel.json``.

    Raises
    ------
    SlideError
        If it is not the JSON of a panel.
    """
    try:
        targets = json.loads(path.read_text(encoding="utf-8"))["payload"]["targets"]
        data = [target["type"]["data"] for target in targets if target["type"]["descriptor"] == GENE]
        return {entry["name"]: entry["id"] for entry in data if entry.get("id")}
    except (ValueError, KeyError, TypeError) as error:
        raise SlideError(
            f"{path}: not a Xenium gene panel ({type(error).__name__}: {error}). Expected payload.targets[].type.data with "
            "`name` and `id`. Copy it again, or remove it to keep the ids of the matrix."
        ) from error


def _unique_names(names: pd.Series) -> list[str]:
    """Number repeats: some panels measure one gene with two probes, and AnnData wants unique names."""
    repeats = names.groupby(names).cumcount()
    return [f"{name}-{k}" if k else name for name, k in zip(names, repeats, strict=True)]
