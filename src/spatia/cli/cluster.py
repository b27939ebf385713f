"""``spatia cluster``: groups of cells without labels."""

from typing import Annotated

import typer

from spatia.cli import task_options as options


def cluster(
    cells: options.Cells,
    *,
    out: options.OutTable = None,
    embedding: Annotated[
        str, typer.Option(help="Key of obsm; auto: the one of a cell whose groups tell expression best.")
    ] = "auto",
    resolution: Annotated[
        float | None, typer.Option(help="Of Leiden. Default: chosen by stability, without labels.")
    ] = None,
    neighbours: Annotated[int, typer.Option(help="Neighbours of a cell in the graph.")] = 15,
    seed: options.Seed = 0,
    figure: options.Figure = None,
    json: options.Json = False,
) -> None:
    """Group cells; no label chooses how finely."""
    from spatia.config import make_settings
    from spatia.tasks.cells import place_of, read_cells
    from spatia.tasks.cluster import ClusterSettings
    from spatia.tasks.on_cells import cluster_cells

    options.check_before(out or cells, figure)
    values = {"resolution": resolution, "n_neighbours": neighbours, "seed": seed}
    settings = make_settings(ClusterSettings, values, where="spatia cluster")
    table = read_cells(cells)
    found = cluster_cells(table, embedding=embedding, settings=settings)
    if figure is not None:
        from spatia.plotting.grouping import plot_groups

        plot_groups(found, figure, **place_of(table))
    line = f"{found.n_groups} clusters of {table.n_obs:,} cells at resolution {found.resolution:g}"
    if found.choice is not None:
        told = found.choice.held_out[found.choice.name]
        line += f", in {found.choice.name}: they tell {told:.1%} of the variance of expression of left-out cells"
    options.finish(found.to_json(), line, json=json, table=table, out=out or cells)
