"""``spatia predict-expression``: genes from the image alone."""

from typing import Annotated

import typer

from spatia.cli import task_options as options
from spatia.cli.impute import Method


def predict_expression(
    corpus: options.Corpus,
    *,
    model: options.Model = options.SHIPPED,
    out: options.NewTable = None,
    genes: options.Genes = None,
    n_genes: Annotated[int, typer.Option(help="The most variable genes, where none are named.")] = 50,
    method: Annotated[
        Method, typer.Option(help="ridge on the image embedding, or the model's own decoder.")
    ] = Method.ridge,
    level: Annotated[float, typer.Option(help="Probability of the interval.")] = 0.9,
    split: options.SplitName = None,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    figure: options.Figure = None,
    json: options.Json = False,
) -> None:
    """Predict genes from the image alone."""
    from spatia.config import make_settings
    from spatia.tasks.impute import ImputeSettings
    from spatia.tasks.predict_expression import predict_from_image

    options.check_before(out, figure)
    options.check_nothing_lost(out, corpus, "predicting", "X_spatia_from_image")
    settings = make_settings(ImputeSettings, {"level": level, "seed": seed}, where="spatia predict-expression")
    result = predict_from_image(
        corpus, model, options.gene_list(genes), n_genes=n_genes, method=method.value, split=split, settings=settings,
        device=device,
    )  # fmt: skip
    options.finish_expression(result, "X_spatia_from_image", out, figure, json=json)
