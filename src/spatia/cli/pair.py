"""``spatia pair``: source and target cells of transitions of state, matched by optimal transport."""

from pathlib import Path
from typing import Annotated, Any

import typer

from spatia.cli import task_options as options


def pair(
    corpus: options.Corpus,
    *,
    transitions: Annotated[Path, typer.Option(help="YAML file with the transitions (docs/pairing.md).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
    states: Annotated[str | None, typer.Option(help="Column that states given by value refer to.")] = None,
    cells: Annotated[
        Path | None,
        typer.Option(
            help="More columns for the cells: .h5ad or .zarr of `spatia embed`; .parquet, .csv or .tsv with cell_id."
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split whose parts are paired apart. Default: the only one.")
    ] = None,
    scope: Annotated[str, typer.Option(help="Where a partner may be: niche, tissue, section, global.")] = "global",
    embedding: Annotated[
        str | None, typer.Option(help="Key of obsm of --cells to compare cells by. Default: expression.")
    ] = None,
    epsilon: Annotated[float, typer.Option(help="Regularisation, in median costs.")] = 0.05,
    unbalanced: Annotated[bool, typer.Option("--unbalanced", help="Let cells without a fitting partner go.")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any other setting, as solver.method=exact. May be repeated.")
    ] = None,
    calibration: Annotated[Path | None, typer.Option(help="Calibration to use instead of the package's.")] = None,
    figure: options.Figure = None,
    json: options.Json = False,
) -> None:
    """Pair cells before and after a transition of state."""
    from json import dumps

    from spatia.config import read_settings_of
    from spatia.log import progress_by_name
    from spatia.pairing.pair import pair as run
    from spatia.pairing.settings import PairSettings

    options.check_before(None, figure)
    values: dict[str, Any] = {"split": split, "scope": scope, "states": states, "embedding": embedding}
    values["cost"] = {"space": "expression" if embedding is None else "embedding"}
    values["solver"] = {"epsilon": epsilon, "balance": "unbalanced" if unbalanced else "balanced"}
    settings = read_settings_of(PairSettings, "spatia pair", overrides=set_ or (), given=values)
    with progress_by_name() as report:
        pairs = run(corpus, transitions, out, cells=cells, settings=settings, calibration=calibration, report=report)
    if figure is not None:
        from spatia.plotting.pairing import plot_pairs

        plot_pairs(pairs, figure)
    typer.echo(dumps(_content(pairs.facts, out), ensure_ascii=False) if json else _line(pairs.facts, out))


def _content(facts: Any, out: Path) -> dict[str, Any]:
    kept = ("corpus_id", "split", "settings", "transitions")
    return {name: facts[name] for name in kept} | {"calibrated": facts["calibration"]["used"], "out": str(out)}


def _line(facts: Any, out: Path) -> str:
    lines = [f"{out}: {len(facts['transitions'])} transitions"]
    for transition in facts["transitions"]:
        parts = ", ".join(
            f"{part} {n['n_paired']:,} of {n['n_sources']:,} sources with {n['n_targets']:,} targets"
            for part, n in transition["parts"].items()
        )
        worst = max(n["largest_marginal_error"] for n in transition["parts"].values())
        lines.append(f"  {transition['name']}: {parts}; marginal error at most {worst:.1e}")
    return "\n".join(lines)
