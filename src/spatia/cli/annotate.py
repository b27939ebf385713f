"""``spatia annotate``: labels of some cells, or of another corpus, to all cells."""

from pathlib import Path
from typing import Annotated

import typer

from spatia.cli import task_options as options


def annotate(
    cells: options.Cells,
    *,
    labels: Annotated[str, typer.Option(help="Column of obs with the known labels (of --reference, if given).")],
    out: options.OutTable = None,
    reference: Annotated[
        Path | None, typer.Option(help="Cells of another corpus, embedded by the same model, to take the labels from.")
    ] = None,
    unknown: Annotated[
        list[str] | None, typer.Option(help='Label that means "not known"; may be given again. Empty ones always do.')
    ] = None,
    embedding: Annotated[
        str, typer.Option(help="Key of obsm; auto: the one from which held-out labelled cells are told best.")
    ] = "auto",
    target_accuracy: Annotated[float, typer.Option(help="Wanted share of right labels among those given.")] = 0.9,
    min_cells: Annotated[int, typer.Option(help="Fewest cells of a label.")] = 10,
    ignore_rare: Annotated[
        bool, typer.Option(help="Take labels of fewer cells as unknown, instead of refusing.")
    ] = False,
    align: Annotated[
        bool, typer.Option(help="Move sections without a labelled cell to where those with some lie.")
    ] = True,
    seed: options.Seed = 0,
    figure: options.Figure = None,
    json: options.Json = False,
) -> None:
    """Label all cells from some, or say why not."""
    from spatia.config import make_settings
    from spatia.tasks.annotate import AnnotateSettings
    from spatia.tasks.cells import place_of, read_cells
    from spatia.tasks.on_cells import annotate_cells

    options.check_before(out or cells, figure)
    values = {
        "target_accuracy": target_accuracy,
        "min_cells": min_cells,
        "ignore_rare": ignore_rare,
        "align": align,
        "seed": seed,
    }
    settings = make_settings(AnnotateSettings, values, where="spatia annotate")
    table = read_cells(cells)
    other = None if reference is None else read_cells(reference)
    found = annotate_cells(
        table, labels, reference=other, unknown=unknown or (), embedding=embedding, settings=settings
    )
    if figure is not None:
        from spatia.plotting.annotation import plot_annotation

        plot_annotation(found, figure, **place_of(table))
    content = found.to_json()
    counts, scores = content["n_cells"], content["held_out"]
    line = (
        f"{len(found.classes)} labels; {counts['given']:,} cells had one, {counts['predicted']:,} got one, "
        f"{counts['uncertain']:,} are uncertain, {counts['unlike']:,} unlike all labelled; held-out macro-F1 "
        f"{scores['macro_f1']:.3f}, calibration error {scores['ece']:.3f}; read from {found.choice.name if found.choice else embedding}"
    )
    options.finish(content, line, json=json, table=table, out=out or cells)
