"""``spatia evaluate-generation``: how good generated cells are, against real cells that nothing was trained on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spatia.cli import task_options as options

if TYPE_CHECKING:
    import pandas as pd


def evaluate_generation(
    generated: Annotated[
        Path, typer.Argument(help="Generated images (.zarr, .h5ad), as `spatia generate` writes them.")
    ],
    *,
    corpus: Annotated[Path, typer.Option(help="Corpus folder that the images were generated for.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for evaluation.json, tables and the figure.")],
    split: Annotated[str | None, typer.Option(help="Split whose part the images were generated for.")] = None,
    part: Annotated[str, typer.Option(help="That part: what is judged.")] = "test",
    level: Annotated[str, typer.Option(help="What an image shows: cell or niche.")] = "cell",
    train_part: Annotated[str, typer.Option(help="Part with the training cells.")] = "train",
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="Model folder, trained without that part: its image encoder.")
    ] = None,
    inception: Annotated[
        Path | None, typer.Option(help="Inception v3 weights, a .safetensors file with torchvision's names.")
    ] = None,
    states: Annotated[
        str | None,
        typer.Option(
            help="Type or state of each cell: an obs column of the corpus, or a .csv, .tsv or .parquet with cell_id."
        ),
    ] = None,
    state_column: Annotated[str, typer.Option(help="Column of that table.")] = "label",
    pairs: Annotated[
        Path | None,
        typer.Option(help="Folder of `spatia pair`: which cells are in the source and in the target state."),
    ] = None,
    shuffled: Annotated[
        Path | None, typer.Option(help="Images generated for the same cells with shuffled conditions.")
    ] = None,
    slide: Annotated[
        list[str] | None, typer.Option(help="Simulated slide of a section, as SECTION=FOLDER; give it once for each.")
    ] = None,
    counterfactual: Annotated[
        list[str] | None, typer.Option(help="Simulated transition of one in the store, as 'NAME=emt: 0→1'.")
    ] = None,
    max_cells: Annotated[int, typer.Option(help="Most images of a transition.")] = 2000,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples.")] = 200,
    seed: options.Seed = 0,
    force: Annotated[
        bool, typer.Option(help="Go on where a model has seen the cells it judges; a warning stays.")
    ] = False,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Compare generated cells with real ones: distances, coverage, features, states, copies."""
    import json as json_module

    from spatia.extras import require

    require("shapely", "io")  # drawn cells are measured as a corpus measures its own
    from spatia.config import make_settings
    from spatia.corpus.corpus import Corpus
    from spatia.corpus.files import write_json, write_text
    from spatia.errors import SettingsError
    from spatia.plotting.generation_quality import plot_generation_quality
    from spatia.tasks.evaluate_generation import evaluate_generation as run
    from spatia.tasks.generation_reference import EvaluationSettings, Reference
    from spatia.tasks.generation_table import evaluation_text

    if out.exists() and not out.is_dir():
        raise SettingsError(f"{out}: is a file; expected a folder to write into.")
    settings = make_settings(
        EvaluationSettings,
        {
            "split": split,
            "part": part,
            "train_part": train_part,
            "level": level,
            "max_cells": max_cells,
            "resamples": resamples,
            "seed": seed,
            "force": force,
        },
        where="spatia evaluate-generation",
    )
    opened = Corpus.open(corpus)
    simulated = _named(counterfactual, "--counterfactual", "NAME=emt: 0→1")
    slides = {name: Path(folder) for name, folder in _named(slide, "--slide", "SECTION=FOLDER").items()}
    labels = None if states is None else _read_labels(states, state_column)
    reference = Reference(opened, settings, model=model, inception=inception, labels=labels, pairs=pairs, device=device)
    result = run(generated, reference, shuffled=shuffled, slides=slides, simulated=simulated)
    out.mkdir(parents=True, exist_ok=True)
    content, text = result.to_json(), evaluation_text(result)
    plot_generation_quality(generated, result, reference, out / "generation.png")
    write_text(out / "evaluation.md", text + "\n")
    if result.counterfactual:
        import pandas as pd

        table = pd.concat([one.cells for one in result.counterfactual], ignore_index=True)
        table.to_parquet(out / "counterfactual_cells.parquet", index=False)
    write_json(out / "evaluation.json", content)  # last: whoever finds it finds the rest
    typer.echo(json_module.dumps(content, ensure_ascii=False) if json else f"{text}\n\n→ {out}")


def _named(given: list[str] | None, option: str, form: str) -> dict[str, str]:
    from spatia.errors import SettingsError

    found = {}
    for one in given or []:
        name, sign, value = one.partition("=")
        if not (name and sign and value):
            raise SettingsError(f"{option} {one!r}: expected {form}.")
        found[name.strip()] = value.strip()
    return found


def _read_labels(states: str, column: str) -> "str | pd.DataFrame":
    """Return the name of an obs column, or the table of labels in a file."""
    from spatia.cli.label_table import read_label_table
    from spatia.corpus.given_cells import is_cell_table

    path = Path(states)
    return read_label_table(path, "--states", column) if is_cell_table(path) else states
