"""The settings of the simulator: strict, frozen, saved with every slide."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Codec = Literal["deflate", "jpeg2000", "none"]


class SimulationSettings(BaseModel):
    """What ``spatia simulate`` makes. Equal settings give byte-identical files.

    ``tile_px`` and ``workers`` change the layout of the TIFF files and the speed, never a pixel or a count.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_cells: int = Field(20_000, ge=50, description="Cells of each section, exactly.")
    n_sections: int = Field(1, ge=1, description="Sections (slides); each becomes a bundle of its own.")
    seed: int = Field(0, ge=0, description="Everything random derives from this number.")
    um_per_px: float = Field(0.2125, gt=0.05, le=2.0, description="Pixel size of the image, µm.")
    cells_per_mm2: float = Field(7_000.0, ge=1_000, le=12_000, description="Cells per mm² of tissue.")
    n_genes: int = Field(300, ge=60, le=5_000, description="Genes of the whole panel, controls not counted.")
    panel_share: float = Field(1.0, gt=0.2, le=1.0, description="Share of the panel that each section measures.")
    n_donors: int | None = Field(
        None, ge=1, description="Donors; section k is of donor k mod n_donors. None: one each."
    )
    counts_per_cell: float = Field(180.0, ge=10, le=2_000, description="Transcripts of a typical cell.")
    spill_share: float = Field(0.06, ge=0, le=0.5, description="Share of transcripts assigned to a neighbouring cell.")
    unassigned_share: float = Field(
        0.06, ge=0, le=0.5, description="Transcripts outside cells, as a share of those inside."
    )
    donor_effect: float = Field(0.25, ge=0, le=1, description="SD of the donor's log effect on each gene.")
    panel_effect: float = Field(
        0.15, ge=0, le=1, description="SD of the section's log capture efficiency of each gene."
    )
    image_noise: float = Field(1.0, ge=0, le=5, description="Camera noise; 1 is realistic, 0 switches it off.")
    transcripts: bool = Field(True, description="Write transcripts.parquet.")
    codec: Codec = Field("deflate", description="Compression of the image tiles (vendor: jpeg2000, slow).")
    tile_px: int = Field(1024, ge=256, le=4096, description="Side of a TIFF tile, a multiple of 256.")
    workers: int = Field(2, ge=1, le=64, description="Threads that draw tiles.")
    transitions: tuple[str, ...] = Field((), description="Counterfactuals to write, e.g. 'emt: 0→1'.")
    n_counterfactual: int = Field(500, ge=1, description="Cells per transition.")

    @model_validator(mode="after")
    def _tiles_are_whole_noise_blocks(self) -> "SimulationSettings":
        if self.tile_px % 256:
            raise ValueError(f"tile_px is {self.tile_px}; expected a multiple of 256 (the noise comes in such blocks)")
        return self

    def donor_of(self, section: int) -> int:
        """Return the donor (from 0) of a section (from 0)."""
        return section % (self.n_donors or self.n_sections)
