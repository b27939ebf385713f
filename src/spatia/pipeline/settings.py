"""Settings of a run: what the steps are asked to do."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from spatia.corpus.settings import BuildSettings, NicheSettings


class RunSettings(BaseModel):
    """Everything that decides a run beside its slides. Each step is done again when one of those it reads has changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(0, description="everything random derives from this number")
    preset: str = Field("tiny", description="size of the model that is trained")
    model: Path | None = Field(None, description="model folder to use as it is: nothing is trained")
    start_from: Path | None = Field(
        None, description="model folder that training starts from; None: from random weights"
    )
    train: tuple[str, ...] = Field((), description="lines NAME=VALUE for `spatia train`, over the defaults")
    # a niche around every cell: blocks that are held out then need not be as large as a window
    build: BuildSettings = Field(default_factory=lambda: BuildSettings(niches=NicheSettings(definition="knn")))
    labels_key: str | None = Field(None, description="column of the slide's own table that holds labels of some cells")
    annotations: Path | None = Field(
        None, description="CSV, TSV or parquet with cell_id and label, and sample where ids repeat"
    )
    variable_genes: int = Field(50, ge=1, description="genes predicted from the image: those that vary most")
    hidden_share: float = Field(0.2, gt=0, lt=1, description="share of the genes that is hidden and predicted")
    umap_cells: int = Field(50_000, ge=100, description="most cells that are laid out")
    benchmark: bool = Field(True, description="compare with simple methods")
    benchmark_seeds: int = Field(3, ge=1, description="draws of hidden genes and of what a method draws")
    generate: int = Field(0, ge=0, description="images that a generator is trained on, to draw held-out cells; 0: none")
    force: bool = Field(False, description="record refusals that are safe to record, instead of refusing")
