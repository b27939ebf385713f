"""Settings of a training run: strict, printed when it starts, and saved with it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from spatia.config import read_settings_of
from spatia.errors import SettingsError
from spatia.generation.settings import Precision

STRICT = ConfigDict(extra="forbid", frozen=True)

# What may be changed on --resume: none of it changes which numbers are computed.
FREE_ON_RESUME = frozenset(
    {
        "accelerator",
        "checkpoint_every_s",
        "checkpoint_every_steps",
        "devices",
        "num_nodes",
        "strategy",
        "tensorboard",
    }
)


class LossWeights(BaseModel):
    """Weight of each loss term in the sum that is minimised; 0 leaves a term out."""

    model_config = STRICT

    genes: float = Field(1.0, ge=0, description="likelihood of masked counts")
    image: float = Field(1.0, ge=0, description="masked image patches")
    contrastive: float = Field(0.1, ge=0, description="image and gene embedding of a cell agree")
    adversarial: float = Field(0.0, ge=0, description="sections cannot be told apart")
    morphology: float = Field(0.5, ge=0, description="measured features of the cell")
    niche: float = Field(1.0, ge=0, description="masked cells of a niche")
    tissue: float = Field(0.1, ge=0, description="masked niches of a tissue window")


TERMS: Final = {  # of the loss, by the stage that has them
    "cells": ("genes", "image", "contrastive", "adversarial", "morphology"),
    "context": ("niche", "tissue"),
}


class MaskSettings(BaseModel):
    """What is hidden from the model in training; shares of a cell's own patches and measured genes."""

    model_config = STRICT

    image: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.75, 0.5, 0.0), min_length=1, description="share of patches hidden, epoch by epoch"
    )
    genes: float = Field(
        0.9, ge=0, le=1, description="largest share of measured genes hidden; a cell's own is uniform below"
    )
    features: float = Field(0.3, ge=0, le=1, description="share of measured morphology hidden")
    all_image: float = Field(0.2, ge=0, le=1, description="share of cells without any image patch: genes to image")
    all_genes: float = Field(0.35, ge=0, le=1, description="share of cells without any gene: image to genes")
    seen_genes_weight: float = Field(0.2, ge=0, le=1, description="weight of counts that were shown")
    most_target_genes: int = Field(1024, ge=1, description="genes predicted at once; large panels take turns")
    turn: bool = Field(False, description="crops are turned and mirrored at random: a cell has no up")
    cells: float = Field(0.3, ge=0, lt=1, description="share of cells hidden from their niche")
    niches: float = Field(0.25, ge=0, lt=1, description="share of blocks of niches hidden from their window")

    @model_validator(mode="after")
    def _something_is_shown_of_every_cell(self) -> "MaskSettings":
        if self.all_image + self.all_genes > 1:
            raise SettingsError(
                f"masking.all_image={self.all_image:g} and masking.all_genes={self.all_genes:g}: together they are above 1, so that of some "
                "cells neither image nor genes would be shown. Lower one of them."
            )
        return self


class StageEpochs(BaseModel):
    """Passes over the data of each stage; None: as many as `Presentations` asks for."""

    model_config = STRICT

    cells: int | None = Field(None, ge=0)
    context: int | None = Field(None, ge=0)


class Presentations(BaseModel):
    """How many cells each stage sees, counted anew in every epoch: any slide then takes the same time."""

    model_config = STRICT

    cells: int = Field(40_000, ge=1)
    context: int = Field(60_000, ge=1)


class PretrainedPieces(BaseModel):
    """Local paths of what a new model starts from (``docs/pretrained.md``); None: from random weights."""

    model_config = STRICT

    image: Path | None = Field(None, description="folder of a ViT-MAE in the transformers format: the image encoder")
    genes: Path | None = Field(None, description="parquet file with a row of numbers per gene_id: the gene embeddings")


class LoopSettings(BaseModel):
    """What the loop needs to know, whatever it trains: data, optimiser, devices, checkpoints, log."""

    model_config = STRICT

    seed: int = Field(0, ge=0)
    split: str | None = Field(None, description="split of the corpora whose part is trained on; None: all cells")
    part: str = "train"
    validation_part: str = Field("validation", description="part of the split that chooses the epoch")

    lr: float = Field(1e-3, gt=0, description="highest learning rate")
    lr_end: float = Field(0.01, ge=0, le=1, description="learning rate at the end of a stage, as a share of lr")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of a stage in which the learning rate rises")
    weight_decay: float = Field(0.05, ge=0, description="not on norms, biases, embeddings and gates")
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.95, ge=0, lt=1)
    clip: float = Field(1.0, gt=0, description="greatest norm of the gradient")
    ema_decay: float = Field(0.98, ge=0, lt=1, description="of the averaged weights that are validated and written")
    patience: int | None = Field(None, ge=1, description="epochs without a better validation loss before a stage ends")
    collapse_share: float = Field(0.05, ge=0, le=1, description="effective rank below this share of the width: warn")

    precision: Precision = "32-true"
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int | Literal["auto"] = Field(
        "auto", description="processes a machine; auto: what torchrun or SLURM started"
    )
    num_nodes: int | Literal["auto"] = "auto"
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"

    checkpoint_every_steps: int | None = Field(None, ge=1)
    checkpoint_every_s: float = Field(300.0, ge=0, description="seconds of training that a crash may cost")
    log_every: int = Field(20, ge=1, description="steps to a line of log.jsonl")
    tensorboard: bool = False


class TrainSettings(LoopSettings):
    """Everything that decides a training run of a model, beside its corpora."""

    preset: Literal["tiny", "base", "large"] = "tiny"
    sizes: dict[str, int | float | None] = Field(
        default_factory=dict, description="sizes other than the preset's, by name: sizes.fusion_layers=0"
    )
    epochs: StageEpochs = StageEpochs()
    presentations: Presentations = Presentations()
    batch_cells: int = Field(64, ge=1, description="cells of a step on each process")
    window_cells: int = Field(1024, ge=1, description="cells of a step of stage 'context'; a larger window comes alone")

    weights: LossWeights = LossWeights()
    masking: MaskSettings = MaskSettings()
    pretrained: PretrainedPieces = PretrainedPieces()

    @model_validator(mode="after")
    def _every_stage_learns_something(self) -> "TrainSettings":
        for stage, terms in TERMS.items():
            if getattr(self.epochs, stage) != 0 and not any(getattr(self.weights, term) for term in terms):
                raise SettingsError(
                    f"weights.{', weights.'.join(terms)} are all 0: stage {stage!r} has nothing to learn from. Give one of them a weight, or "
                    f"leave the stage out with epochs.{stage}=0."
                )
        return self


def read_settings(
    config: Path | None = None,
    overrides: Sequence[str] = (),
    given: Mapping[str, Any] | None = None,
    *,
    base: Mapping[str, Any] | None = None,
) -> TrainSettings:
    """Make the settings of `spatia train`; as :func:`spatia.config.read_settings_of`.

    Examples
    --------
    >>> read_settings(overrides=["lr=3e-4", "epochs.cells=2"]).epochs.cells
    2
    """
    return read_settings_of(TrainSettings, "spatia train", config, overrides, given, base=base)
