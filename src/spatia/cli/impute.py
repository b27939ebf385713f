"""``spatia impute``: genes that were not measured, or were hidden to see how well they are told."""

from enum import StrEnum
from typing import Annotated

import typer

from spatia.cli import task_options as options


class Method(StrEnum):
    """What predicts from the embedding."""

    ridge = "ridge"
    model = "model"


def impute(
    corpus: options.Corpus,
    *,
    model: options.Model = options.SHIPPED,
    out: options.NewTable = None,
    genes: options.Genes = None,
    share: Annotated[
        float, typer.Option(help="Share of the panel to hide, at random, where no genes are named.")
    ] = 0.2,
    method: Annotated[
        Method,
        typer.Option(help="ridge on the embedding, or the model's own decoder (also for genes measured nowhere)."),
    ] = Method.ridge,
    level: Annotated[float, typer.Option(help="Probability of the interval.")] = 0.9,
    split: options.SplitName = None,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    figure: options.Figure = None,
    json: options.Json = False,
) -> None:
    """Predict hidden genes, each with an interval."""
    from spatia.config import make_settings
    from spatia.errors import SettingsError
    from spatia.tasks.impute import ImputeSettings
    from spatia.tasks.predict_expression import impute_genes

    options.check_before(out, figure)
    options.check_nothing_lost(out, corpus, "imputing", "X_spatia_imputed")
    if not 0 < share < 1:
        raise SettingsError(f"--share {share}: expected a number between 0 and 1.")
    settings = make_settings(ImputeSettings, {"level": level, "seed": seed}, where="spatia impute")
    result = impute_genes(
        corpus, model, options.gene_list(genes), share=share, method=method.value, split=split, settings=settings,
        device=device,
    )  # fmt: skip
    options.finish_expression(result, "X_spatia_imputed", out, figure, json=json)
