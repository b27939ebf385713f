"""Settings of `spatia train-generator`: those of the loop, of the generator, and of what it learns from."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, Field, model_validator

from spatia.errors import SettingsError
from spatia.generation.objective import GeneratorWeights
from spatia.generation.settings import LEAST_UNTOLD, STRICT, DropSettings, GeneratorConfig, SolverSettings, edits
from spatia.training.settings import LoopSettings


class GeneratorEpochs(BaseModel):
    """Passes over the data of each stage; None: as many as `GeneratorPresentations` asks for."""

    model_config = STRICT

    proxy: int | None = Field(None, ge=0)
    generator: int | None = Field(None, ge=0)


class GeneratorPresentations(BaseModel):
    """How many images each stage sees, counted anew in every epoch."""

    model_config = STRICT

    proxy: int = Field(12_000, ge=1)
    generator: int = Field(40_000, ge=1)


class GeneratorSettings(LoopSettings, GeneratorConfig):
    """Everything that decides the training of a generator, beside corpus, model and pairs."""

    lr: float = Field(2e-3, gt=0, description="highest learning rate; of an edit 1e-3")
    ema_decay: float = Field(0.995, ge=0, lt=1, description="of the averaged weights that are validated and written")
    weight_decay: float = Field(0.01, ge=0, description="not on norms, biases, embeddings and gates")

    epochs: GeneratorEpochs = GeneratorEpochs()
    presentations: GeneratorPresentations = GeneratorPresentations()
    batch: int = Field(8, ge=2, description="images of a step on each process; of an edit 16")
    weights: GeneratorWeights = GeneratorWeights()
    inside_weight: float = Field(
        4.0, gt=0, description="a pixel inside the cell's outline counts as so many outside; 1: all alike"
    )
    drop: DropSettings = DropSettings()
    proxy_least_r2: float = Field(
        0.5, gt=0, lt=1, description="a morphology feature counts if the proxy reads it this well on held-out cells"
    )
    grain_images: int = Field(
        256,
        ge=0,
        description="training images of 64 px (of others as many pixels) that set the grain of drawn ones; 0: none",
    )
    aim_cells: int = Field(
        64,
        ge=0,
        description="of an edit: training source cells of each transition that say what to ask for; 0: the mean change itself is asked for",
    )
    sample_rows: int = Field(8, ge=0, description="images of each grid that is saved while training; 0: none")
    sample_grids: int = Field(8, ge=1, description="grids to save, spread over the epochs")

    @model_validator(mode="before")
    @classmethod
    def _an_edit_learns_otherwise(cls, values: Any) -> Any:
        """Of an edit, what is measured is never hidden, and needs no proxy: it would only ask again for what is told.

        It gains by larger and fewer steps, a flow by smaller and more of them (``docs/experiments.md``).
        """
        if not edits(values):
            return values
        weights = values.get("weights", {})
        weights = {"morphology": 0.0, **weights} if isinstance(weights, dict) else weights
        return {"drop": {"each": 0.0, "all": 0.0}, "lr": 1e-3, "batch": 16, **values, "weights": weights}

    @model_validator(mode="after")
    def _learns_something(self) -> "GeneratorSettings":
        if self.weights.flow == 0:
            raise SettingsError("weights.flow=0: nothing would teach the generator the path. Give it a weight above 0.")
        if self.weights.morphology and self.level != "cell":
            raise SettingsError(
                f"weights.morphology={self.weights.morphology:g} with level={self.level}: features are measured on cells. Set it to 0."
            )
        if self.weights.morphology and self.epochs.proxy == 0:
            raise SettingsError(
                f"epochs.proxy=0 with weights.morphology={self.weights.morphology:g}: the term is read by a proxy, which would never be "
                "trained. Set weights.morphology=0, or leave epochs.proxy out."
            )
        untold = self.drop.untold(len(self.generator.told))
        if self.guidance != 1 and not self.is_edit and untold < LEAST_UNTOLD:
            raise SettingsError(
                f"guidance={self.guidance:g} with drop.all={self.drop.all:g}: guidance compares with what is drawn of cells that nothing is told "
                f"of, and {untold:.2g} of the rows are such. Set drop.all to {LEAST_UNTOLD:g} or more (0.1 by default), or guidance=1."
            )
        return self

    @model_validator(mode="after")
    def _nothing_is_set_that_is_not_used(self) -> "GeneratorSettings":
        network = self.network
        if network.kind == "unet" and network.layers > network.levels and network.layers % network.levels:
            fewer = network.layers // network.levels * network.levels
            raise SettingsError(
                f"network.layers={network.layers} with network.levels={network.levels}: a U-Net has as many blocks at every level. Take "
                f"{fewer} or {fewer + network.levels} layers."
            )
        if self.solver.kind == "adaptive" and self.solver.early != SolverSettings().early:
            raise SettingsError(
                f"solver.early={self.solver.early:g} with solver.kind=adaptive: it chooses its steps itself. Leave solver.early out, or take "
                "heun."
            )
        # Of a run that is resumed every setting is given, as the version took it that began the run.
        if self.model_fields_set != set(type(self).model_fields):
            for name, reason in self._without_effect():
                self._refuse_if_set(name, reason)
        return self

    def _without_effect(self) -> Iterator[tuple[str, str]]:
        """Yield what nothing would read, and why."""
        edit, pairs = self.is_edit, self.task == "transition"
        if self.coupled != "ot-confidence":
            yield "gamma", f"coupling={self.coupled} weighs no pair by its confidence"
        other = (
            {"fold": "folds no pixels", "levels": "has one resolution"}
            if self.network.kind == "transformer"
            else {"patch_px": "cuts no patches", "stem": "cuts no patches"}
        )
        for name, what in other.items():
            yield f"network.{name}", f"network.kind={self.network.kind} {what}"
        if edit:  # evaluations may be given: the benchmark sets one number for all of its generators
            for name in (
                "solver.kind",
                "solver.early",
                "solver.tolerance",
                "path.time",
                "path.time_mean",
                "path.time_sd",
            ):
                yield name, "an edit (coupling=self) takes one step, and walks no path"
        else:
            what = f"coupling={self.coupled} is no edit" if pairs else f"task={self.task} is no edit"
            yield "aim_cells", what
            yield "weights.displacement", what

    def _refuse_if_set(self, name: str, reason: str) -> None:
        """Refuse a setting that is neither at its default nor 0 where 0 turns something off, which is so in any case."""
        group, _, last = name.rpartition(".")
        holder = getattr(self, group) if group else self
        found, default = getattr(holder, last), type(holder).model_fields[last].default
        if found == default or (found == 0 and name in ("aim_cells", "weights.displacement")):
            return
        raise SettingsError(f"{name}={found} says nothing: {reason}. Leave {name} out.")

    @property
    def chooses_surroundings(self) -> bool:
        """Whether training chooses the surroundings that are told: of cells drawn from expression, where the user names no conditions."""
        return self.conditions is None and self.task == "expression-to-image" and self.level == "cell"

    @property
    def generator(self) -> GeneratorConfig:
        """What is stored with the generator."""
        return GeneratorConfig.model_validate({name: getattr(self, name) for name in GeneratorConfig.model_fields})
