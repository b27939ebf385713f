"""``spatia domains``: regions of like surroundings."""

from typing import Annotated

import typer

from spatia import keys
from spatia.cli import task_options as options


def domains(
    cells: options.Cells,
    *,
    out: options.OutTable = None,
    embedding: Annotated[str, typer.Option(help="Key of obsm.")] = "X_spatia_niche",
    groups: Annotated[
        str | None,
        typer.Option(help="Column of obs that composition is counted in. Default: spatia_cluster, if there."),
    ] = None,
    neighbours: Annotated[
        int,
        typer.Option(
            min=0, help="Average the embedding over so many nearest cells first: a domain is wider than a niche."
        ),
    ] = 15,
    align: Annotated[
        bool, typer.Option(help="Move sections to the larger ones that they are like: donors differ.")
    ] = True,
    resolution: Annotated[
        float | None, typer.Option(help="Of Leiden. Default: chosen by what domains tell of other places.")
    ] = None,
    seed: options.Seed = 0,
    figure: options.Figure = None,
    json: options.Json = False,
) -> None:
    """Group cells by what surrounds them."""
    from spatia.config import make_settings
    from spatia.tasks.cells import column_of, place_of, read_cells
    from spatia.tasks.cluster import ClusterSettings
    from spatia.tasks.domains import composition
    from spatia.tasks.on_cells import find_domains, named

    options.check_before(out or cells, figure)
    settings = make_settings(ClusterSettings, {"resolution": resolution, "seed": seed}, where="spatia domains")
    table = read_cells(cells)
    counted = groups or (keys.CLUSTER if keys.CLUSTER in table.obs else None)
    column = (
        None if counted is None else column_of(table, counted)
    )  # before the work: an unknown name is refused at once
    found = find_domains(table, embedding=embedding, neighbours=neighbours, align=align, settings=settings)
    counts = None if column is None else composition(named(found), column)
    if figure is not None:
        from spatia.plotting.grouping import plot_groups

        plot_groups(found, figure, counts=counts, name=counted or "", **place_of(table))
    content = found.to_json() | {"composition": None if counts is None else counts.to_dict(orient="index")}
    line = f"{found.n_groups} domains of {table.n_obs:,} cells at resolution {found.resolution:g}"
    if found.coherence is not None:
        share, chance = found.coherence.observed, found.coherence.by_chance
        line += f"; {share:.0%} of neighbours share a domain ({chance:.0%} by chance)"
    options.finish(content, line, json=json, table=table, out=out or cells)
