"""``spatia simulate``: a slide in the vendor's layout, with the truth beside it."""

from pathlib import Path
from typing import Annotated

import typer


def simulate(
    out: Annotated[Path, typer.Argument(help="Folder to make: the bundle, or with several sections their parent.")],
    cells: Annotated[int, typer.Option(help="Cells of each section.")] = 20_000,
    sections: Annotated[int, typer.Option(help="Number of sections, each a bundle of its own.")] = 1,
    seed: Annotated[int, typer.Option(help="Equal seeds give byte-identical slides.")] = 0,
    um_per_px: Annotated[float, typer.Option(help="Pixel size of the image, µm.")] = 0.2125,
    genes: Annotated[int, typer.Option(help="Genes of the panel.")] = 300,
    donors: Annotated[int | None, typer.Option(help="Donors; default: one for each section.")] = None,
    panel_share: Annotated[float, typer.Option(help="Share of the panel that each section measures.")] = 1.0,
    codec: Annotated[
        str, typer.Option(help="Image compression: deflate, jpeg2000 (the vendor's, slow) or none.")
    ] = "deflate",
    transcripts: Annotated[bool, typer.Option(help="Write transcripts.parquet.")] = True,
    counterfactual: Annotated[
        list[str] | None,
        typer.Option(
            help="Also draw cells after this change of state, e.g. 'emt: 0→1' or 'activation'. May be repeated."
        ),
    ] = None,
    counterfactual_cells: Annotated[int, typer.Option(help="Cells drawn for each change of state.")] = 500,
    workers: Annotated[int, typer.Option(help="Threads that draw the image.")] = 2,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Simulate slides in Xenium layout, with the truth beside them."""
    from json import dumps

    from spatia.config import make_settings
    from spatia.extras import require
    from spatia.log import progress_by_name

    require("tifffile", "io")
    from spatia.simulate import slide
    from spatia.simulate.settings import SimulationSettings

    values = {
        "n_cells": cells,
        "n_sections": sections,
        "seed": seed,
        "um_per_px": um_per_px,
        "n_genes": genes,
        "n_donors": donors,
        "panel_share": panel_share,
        "codec": codec,
        "transcripts": transcripts,
        "transitions": tuple(counterfactual or ()),
        "n_counterfactual": counterfactual_cells,
        "workers": workers,
    }
    settings = make_settings(SimulationSettings, values, where="spatia simulate")
    with progress_by_name() as report:
        paths = slide.simulate(out, settings, report)
    if json:
        typer.echo(dumps({"slides": [str(path) for path in paths], "settings": settings.model_dump(mode="json")}))
    else:
        for path in paths:
            typer.echo(path)
