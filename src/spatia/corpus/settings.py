"""Settings of a build: physical levels, niche definition, storage. Strict, and stored with every corpus."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from spatia.errors import SettingsError

NicheDefinition = Literal["grid", "radius", "knn", "adaptive"]
Nuclei = Literal["outlines", "stain"]


class LevelSettings(BaseModel):
    """Window of one level: its side in µm and in pixels. A crop is never rescaled to the size of its cell."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size_um: float = Field(gt=0)
    px: int = Field(ge=8, le=4096, multiple_of=2)

    @property
    def um_per_px(self) -> float:
        """Pixel size of the level in µm."""
        return self.size_um / self.px


class NicheSettings(BaseModel):
    """How cells are gathered into niches; every definition is a function of ``spatia.corpus.niches``.

    ``grid`` and ``adaptive`` partition the cells; ``radius`` and ``knn`` put a niche around every cell.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    definition: NicheDefinition = "grid"
    radius_um: float = Field(27.2, gt=0, description="radius: cells whose centroid lies this near")
    neighbours: int = Field(12, ge=1, description="knn: number of nearest cells beside the cell itself")
    cells_per_niche: int = Field(16, ge=2, description="adaptive: mean number of cells of a niche")


class StorageSettings(BaseModel):
    """Shards are files, chunks the pieces in them that are compressed alone. Rows are cells."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    chunk_rows: int = Field(64, ge=1)
    shard_rows: int = Field(2048, ge=1)
    zstd_level: int = Field(1, ge=-7, le=19)

    @model_validator(mode="after")
    def _whole_chunks(self) -> "StorageSettings":
        if self.shard_rows % self.chunk_rows:
            raise SettingsError(f"shard_rows {self.shard_rows} is not a multiple of chunk_rows {self.chunk_rows}.")
        return self


class BuildSettings(BaseModel):
    """Everything that decides the bytes of a corpus, beside its input.

    The defaults are the levels of the method: 27.2 µm cells on 64 px (0.425 µm/px), 54.4 µm niches, 435.2 µm tissue windows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cell: LevelSettings = LevelSettings(size_um=27.2, px=64)
    niche: LevelSettings = LevelSettings(size_um=54.4, px=64)
    tissue: LevelSettings = LevelSettings(size_um=435.2, px=256)
    niches: NicheSettings = NicheSettings()
    nuclei: Nuclei = Field(
        "outlines",
        description="outlines: those of the slide, none where it has none; stain: there, found within the cell by the nuclear stain",
    )
    storage: StorageSettings = StorageSettings()
    intensity_low: Annotated[float, Field(ge=0, lt=50)] = 0.5
    intensity_high: Annotated[float, Field(gt=50, le=100)] = 99.9
    spill_cells: int = Field(16_384, ge=1, description="cells sorted in memory at once")

    @model_validator(mode="after")
    def _tissue_holds_niches(self) -> "BuildSettings":
        ratio = self.tissue.size_um / self.niche.size_um
        if abs(ratio - round(ratio)) > 1e-6 or ratio < 1:
            raise SettingsError(
                f"tissue.size_um {self.tissue.size_um} is not a whole multiple of niche.size_um {self.niche.size_um}; "
                "niches must nest in tissue windows."
            )
        return self
