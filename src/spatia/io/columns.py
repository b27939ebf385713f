"""Names of a vendor's columns that SpatialData and a build can keep: rename the others, and say so."""

import re
from collections.abc import Iterable, Sequence

from spatia import keys
from spatia.io.findings import safe_text

# columns that a build writes; it keeps a slide's own of that name as <name>_original, which must then be free
WRITTEN_BY_BUILD = (
    *("sample", "donor", "tissue_type", "disease", "organism", keys.NICHE, keys.TISSUE),
    *("n_counts", "has_outline", "has_image", "image_share"),
)
_SHOWN = 10


def storable_names(names: Sequence[object]) -> list[str]:
    """Return the names as SpatialData allows them, in their order; a name that is allowed and alone stays.

    Letters, digits, ``_``, ``.`` and ``-`` are allowed, no ``__`` at the start, and no two that differ in case only. Of
    such, the one in lower case keeps its name, because the columns that are read by name are so written.

    Examples
    --------
    >>> storable_names(["cell type", "cell_type", "Leiden", "leiden", "__is_there", "pct (%)"])
    ['cell_type_2', 'cell_type', 'Leiden_2', 'leiden', 'is_there', 'pct']
    >>> storable_names(["sample", "sample_original"])
    ['sample', 'sample_original_2']
    """
    wanted = [_allowed(str(name)) for name in names]
    kept = set(wanted)
    taken = {original_name(name, ()) for name in WRITTEN_BY_BUILD if name in kept}
    renamed = [""] * len(wanted)
    for at in sorted(range(len(wanted)), key=lambda k: (wanted[k] != str(names[k]), wanted[k] != wanted[k].lower())):
        renamed[at] = _free(wanted[at], taken)
        taken.add(renamed[at].lower())
    return renamed


def original_name(name: str, taken: Iterable[object]) -> str:
    """Return a free name under which a column is kept whose own name another takes.

    Examples
    --------
    >>> original_name("label", ["label", "label_original"])
    'label_original_2'
    """
    return _free(f"{name}_original", {str(other).lower() for other in taken})


def renamed_in_words(old: Sequence[object], new: Sequence[str]) -> str:
    """Say which columns were renamed to what; empty where all kept their names."""
    changed = [f"{safe_text(a)!r} -> {b!r}" for a, b in zip(old, new, strict=True) if a != b]
    more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    return f"{len(changed)} columns of the cells renamed: {', '.join(changed[:_SHOWN])}{more}" if changed else ""


def _allowed(name: str) -> str:
    if re.search(r"[^\w.-]", name) or name.startswith("__") or name in ("_index", ".", ".."):
        name = re.sub(r"[^\w.-]+", "_", name).strip("_.")
    return name or "column"


def _free(name: str, taken: set[str]) -> str:
    number, free = 1, name
    while free.lower() in taken:
        number += 1
        free = f"{name}_{number}"
    return free
