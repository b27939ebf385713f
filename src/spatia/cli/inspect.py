"""``spatia inspect``: what is in a corpus."""

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    corpus: Annotated[Path, typer.Argument(help="Corpus folder.")],
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Say what is in a corpus: sections, cells, genes, channels, levels, splits."""
    from json import dumps

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from spatia.corpus.inspect import inspect as summarise

    summary = summarise(corpus)
    if json:
        typer.echo(dumps(summary.to_json(), indent=1))
        return
    levels = ", ".join(
        f"{name} {level['size_um']:g} µm on {level['px']:g} px" for name, level in summary.levels.items()
    )
    console = Console(width=None if Console().is_terminal else 160, highlight=False)
    console.print(
        f"[bold]{escape(summary.path)}[/bold]  {summary.n_cells:,} cells, {summary.n_genes:,} genes\n"
        f"levels: {levels}\nniches: {summary.niches['definition']}\nsplits: {escape(', '.join(summary.splits) or 'none')}\n"
        f"id: {summary.corpus_id}"
    )
    table = Table(
        "section", "platform", "donor", "cells", "niches", "windows", "genes", "median counts", box=SIMPLE_HEAD
    )
    table.add_column("channels")
    table.add_column("image")
    table.add_column("kB/cell", justify="right")
    for one in summary.sections:
        numbers = (one.n_cells, one.n_niches, one.n_tissues, one.n_genes)
        table.add_row(
            escape(one.sample),
            one.platform,
            escape(one.donor or "–"),
            *(f"{number:,}" for number in numbers),
            f"{one.median_counts:g}",
            escape(", ".join(one.channels) or "–"),
            escape(one.image),
            f"{one.bytes_on_disk / max(one.n_cells, 1) / 1000:.1f}",
        )
    console.print(table)
    for one in summary.sections:
        for warning in one.warnings:
            console.print(f"  {escape(one.sample)}: {escape(warning)}")
