"""The settings of pairing: strict, frozen, saved with every result."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Scope = Literal["niche", "tissue", "section", "global"]


class CostSettings(BaseModel):
    """What makes two cells near. Costs are squared distances, divided by their median over the training cells."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    space: Literal["expression", "embedding"] = Field(
        "expression", description="Principal components of log-normalised counts, or a model's embedding of the cells."
    )
    n_genes: int = Field(2_000, ge=5, description="Most variable genes that enter the components.")
    n_components: int = Field(20, ge=1, le=500, description="Principal components of expression.")
    spatial_weight: float = Field(0.0, ge=0, description="Cost of a distance of `spatial_um`, in median costs.")
    spatial_um: float = Field(50.0, gt=0, description="Distance that costs `spatial_weight`, µm; grows squared.")


class SolverSettings(BaseModel):
    """How the plan is found. ε and the mass penalty are in units of the median cost, so they suit any space."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["sinkhorn", "exact"] = Field("sinkhorn", description="Entropic plan, or the exact one (no ε).")
    epsilon: float = Field(0.05, gt=0, le=10, description="Entropic regularisation / median cost.")
    balance: Literal["balanced", "unbalanced"] = Field(
        "balanced", description="Whether all mass must be moved, or may be dropped at a penalty."
    )
    mass_penalty: float = Field(1.0, gt=0, description="Penalty (KL) on dropped mass / median cost; unbalanced only.")
    tolerance: float = Field(
        1e-4, gt=0, lt=0.5, description="Largest marginal error: share of mass in the wrong place."
    )
    max_iterations: int = Field(20_000, ge=1, description="Iterations after which a problem has failed.")
    max_cells: int = Field(
        2_048, ge=8, description="A problem of more than max_cells² cost entries is cut or factored."
    )
    large: Literal["minibatch", "low_rank"] = Field("minibatch", description="What is done with larger problems.")
    rank: int = Field(50, ge=2, description="Rank of the factored plan (low_rank).")

    @model_validator(mode="after")
    def _unbalanced_is_entropic(self) -> "SolverSettings":
        if self.balance == "unbalanced" and self.method == "exact":
            raise ValueError("balance is 'unbalanced' with method 'exact'; expected method 'sinkhorn'")
        if self.balance == "unbalanced" and self.large == "low_rank":
            raise ValueError("balance is 'unbalanced' with large 'low_rank'; expected large 'minibatch'")
        return self


class PairSettings(BaseModel):
    """What ``spatia pair`` is told besides the transitions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    split: str | None = Field(None, description="Split of the corpus; None: the only one there is.")
    scope: Scope = Field("global", description="Where a partner may be; a transition may say otherwise.")
    states: str | None = Field(None, description="Column of obs that transitions by value refer to.")
    embedding: str | None = Field(None, description="Key of obsm of the table of cells (space 'embedding').")
    cost: CostSettings = CostSettings()
    solver: SolverSettings = SolverSettings()
    top_k: int = Field(10, ge=1, le=1_000, description="Partners of each source cell that are kept.")

    @model_validator(mode="after")
    def _an_embedding_is_named(self) -> "PairSettings":
        if (self.cost.space == "embedding") != (self.embedding is not None):
            raise ValueError(
                f"cost.space is {self.cost.space!r} and embedding is {self.embedding!r}; expected both (space 'embedding' with the "
                "key of obsm) or neither"
            )
        return self
