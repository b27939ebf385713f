"""``spatia retrieve``: a cell's expression by its image, and its image by its expression."""

from pathlib import Path
from typing import Annotated

import typer

from spatia.cli import task_options as options


def retrieve(
    corpus: options.Corpus,
    *,
    model: options.Model = options.SHIPPED,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Table of ranks to write (.csv), a row a cell.")
    ] = None,
    split: options.SplitName = None,
    part: Annotated[str, typer.Option(help="Part of the split.")] = "test",
    candidates: Annotated[int, typer.Option(help="Cells that each cell is looked for among.")] = 500,
    seed: options.Seed = 0,
    figure: options.Figure = None,
    json: options.Json = False,
) -> None:
    """Find expression by image, image by expression."""
    from spatia.errors import SettingsError
    from spatia.tasks.retrieve import retrieve as run

    options.check_before(None, figure)
    if out is not None and out.suffix != ".csv":
        raise SettingsError(f"{out}: expected a name that ends in .csv.")
    if candidates < 2:
        raise SettingsError(f"--candidates {candidates}: expected at least 2.")
    result = run(corpus, model, split=split, part=part, n_candidates=candidates, seed=seed)
    if out is not None:
        from spatia.corpus.files import write_text

        write_text(out, result.cells.to_csv(index=False))
    if figure is not None:
        from spatia.plotting.retrieval import plot_retrieval

        plot_retrieval(result.scores, figure)
    one, other = result.scores.image_to_genes, result.scores.genes_to_image
    k = min(10, one.n_candidates)
    line = (
        f"recall@{k} among {one.n_candidates:,}: image → expression {one.recall(k):.3f}, expression → image "
        f"{other.recall(k):.3f}, by chance {k / one.n_candidates:.3f}; {one.n_queries:,} cells"
    )
    options.finish(result.to_json(), line, json=json, out=out)
