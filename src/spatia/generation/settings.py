"""What a generator is made of, as strict settings; combinations that make no sense are refused with the reason."""

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from spatia.errors import SettingsError
from spatia.generation.intensities import Scale
from spatia.nn.token_merging import MOST

STRICT: Final = ConfigDict(extra="forbid", frozen=True)

# What a generator may be told, by name. `control` has seen the source's image; nothing has seen the target's.
OF_EXPRESSION: Final = ("genes", "niche", "tissue")
OF_NICHE: Final = (*OF_EXPRESSION, "composition")
AIM: Final = "aim"  # measured morphology that the image is to have; of a source cell its own and Δm
LABEL: Final = "label"  # type or state of the cell, given by the user: only where it is asked for
OF_TRANSITION: Final = ("control", "niche", "tissue", "transition", "delta_genes", "delta_morphology")
OF_EDIT: Final = (AIM, "niche", "tissue")

LEAST_UNTOLD: Final = 0.01  # of the training rows are to be told nothing, for guidance to compare with
LEAST_ADAPTIVE: Final = 7  # evaluations: one where it begins, three for each of two steps, the first of which is short

Coupling = Literal["noise", "control", "ot", "ot-confidence", "self"]
SELF: Final = "self"
Task = Literal["expression-to-image", "transition"]
Precision = Literal["32-true", "bf16-mixed"]


class PathSettings(BaseModel):
    """How source and target are joined, and what the network predicts on the way."""

    model_config = STRICT

    kind: Literal["linear", "diffusion", "step"] = Field(
        "linear", description="straight flow, variance-preserving diffusion, or one step (coupling=self)"
    )
    prediction: Literal["image", "velocity", "noise"] | None = Field(
        None, description="what the network gives; None: image on a straight path, velocity in a diffusion"
    )
    time: Literal["uniform", "logit-normal"] = Field("logit-normal", description="how t is drawn in training")
    time_mean: float = Field(-0.8, description="logit-normal: centre of logit(t); below 0: nearer the source")
    time_sd: float = Field(1.0, gt=0, description="logit-normal: spread of logit(t)")

    @model_validator(mode="after")
    def _predicts_what_there_is(self) -> "PathSettings":
        if self.kind == "linear" and self.prediction == "noise":
            raise SettingsError(
                "path.prediction=noise with path.kind=linear: a straight path may begin at an image, which is no noise. "
                "Take prediction=velocity or image, or kind=diffusion."
            )
        if self.kind == "step" and self.prediction not in (None, "image"):
            raise SettingsError(f"path.prediction={self.prediction} with path.kind=step: one step leads to the image.")
        if self.kind == "diffusion" and self.prediction == "image":
            raise SettingsError("path.prediction=image with path.kind=diffusion: take velocity or noise.")
        return self

    @property
    def predicted(self) -> str:
        """What the network predicts."""
        return self.prediction or {"linear": "image", "diffusion": "velocity", "step": "image"}[self.kind]


class NetworkSettings(BaseModel):
    """The network that predicts; sizes of both kinds."""

    model_config = STRICT

    kind: Literal["unet", "transformer"] = "unet"
    width: int = Field(
        192, ge=16, multiple_of=8, description="features of a token, or of the coarsest level of a U-Net"
    )
    layers: int = Field(
        4, ge=1, description="transformer layers; of a U-Net, blocks on each side, as many a level and at least one"
    )
    heads: int = Field(4, ge=1)
    ratio: float = Field(3.0, gt=0, description="hidden width of a feed-forward layer, in widths")
    patch_px: int = Field(8, ge=2, description="side of a token, pixels")
    stem: int = Field(12, ge=4, description="features of a pixel before patches are cut and after they are joined")
    levels: int = Field(4, ge=2, le=6, description="U-Net: resolutions, each half of the one before")
    fold: int = Field(
        2, ge=1, le=8, description="U-Net: a square of so many pixels a side is one at its finest resolution"
    )
    merge: float | tuple[float, ...] = Field(
        0.0, description="share of the tokens merged away: for all layers, or for each; at most 0.75"
    )

    @model_validator(mode="after")
    def _sizes_fit(self) -> "NetworkSettings":
        if self.width % self.heads:
            raise SettingsError(f"network.width {self.width} is not a multiple of network.heads {self.heads}.")
        if any(not 0 <= ratio <= MOST for ratio in self.merge_of_layers):
            raise SettingsError(
                f"network.merge {self.merge}: expected shares from 0 to {MOST:g}: a token of four stays."
            )
        if len(self.merge_of_layers) != self.layers:
            raise SettingsError(
                f"network.merge names {len(self.merge_of_layers)} layers, network.layers {self.layers}."
            )
        if self.kind == "unet" and any(self.merge_of_layers):
            raise SettingsError(f"network.merge {self.merge} with network.kind=unet: a U-Net has no tokens to merge.")
        return self

    @property
    def merge_of_layers(self) -> tuple[float, ...]:
        """The share of each layer."""
        return self.merge if isinstance(self.merge, tuple) else (self.merge,) * self.layers


class SolverSettings(BaseModel):
    """How the path is walked when an image is made."""

    model_config = STRICT

    kind: Literal["euler", "midpoint", "heun", "adaptive"] = "heun"
    evaluations: int = Field(20, ge=1, le=1000, description="of the network, for one image; adaptive: the most")
    early: float = Field(
        2.0,
        ge=1,
        description="t is the step's share of the way to this power: 1 evenly, above it shorter steps near the beginning; "
        "adaptive: it chooses its own",
    )
    tolerance: float = Field(0.02, gt=0, description="adaptive: error of a step, in standard deviations of the image")

    @model_validator(mode="after")
    def _budget_is_kept(self) -> "SolverSettings":
        if self.kind == "adaptive" and self.evaluations < LEAST_ADAPTIVE:
            raise SettingsError(
                f"solver.evaluations={self.evaluations} with solver.kind=adaptive: it takes at least {LEAST_ADAPTIVE}. "
                f"Give at least {LEAST_ADAPTIVE}, or take heun."
            )
        return self


class DropSettings(BaseModel):
    """Which conditions are hidden from the network in training, row by row."""

    model_config = STRICT

    each: float = Field(0.1, ge=0, lt=1, description="share of rows that lack a condition, for each by itself")
    all: float = Field(
        0.1, ge=0, lt=1, description="share of rows that lack every condition: what guidance compares with"
    )

    def untold(self, conditions: int) -> float:
        """Return the share of rows that are told none of so many conditions.

        Examples
        --------
        >>> DropSettings(each=0.5, all=0.2).untold(2)
        0.4
        """
        return self.all + (1 - self.all) * self.each**conditions


def edits(values: Any) -> bool:
    """Say whether settings as they are given ask for an edit: a transition does, unless a path, or what an edit is not told, is named.

    Examples
    --------
    >>> edits({"task": "transition"}), edits({"task": "transition", "coupling": "ot"}), edits({})
    (True, False, False)
    """
    if not isinstance(values, dict) or values.get("coupling") is not None:
        return isinstance(values, dict) and values["coupling"] == SELF
    told = values.get("conditions") or ()
    return values.get("task") == "transition" and values.get("path") is None and set(told) <= set(OF_EDIT)


class GeneratorConfig(BaseModel):
    """Everything that decides what a generator computes; stored with its weights."""

    model_config = STRICT

    task: Task = "expression-to-image"
    level: Literal["cell", "niche"] = "cell"
    coupling: Coupling | None = Field(
        None,
        description="where a path begins: noise, control, ot, ot-confidence, self (a changed picture of the cell itself); None: noise, of a "
        "transition self, or ot-confidence where a path or other conditions are given",
    )
    gamma: float = Field(1.0, ge=0, description="ot-confidence: weight of a pair is confidence^gamma, scaled to mean 1")
    conditions: tuple[str, ...] | None = Field(
        None, description="what the network is told; None: all that the task has, without label"
    )
    path: PathSettings = PathSettings()
    intensity: Scale | None = Field(
        None, description="images as they are (linear), or their logarithm (log); None: linear, with coupling=self log"
    )
    network: NetworkSettings = NetworkSettings()
    solver: SolverSettings = SolverSettings()
    guidance: float = Field(1.0, ge=0, description="1: as conditioned; above: further from the unconditioned image")

    @model_validator(mode="before")
    @classmethod
    def _an_edit_is_one_step(cls, values: Any) -> Any:
        if edits(values):
            return {"path": {"kind": "step"}, **values, "coupling": SELF}
        return values

    @model_validator(mode="after")
    def _makes_sense(self) -> "GeneratorConfig":
        pairs = self.task == "transition"
        if not pairs and not self.begins_at_noise:
            raise SettingsError(
                f"coupling={self.coupling} with task=expression-to-image: there is no source cell to begin at. Give --pairs, or "
                "take coupling=noise."
            )
        if self.path.kind == "diffusion" and not self.begins_at_noise:
            raise SettingsError(
                f"path.kind=diffusion with coupling={self.coupled}: a diffusion begins at Gaussian noise. Take coupling=noise, "
                "or path.kind=linear."
            )
        if (self.path.kind == "step") != self.is_edit:
            raise SettingsError(
                f"path.kind={self.path.kind} with coupling={self.coupled}: an edit (coupling=self) is one step (path.kind=step), and nothing "
                "else is."
            )
        if self.is_edit and AIM not in self.told:
            raise SettingsError(
                "conditions without 'aim' with coupling=self: an edit is told what the cell is to measure."
            )
        if pairs and self.level != "cell":
            raise SettingsError(f"level={self.level} with task=transition: pairs are pairs of cells. Take level=cell.")
        if unknown := [name for name in self.told if name not in self.may_be_told]:
            raise SettingsError(
                f"conditions: {', '.join(unknown)} is not known to task={self.task} at level={self.level}. "
                f"There are: {', '.join(self.may_be_told)}."
            )
        return self

    @property
    def coupled(self) -> str:
        """Where a path begins."""
        if self.coupling is None:  # of an edit it is set
            begins_at_cells = self.task == "transition" and self.path.kind == "linear"
            return "ot-confidence" if begins_at_cells else "noise"
        return self.coupling

    @property
    def is_edit(self) -> bool:
        """Whether it changes a picture of the cell itself in one step; everything else walks a path."""
        return self.coupled == SELF

    @property
    def begins_at_noise(self) -> bool:
        """Whether its images are drawn from noise: no source cell is asked."""
        return self.coupled == "noise"

    @property
    def scale(self) -> Scale:
        """Scale on which the network sees images."""
        return self.intensity or ("log" if self.is_edit else "linear")

    @property
    def may_be_told(self) -> tuple[str, ...]:
        """Every condition that the task has."""
        if self.is_edit:
            return OF_EDIT
        if self.task == "transition":
            return (*OF_TRANSITION, AIM)
        return OF_NICHE if self.level == "niche" else (*OF_EXPRESSION, LABEL)

    @property
    def told(self) -> tuple[str, ...]:
        """Conditions of the network, in a fixed order."""
        if self.conditions is None:
            if self.is_edit:
                return (AIM,)
            return tuple(name for name in self.may_be_told if name not in (LABEL, AIM))
        return tuple(dict.fromkeys(self.conditions))
