"""Colours of categories that stay apart for the colour-blind."""

from collections.abc import Sequence
from typing import Final

# Okabe & Ito's first six, then greedily the colour that is furthest (CIEDE2000) from white, from the grey of cells without
# a value, and from all before it, as people with normal, protanopic and deuteranopic sight see it (Machado et al. 2009).
# Least difference: 12 among the first 15, 8 among all 30.
COLOUR_BLIND_SAFE: Final = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#492431", "#0c009e", "#553d00", "#c2e7aa",
    "#3d6d6d", "#c2003d", "#ceaaaa", "#004961", "#7979ff", "#246d49", "#ffdb00", "#f36179", "#550cf3", "#24499e",
    "#e7ceff", "#c2b66d", "#313118", "#ce3186", "#6dc2ce", "#928649", "#b6e7ce", "#6d0049", "#6d4955", "#c23d0c",
)  # fmt: skip
NO_VALUE: Final = "#d9dde4"


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for each name, in their order; beyond 30 they come again, so such a figure needs another key.

    Examples
    --------
    >>> colours_of(["tumour", "stroma"])["stroma"]
    '#e69f00'
    """
    return {name: COLOUR_BLIND_SAFE[i % len(COLOUR_BLIND_SAFE)] for i, name in enumerate(names)}
