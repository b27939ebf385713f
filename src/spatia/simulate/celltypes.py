"""The kinds of cells, domains and states: names, sizes and looks.

Sizes are round numbers within what histology books give for breast tissue; intensities are relative.
"""

from dataclasses import dataclass

import numpy as np

DOMAINS = ("tumour_core", "tumour_margin", "stroma", "immune_aggregate", "perivascular", "normal_epithelium")
STATES = ("emt", "proliferation", "activation", "hypoxia")

# Latent morphology of a cell. All are natural logarithms (so effects add up), except that the elongations are the
# logarithm of long over short axis.
FEATURES = (
    "cell_area",
    "elongation",
    "nucleus_area",
    "nucleus_elongation",
    "chromatin",
    "dapi",
    "boundary",
    "rna",
    "protein",
)
CHANNELS = ("DAPI", "ATP1A1/CD45/E-Cadherin", "18S", "AlphaSMA/Vimentin")


@dataclass(frozen=True)
class CellType:
    """How cells of one type are built.

    Parameters
    ----------
    radius_um
        Radius of the disc with the typical area of the cell.
    aspect, nucleus_aspect
        Long over short axis.
    nucleus_share
        Area of the nucleus over that of the cell.
    chromatin
        Relative contrast of the nuclear texture.
    dapi, boundary, rna, protein
        Relative brightness in the four channels.
    room
        How much farther than touching its neighbours stand.
    library
        Relative number of transcripts.
    """

    name: str
    radius_um: float
    aspect: float
    nucleus_share: float
    nucleus_aspect: float
    chromatin: float
    dapi: float
    boundary: float
    rna: float
    protein: float
    room: float
    library: float
    colour: str


TYPES = (
    CellType("tumour", 6.3, 1.15, 0.42, 1.2, 0.42, 0.95, 0.95, 1.20, 0.12, 0.90, 1.35, "#d1495b"),
    CellType("luminal", 5.3, 1.35, 0.36, 1.3, 0.25, 0.90, 1.20, 0.80, 0.06, 0.88, 1.10, "#edae49"),
    CellType("myoepithelial", 4.4, 2.10, 0.38, 1.9, 0.28, 0.95, 0.55, 0.55, 1.30, 0.90, 0.80, "#8d5b2c"),
    CellType("fibroblast", 4.7, 3.40, 0.33, 2.5, 0.24, 0.95, 0.15, 0.45, 0.75, 1.30, 0.75, "#30638e"),
    CellType("endothelial", 4.3, 2.30, 0.36, 2.2, 0.28, 1.00, 0.50, 0.50, 0.55, 1.00, 0.70, "#00798c"),
    CellType("pericyte", 4.3, 2.00, 0.36, 1.9, 0.26, 0.95, 0.15, 0.45, 1.60, 0.95, 0.70, "#5b2a86"),
    CellType("macrophage", 6.0, 1.35, 0.26, 1.4, 0.24, 0.80, 0.50, 0.95, 0.35, 1.00, 1.05, "#66a182"),
    CellType("t_cell", 3.7, 1.08, 0.58, 1.1, 0.50, 1.25, 0.75, 0.40, 0.12, 0.92, 0.55, "#2f2f2f"),
    CellType("b_cell", 3.8, 1.06, 0.60, 1.08, 0.56, 1.35, 0.60, 0.45, 0.08, 0.90, 0.55, "#9fa8da"),
    CellType("plasma", 4.8, 1.30, 0.34, 1.08, 0.66, 1.15, 0.30, 1.50, 0.10, 0.95, 1.20, "#f06595"),
)
TYPE_NAMES = tuple(kind.name for kind in TYPES)
CODE = {name: code for code, name in enumerate(TYPE_NAMES)}
DOMAIN_CODE = {name: code for code, name in enumerate(DOMAINS)}


def type_table(field: str) -> np.ndarray:
    """Return one field of :class:`CellType` for all types, (types,) float64.

    Examples
    --------
    >>> type_table("radius_um").shape
    (10,)
    """
    return np.array([getattr(kind, field) for kind in TYPES], np.float64)
