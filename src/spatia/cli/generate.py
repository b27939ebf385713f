"""``spatia generate``: images of the cells of a corpus, from a trained generator."""

from pathlib import Path
from typing import Annotated

import typer


def generate(
    corpus: Annotated[Path, typer.Argument(help="Corpus folder.")],
    *,
    generator: Annotated[
        Path, typer.Option("--generator", "-g", help="Generator folder, as `spatia train-generator` writes it.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="out.zarr: an AnnData, marked as synthetic.")],
    transition: Annotated[
        str | None, typer.Option(help="Transition of state to make; default with --pairs: all.")
    ] = None,
    pairs: Annotated[Path | None, typer.Option(help="Pairs: draw the source cells of --part (default: test).")] = None,
    cells: Annotated[Path | None, typer.Option(help="Text file with a cell id per line: only these.")] = None,
    draws: Annotated[int, typer.Option(help="Images of each cell: how much is left open.")] = 1,
    split: Annotated[str | None, typer.Option(help="Split of the corpus.")] = None,
    part: Annotated[str | None, typer.Option(help="Part of the split to draw, for example test.")] = None,
    section: Annotated[list[str] | None, typer.Option(help="Only this section; may be given again.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many cells, spread evenly.")] = None,
    solver: Annotated[
        str | None, typer.Option(help="euler, midpoint, heun, adaptive. Default: the generator's.")
    ] = None,
    evaluations: Annotated[int | None, typer.Option(help="Evaluations of the network for each image.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Above 1: more like what is told, less diverse.")] = None,
    precision: Annotated[str, typer.Option(help="32-true, or bf16-mixed: faster on a GPU.")] = "32-true",
    merge: Annotated[float | None, typer.Option(help="Share of the tokens to merge away: faster.")] = None,
    drop: Annotated[
        list[str] | None, typer.Option(help="Condition to withhold, e.g. niche; may be given again.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Of a generator told labels: .csv, .tsv or .parquet with cell_id and label.")
    ] = None,
    shuffle: Annotated[
        bool, typer.Option("--shuffle", help="Tell each cell what is known of another: how much does it matter?")
    ] = False,
    real: Annotated[
        Path | None, typer.Option(help="Corpus of real cells to begin at (of part train of --split), not at noise.")
    ] = None,
    keep: Annotated[
        float | None, typer.Option(help="With --real: share of the way to it that is kept, 0.2; 1: as it is.")
    ] = None,
    align: Annotated[
        bool,
        typer.Option(help="Move what is told of a section that training did not see to where those that it saw lay."),
    ] = True,
    seed: Annotated[int, typer.Option(help="Equal seeds draw equal images.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Draw cells from their expression and surroundings, or after a change of state. A killed run goes on with the same command."""
    import json

    from spatia.cli.label_table import read_label_table
    from spatia.cli.task_options import read_ids
    from spatia.corpus.corpus import Corpus
    from spatia.inference.generate import generate as run
    from spatia.inference.generator import Generator

    opened = Corpus.open(corpus)
    maker = Generator.load(generator, device=device)
    if merge is not None:
        maker.set_merging(merge)
    ids = None if cells is None else read_ids(cells, "--cells")
    table_of_labels = None if labels is None else read_label_table(labels, "--labels")
    path = run(
        opened, maker, out, draws=draws, seed=seed, sections=section, split=split, part=part, limit=limit,
        transition=transition, pairs=pairs, cells=ids, labels=table_of_labels, shuffle=shuffle, real=real, keep=keep, device=device, solver=solver, evaluations=evaluations, guidance=guidance, drop=tuple(drop or ()),
        precision=precision, align=align,
    )  # fmt: skip
    import anndata

    table = anndata.read_zarr(path)
    facts = table.uns["spatia"]
    if json_:
        typer.echo(
            json.dumps(
                {
                    "out": str(path),
                    "n_images": table.n_obs,
                    "generator": str(facts["generator"]),
                    "evaluations": int(facts["evaluations"]),
                }
            )
        )
        return
    typer.echo(
        f"{path}: {table.n_obs:,} generated images, {int(facts['evaluations'])} evaluations each ({facts['solver']})"
    )
