"""A trained model as an object: load it once, use it on any corpus."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata as ad

from spatia.corpus.corpus import Corpus
from spatia.data.vocabulary import Vocabulary
from spatia.inference.embed import embed
from spatia.inference.predict import ExpressionPrediction, predict_expression
from spatia.models.checkpoint import load_model, model_id, read_description
from spatia.models.spatia import Spatia


class Model:
    """A trained model; use :meth:`load`.

    Attributes
    ----------
    network
        The module itself, in evaluation mode.
    model_id
        Digest of the folder it was loaded from.
    facts
        What it was trained on, as ``model.json`` says.

    Examples
    --------
    >>> Model.load("nowhere")
    Traceback (most recent call last):
    ...
    spatia.errors.ModelError: nowhere/model.json: no such file. Expected a model folder as `spatia train` writes it.
    """

    def __init__(self, folder: Path, network: Spatia, facts: dict[str, Any]) -> None:
        self.folder, self.network, self.facts = folder, network, facts
        self.model_id = model_id(folder)

    @classmethod
    def load(cls, folder: str | Path) -> "Model":
        """Read a model folder.

        Raises
        ------
        ModelError
            If a file is missing, damaged, or of another format version.
        """
        facts: dict[str, Any] = read_description(Path(folder))["facts"]
        return cls(Path(folder), load_model(folder), facts)

    @property
    def vocabulary(self) -> Vocabulary:
        """Genes, channels and morphology features that the model knows."""
        return self.network.vocabulary

    def embed(self, corpus: Corpus | str | Path, out: str | Path | None = None, **options: Any) -> ad.AnnData | Path:
        """Embed every cell of a corpus; options as for `spatia.embed`."""
        return embed(corpus, self.folder, out, **options)

    def predict_expression(
        self, corpus: Corpus | str | Path, genes: Sequence[str], **options: Any
    ) -> ExpressionPrediction:
        """Predict genes of every cell; options as for `spatia.inference.predict.predict_expression`."""
        return predict_expression(corpus, self.folder, genes, **options)
