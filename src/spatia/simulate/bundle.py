"""Put the tables of a section into a bundle, and its JSON files."""

import hashlib
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from spatia.simulate.randomness import Stream, blocks, generator
from spatia.simulate.section import Section
from spatia.simulate.settings import SimulationSettings
from spatia.simulate.tables import (
    CONTROLS,
    Features,
    MatrixWriter,
    cell_ids,
    cell_table,
    observed_block,
    section_features,
    spill,
    write_outlines,
)
from spatia.simulate.transcripts import TranscriptWriter

PANEL_NAME = "Simulated tissue panel"


@dataclass(frozen=True)
class BundleNumbers:
    """What ``experiment.xenium`` reports."""

    median_counts: int
    cell_area_um2: float
    share_assigned: float


def write_tables(
    folder: Path, settings: SimulationSettings, section: Section, progress: Callable[[str, int, int], None]
) -> BundleNumbers:
    """Write cells, outlines, matrix and transcripts."""
    cells = section.cells
    ids = cell_ids(settings.seed, section.number, len(cells))
    features = section_features(section)
    tree = cKDTree(cells.centre_um)
    spilled = spill(section, tree)
    write_outlines(folder / "cell_boundaries.parquet", cells, cells.outlines.cell, ids)
    write_outlines(folder / "nucleus_boundaries.parquet", cells, cells.outlines.nucleus, ids)
    kinds = np.array(features.kinds)
    matrix = MatrixWriter(folder / "cell_feature_matrix.h5", features, ids)
    transcripts = TranscriptWriter(folder, settings, section, features, ids) if settings.transcripts else None
    sums = []
    parts = blocks(len(cells))
    for number, block in enumerate(parts):
        counts = observed_block(section, spilled, number, block, features)
        matrix.add(counts)
        sums.append(np.stack([counts[:, kinds == kind].sum(1).A1 for kind in ("Gene Expression", *CONTROLS)], 1))
        if transcripts is not None:
            transcripts.add(number, block, counts, spilled)
        progress("counts", number + 1, len(parts))
    matrix.close()
    if transcripts is not None:
        transcripts.close()
    table = cell_table(
        section, ids, pd.DataFrame(np.concatenate(sums).astype(np.int64), columns=["Gene Expression", *CONTROLS])
    )
    table.to_parquet(folder / "cells.parquet", index=False)
    table.to_csv(folder / "cells.csv.gz", index=False, compression={"method": "gzip", "mtime": 0, "compresslevel": 4})
    write_panel(folder / "gene_panel.json", features)
    unassigned = transcripts.share_unassigned if transcripts is not None else 0.0
    return BundleNumbers(int(table["transcript_counts"].median()), float(table["cell_area"].sum()), 1 - unassigned)


def write_panel(path: Path, features: Features) -> None:
    """Write ``gene_panel.json`` in the vendor's structure: every target with its name, and genes with their id."""
    kind_names = {
        "Gene Expression": "gene",
        "Negative Control Probe": "negative_control_probe",
        "Negative Control Codeword": "negative_control_codeword",
        "Unassigned Codeword": "unassigned_codeword",
    }
    identity = {"design_id": "simulated", "name": PANEL_NAME, "version": "1.0.0"}
    targets = []
    for codeword, (gene_id, name, kind) in enumerate(zip(features.ids, features.names, features.kinds, strict=True)):
        gene = kind == "Gene Expression"
        targets.append(
            {
                "codewords": [codeword],
                "info": {"gene_coverage": 8 if gene else 1},
                "source": {"category": "current", "identity": identity},
                "type": {
                    "data": {"id": gene_id, "name": name} if gene else {"name": name},
                    "descriptor": kind_names[kind],
                },
            }
        )
    payload = {
        "chemistry": {"decoder": "xenium_decoding_v1", "version": "v1"},
        "panel": {
            "description": PANEL_NAME,
            "identity": identity,
            "num_gene_targets": len(features.gene),
            "species": "Human",
            "tissue": "Simulated",
            "type": {"descriptor": "predesigned"},
        },
        "spec_version": "0.1.0",
        "targets": targets,
    }
    checksum = hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()
    _write_json(path, {"metadata": {"sha256_checksum": checksum}, "payload": payload})


def write_metadata(folder: Path, settings: SimulationSettings, section: Section, numbers: BundleNumbers) -> None:
    """Write ``experiment.xenium``; it names only files that are there."""
    rng = generator(settings.seed, Stream.IDENTITY, section.number, 2)
    n_cells = len(section.cells)
    content = {
        "major_version": 5,
        "minor_version": 0,
        "patch_version": 0,
        "run_name": "simulated by spatia",
        "region_name": f"section_{section.number + 1}",
        "preservation_method": "simulated",
        "num_cells": n_cells,
        "transcripts_per_cell": numbers.median_counts,
        "total_cell_area": numbers.cell_area_um2,
        "region_area": section.side_um**2,
        "fraction_transcripts_assigned": numbers.share_assigned,
        "segmented_cell_boundary_frac": 1.0,
        "imported_cell_frac": 0.0,
        "cassette_name": "simulated",
        "slide_id": "simulated",
        "panel_type": "predesigned",
        "panel_design_id": "simulated",
        "panel_name": PANEL_NAME,
        "panel_organism": "Human",
        "panel_tissue_type": "Simulated",
        "panel_num_targets_predesigned": int((section.expression.effect > 0).sum()),
        "panel_num_targets_custom": 0,
        "chemistry_version": "v1",
        "pixel_size": settings.um_per_px,
        "instrument_sn": "simulated",
        "instrument_sw_version": "simulated",
        "analysis_sw_version": "xenium-3.0.0.15",
        "experiment_uuid": str(uuid.UUID(bytes=rng.bytes(16), version=4)),
        "images": {"morphology_focus_filepath": "morphology_focus/morphology_focus_0000.ome.tif"},
        "segmentation_stain": "Nuclear (DAPI), boundary (ATP1A1/CD45/E-Cadherin), interior RNA (18S)",
    }
    _write_json(folder / "experiment.xenium", content)


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
