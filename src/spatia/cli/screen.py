"""``spatia screen``: which gene or gene set would change what a cell looks like, as a generator has learned it?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from spatia.cli import task_options as options


def screen(
    corpus: options.Corpus,
    *,
    generator: Annotated[
        Path, typer.Option("--generator", "-g", help="Generator folder that draws cells from expression.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
    genes: options.Genes = None,
    sets: Annotated[Path | None, typer.Option(help="Gene sets in GMT, each changed as a whole.")] = None,
    factor: Annotated[float, typer.Option(help="Multiply the counts by this; 0: knock out.")] = 0.0,
    level_of: Annotated[
        str | None,
        typer.Option(help="Set the genes to their level in these cells, as \"type == 'fibroblast'\", not by a factor."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of the corpus; without it any cell may be changed.")] = None,
    part: Annotated[str, typer.Option(help="Part of the split whose cells are changed.")] = "test",
    where: Annotated[str | None, typer.Option(help="Change only these cells: an expression over obs.")] = None,
    cells: Annotated[
        Path | None,
        typer.Option(help="More columns for the cells: .h5ad, .zarr of `spatia embed`; .parquet, .csv, .tsv."),
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many cells, spread evenly.")] = 48,
    read: Annotated[
        str,
        typer.Option(help="embedding: predict features from the embedding, in seconds; image: draw and measure."),
    ] = "embedding",
    draws: Annotated[int, typer.Option(help="Images of each cell, each with noise of its own.")] = 2,
    evaluations: Annotated[int, typer.Option(help="Evaluations of the network for each image.")] = 8,
    fast: Annotated[
        float | None,
        typer.Option(
            help="With --read image: take the image expected at this time of the path (0 to 1), at one evaluation."
        ),
    ] = None,
    score: Annotated[str | None, typer.Option(help="Also predict this: a column of numbers, or COLUMN=LABEL.")] = None,
    rank_by: Annotated[str, typer.Option(help="magnitude, or sensitivity: for one unit of change.")] = "magnitude",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any other setting, as surroundings=keep. May be repeated.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Change genes in cells, encode them again, and rank the genes by what moves in predicted image features. Association, not proof of cause."""
    from json import dumps

    from spatia.extras import require

    require("shapely", "io")  # drawn cells are measured as a corpus measures its own
    from spatia.config import read_settings_of
    from spatia.plotting.screening import draw_screen
    from spatia.screening.genes import read_gmt
    from spatia.screening.screen import screen as run
    from spatia.screening.settings import ScreenSettings

    values: dict[str, Any] = {
        "factor": factor, "level_of": level_of, "split": split, "part": part, "where": where, "limit": limit, "read": read, "rank_by": rank_by,
        "draws": draws, "evaluations": evaluations, "fast": fast, "score": score, "seed": seed,
    }  # fmt: skip
    settings = read_settings_of(ScreenSettings, "spatia screen", overrides=set_ or (), given=values)
    found = run(
        corpus, generator, out, genes=options.gene_list(genes), sets=None if sets is None else read_gmt(sets),
        cells=cells, device=device, draw=draw_screen, **settings.model_dump(),
    )  # fmt: skip
    first = found.ranking.head(20)
    if json:
        content = {"out": str(out), "caveat": found.facts["caveat"], "n_changes": len(found.ranking)}
        typer.echo(dumps(content | {"first": first.to_dict("records")}, ensure_ascii=False))
        return
    shown = ("rank", "name", "magnitude", "sensitivity", "q", "strongest", "strongest_effect", "n_changed")
    typer.echo(first[list(shown)].to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    typer.echo(f"{found.facts['caveat']} → {out}")
