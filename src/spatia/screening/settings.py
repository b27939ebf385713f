"""What is changed, in which cells, and how finely the answer is drawn."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

LEAST_REFERENCE: Final = 20


class ScreenSettings(BaseModel):
    """Settings of a screen; kept with its results."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    factor: float = Field(0.0, ge=0, le=1000, description="counts of the genes are multiplied by this; 0: knocked out")
    level_of: str | None = Field(
        None, description="expression over obs: set the genes to their mean level in these cells, in place of a factor"
    )
    split: str | None = Field(None, description="split of the corpus; None: no part")
    part: str = Field("test", description="part whose cells are changed")
    where: str | None = Field(None, description="expression over obs: only these cells are changed")
    limit: int = Field(48, ge=2, description="most cells, spread evenly")
    read: Literal["embedding", "image"] = Field(
        "embedding",
        description="predict features from the embedding of the changed cell, or measure them in drawn images",
    )
    rank_by: Literal["magnitude", "sensitivity"] = Field(
        "magnitude",
        description="size of what moves; or that for one unit of change, so that much expressed genes do not lead",
    )
    n_drawn: int = Field(6, ge=0, description="first changes of the ranking whose images are shown")
    draws: int = Field(2, ge=1, le=64, description="images of each cell, each with noise of its own")
    evaluations: int | None = Field(
        8, ge=1, le=1000, description="of the network for each image; None: the generator's"
    )
    fast: float | None = Field(
        None, ge=0, lt=1, description="read the image that the network expects at this time, at one evaluation a gene"
    )
    surroundings: Literal["follow", "keep", "drop"] = Field(
        "follow", description="embedding of the niche: made again with the changed cell, kept, or withheld"
    )
    align: bool = Field(True, description="with read=image: align a section that the generator did not learn from")
    guidance: float | None = Field(None, ge=0, description="None: the generator's")
    score: str | None = Field(
        None, description="column of obs to read from images: numbers, or COLUMN=LABEL for the log odds of a label"
    )
    resamples: int = Field(500, ge=50, description="bootstrap resamples of cells")
    max_reference: int = Field(2000, ge=LEAST_REFERENCE, description="most real cells that features are scaled by")
    permute_genes: bool = Field(
        False, description="control: each gene's change is made to another gene, which is drawn at random"
    )
    shuffle_images: bool = Field(
        False,
        description="control, with read=embedding: real cells have each other's images before anything is learned from them",
    )
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _one_change(self) -> "ScreenSettings":
        if self.level_of is not None and self.factor != 0:
            raise ValueError(f"factor is {self.factor:g} and level_of is {self.level_of!r}; expected one of them")
        if self.level_of is None and self.factor == 1:
            raise ValueError("factor is 1, which changes nothing; expected 0 (knocked out) or another factor")
        if self.shuffle_images and self.read != "embedding":
            raise ValueError(
                f"shuffle_images with read={self.read}: a generator has learned from images already; expected read=embedding"
            )
        return self
