"""Options that the commands of tasks share, and how they print and write."""

import json as json_module
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from spatia.models.shipped import NAME as SHIPPED_NAME

if TYPE_CHECKING:
    import anndata as ad

    from spatia.tasks.predict_expression import ExpressionResult

Cells = Annotated[Path, typer.Argument(help="cells.h5ad or .zarr, as `spatia embed` writes it.")]
Corpus = Annotated[Path, typer.Argument(help="Corpus folder.")]
SHIPPED = Path(SHIPPED_NAME)
Model = Annotated[
    Path,
    typer.Option(
        "--model", "-m", help="Model folder, as `spatia train` writes it; tiny: the one that comes with spatia."
    ),
]
OutTable = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="AnnData to write (.h5ad, .zarr). Default: CELLS itself, replaced whole."),
]
NewTable = Annotated[Path | None, typer.Option("--out", "-o", help="AnnData to write (.h5ad, .zarr).")]
Figure = Annotated[Path | None, typer.Option("--figure", help="Draw the result into this PNG.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Seed = Annotated[int, typer.Option(help="Everything random derives from this number.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")]
SplitName = Annotated[
    str | None,
    typer.Option(
        help="Split of the corpus that the model was trained with: what is judged was never seen. Default: none."
    ),
]
Genes = Annotated[
    str | None, typer.Option(help="Gene ids or symbols, comma-separated, or a text file with one a line.")
]


def gene_list(genes: str | None) -> list[str] | None:
    """Return the genes that were named, or None."""
    from spatia.errors import SettingsError

    if genes is None:
        return None
    path = Path(genes)
    text = path.read_text(encoding="utf-8") if path.is_file() else genes.replace(",", "\n")
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names:
        raise SettingsError(f"--genes {genes}: no gene named.")
    return names


def read_ids(path: Path | None, option: str) -> list[str]:
    """Return the ids of a text file, one a line; none where no file is named.

    Raises
    ------
    SettingsError
        If it is not there, or not text.
    """
    from spatia.errors import SettingsError

    if path is None:
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{option} {path}: not a readable text file ({error}). Expected an id a line.") from error
    return [line.strip() for line in lines if line.strip()]


def check_before(out: Path | None, figure: Path | None) -> None:
    """Refuse a name that could not be written to before the work, not after it."""
    from spatia.errors import SettingsError
    from spatia.tasks.cells import check_out

    if out is not None:
        check_out(out)
    if figure is not None and figure.suffix.lower() != ".png":
        raise SettingsError(f"--figure {figure}: expected a name that ends in .png.")


def finish(
    content: Mapping[str, Any],
    line: str,
    *,
    json: bool,
    table: "ad.AnnData | None" = None,
    out: Path | None = None,
) -> None:
    """Write the table, then print the result: so whoever reads the result may rely on the file.

    Without a table, ``out`` is a file that is written already.
    """
    from spatia.tasks.cells import write_cells

    written = None if out is None else str(out)
    if table is not None and out is not None:
        written = str(write_cells(table, out))
    if json:
        typer.echo(json_module.dumps({**content, "out": written}, ensure_ascii=False))
    else:
        typer.echo(line + (f" → {written}" if written else ""))


def finish_expression(
    result: "ExpressionResult", key: str, out: Path | None, figure: Path | None, *, json: bool
) -> None:
    """Write predicted expression under ``key``, draw it and print its scores."""
    from spatia.tasks.cells import symbols_of

    found = result.imputation
    result.write_into(result.cells, key)
    if figure is not None:
        from spatia.plotting.imputation import plot_imputation

        plot_imputation(result.measured, found, figure, symbols=symbols_of(result.cells, found.genes))
    content = found.to_json()
    pearson, coverage = content["mean_pearson"], content["coverage"]
    line = f"{len(found.genes)} genes by {found.method}: " + (
        "no cell measures them, so nothing could be judged"
        if pearson is None
        else f"mean Pearson {pearson:.3f} on {content['n_judged_cells']:,} cells; the {found.level:.0%} interval holds "
        f"{coverage:.1%}"
    )
    finish(content, line, json=json, table=result.cells, out=out)


def check_nothing_lost(out: Path | None, corpus: Path, doing: str, own: str = "") -> None:
    """Refuse to write over a table that holds columns of other commands, or of the user: they would be gone.

    Parameters
    ----------
    doing, own
        What would remove them, for the message; and how names in ``obsm`` begin that it writes itself.
    """
    import h5py
    import zarr

    from spatia import keys
    from spatia.corpus.corpus import Corpus
    from spatia.errors import SettingsError

    if out is None or not out.exists():
        return
    try:
        if out.suffix == ".h5ad":
            with h5py.File(out) as file:
                there = [*file["obs"].attrs["column-order"], *_predicted(file.get("obsm", ()))]
        else:
            root = zarr.open_group(out, mode="r")
            columns = cast("list[str]", root["obs"].attrs["column-order"])
            there = [*columns, *_predicted(name for name, _ in cast(zarr.Group, root["obsm"]).members())]
    except (OSError, KeyError):
        return  # no table that a command of ours could have written into
    ours = {str(name) for section in Corpus.open(corpus).sections.values() for name in section.cells.obs().columns}
    if others := [
        str(name)
        for name in there
        if name not in ours | {keys.UNUSUAL, keys.CELL_ID} and not (own and str(name).startswith(own))
    ]:
        raise SettingsError(
            f"{out}: holds {', '.join(others[:5])}{', …' if len(others) > 5 else ''}, which {doing} would remove. Name another -o, or "
            "remove the file."
        )


def _predicted(names: Iterable[str]) -> list[str]:
    """Return what `spatia impute` and `predict-expression` have written, among names of ``obsm``."""
    return [name for name in names if name.startswith(("X_spatia_imputed", "X_spatia_from_image"))]
