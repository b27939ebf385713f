"""``spatia embed``: a corpus and a model to embeddings."""

import os
from pathlib import Path
from typing import Annotated

import typer

from spatia.cli.task_options import SHIPPED, Model, check_nothing_lost, read_ids


def embed(
    corpus: Annotated[Path, typer.Argument(help="Corpus folder.")],
    *,
    model: Model = SHIPPED,
    out: Annotated[Path, typer.Option("--out", "-o", help="cells.h5ad, or out.zarr (written piece by piece).")],
    use: Annotated[list[str] | None, typer.Option(help="image, genes; give it once for each. Default: both.")] = None,
    section: Annotated[list[str] | None, typer.Option(help="Only this section; may be given again.")] = None,
    hide_genes: Annotated[
        Path | None, typer.Option(help="Text file with a gene id per line: treated as not measured.")
    ] = None,
    min_coverage: Annotated[float, typer.Option(help="Least share of a panel that the model must know.")] = 0.5,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    spatialdata: Annotated[
        Path | None, typer.Option(help="SpatialData zarr whose table gets the embeddings as well (matched by cell id).")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Embed every cell at three levels, into an AnnData that scanpy opens. A killed run continues where it was."""
    import json

    import anndata

    from spatia.inference.embed import GENES_ALONE, OBSM
    from spatia.inference.embed import embed as run

    genes = read_ids(hide_genes, "--hide-genes")
    check_nothing_lost(out, corpus, "embedding anew")
    path = run(
        corpus,
        model,
        out,
        use=tuple(use or ("image", "genes")),
        hide_genes=genes,
        sections=section,
        device=device,
        min_coverage=min_coverage,
    )
    if int(os.environ.get("RANK", "0")) > 0:
        return  # the first process wrote the table and says so
    if spatialdata is not None:
        from spatia.inference.spatialdata_table import write_into_spatialdata

        write_into_spatialdata(out, spatialdata)
    table = anndata.read_h5ad(out, backed="r") if out.suffix == ".h5ad" else anndata.read_zarr(out)
    shapes = {name: table.obsm[name].shape[1] for name in (*OBSM.values(), GENES_ALONE) if name in table.obsm}
    unlike = float((table.obs["spatia_ood"] > 1).mean())
    if json_:
        result = {"out": str(path), "n_cells": table.n_obs, "widths": shapes, "unlike_training": unlike}
        typer.echo(json.dumps(result))
        return
    widths = ", ".join(f"{name} {width}" for name, width in shapes.items())
    typer.echo(f"{path}: {table.n_obs:,} cells; {widths}; {unlike:.1%} of the cells are unlike the training cells")
