"""Names of elements, columns and arrays, written once.

Two groups: the elements of the SpatialData object that every reader returns (the *border*, ``spatia.io.border``), and
the keys of the AnnData stores of a corpus (``docs/corpus-format.md``).
"""

from typing import Final

# --- the border: elements of the SpatialData object a reader returns
COORDINATES_UM: Final = "um"  # the one coordinate system: µm, (x, y), y down
IMAGE: Final = "image"
CELL_OUTLINES: Final = "cell_outlines"  # points element: one row per vertex, in ring order
NUCLEUS_OUTLINES: Final = "nucleus_outlines"
CELL_LABELS: Final = "cell_labels"
TABLE: Final = "table"
ATTRS: Final = "spatia"  # key of SpatialData.attrs

# --- which cell a row is about
CELL_ID: Final = "cell_id"
SAMPLE: Final = "sample"  # the section

# --- columns of outlines
RING: Final = "ring"

# --- obs and var of the table at the border, and of a corpus
SPATIAL: Final = "spatial"  # obsm, (n, 2), µm
HAS_IMAGE: Final = "has_image"  # obs: False where the crop would leave the image
LABEL: Final = "label"  # obs: value of the cell in the label raster, where there is one
GENE_ID: Final = "gene_id"  # var: Ensembl id where known, else the symbol
SIMULATED_GENE: Final = "ENSG00009"  # ids of simulated genes begin so: Ensembl does not use that range
SYMBOL: Final = "symbol"  # var: name as the panel prints it
FEATURE_TYPE: Final = "feature_type"  # var: "gene" or the vendor's name of a control

# --- levels of a corpus
LEVELS: Final = ("cell", "niche", "tissue")
STORES: Final = {"cell": "cells.zarr", "niche": "niches.zarr", "tissue": "tissues.zarr"}

# --- arrays of a corpus
CELL_IMAGES: Final = "single_cell_images"  # obsm of cells.zarr, (n, C, H, W) uint8; scPortrait's name for it
CELL_MASKS: Final = "single_cell_mask"  # obsm of cells.zarr, (n, H, W) uint8; bits MASK_*
MASK_CELL: Final = 1
MASK_NUCLEUS: Final = 2
MORPHOLOGY: Final = "morphology"  # obsm of cells.zarr, data frame of measured features
IMAGES: Final = "images"  # obsm of niches.zarr and tissues.zarr, (n, C, H, W) uint8
MEMBERS: Final = "members"  # obsm of niches.zarr, CSR (n_niches, n_cells): which cells belong to the niche
NICHE: Final = "niche"  # obs of cells.zarr: row of the cell's niche (partitioning definitions only)
TISSUE: Final = "tissue"  # obs of cells.zarr and niches.zarr: row of the tissue window
CELL_START: Final = "cell_start"
CELL_STOP: Final = "cell_stop"
NICHE_START: Final = "niche_start"
NICHE_STOP: Final = "niche_stop"
N_CELLS: Final = "n_cells"
MEAN_EXPRESSION: Final = "mean_expression"  # layer of niches.zarr and tissues.zarr

# --- obs of a table of embedded cells (``cells.h5ad``), as the tasks and `spatia run` write them
CLUSTER: Final = "spatia_cluster"
DOMAIN: Final = "spatia_domain"
PREDICTED_LABEL: Final = "spatia_label"
UNUSUAL: Final = "spatia_ood"  # above 1: unlike 99 % of the training cells
