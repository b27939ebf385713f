"""How much of a section a model knows: its genes, its channels, the scale of its crops. Too little is refused."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from spatia.corpus.corpus import Corpus, Section
from spatia.errors import ModelError
from spatia.log import logger
from spatia.models.levels import check_levels
from spatia.models.spatia import Spatia


@dataclass(frozen=True)
class Coverage:
    """What of one section the model knows.

    Attributes
    ----------
    sample
        The section.
    n_genes, n_known_genes
        Genes of its panel, and how many of them the model has seen in training.
    channels, unknown_channels
        Channels of its image that the model knows, and those it must leave out.
    """

    sample: str
    n_genes: int
    n_known_genes: int
    channels: tuple[str, ...]
    unknown_channels: tuple[str, ...]

    @property
    def share(self) -> float:
        """Share of the panel that the model knows."""
        return self.n_known_genes / self.n_genes if self.n_genes else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the fields and the share as JSON values."""
        return {
            **asdict(self),
            "channels": list(self.channels),
            "unknown_channels": list(self.unknown_channels),
            "share": self.share,
        }


def check_coverage(
    corpus: Corpus,
    sections: Collection[Section],
    model: Spatia,
    use: Collection[str],
    min_coverage: float,
    *,
    every_section: bool = True,
) -> list[Coverage]:
    """Measure the coverage of each section, and refuse what the model cannot judge.

    Raises
    ------
    ModelError
        If crops have another size in pixels or µm than the model was trained on, a section's panel is known by less than
        ``min_coverage``, or there is nothing in a section that the model could use: in any, or, unless ``every_section``, in all.
    """
    check_levels(corpus.levels, model.config, corpus=corpus.path)
    found, blank = [], []
    for section in sections:
        coverage = _coverage(section, model)
        found.append(coverage)
        if "genes" in use and coverage.share < min_coverage:
            raise ModelError(
                f"{section.path}: the model knows {coverage.n_known_genes:,} of the {coverage.n_genes:,} genes of the panel "
                f"({coverage.share:.0%}); expected at least {min_coverage:.0%}. Its embedding would rest on the few that are known. "
                "Fine-tune it on this corpus (`spatia train --from MODEL`), or lower --min-coverage knowingly."
            )
        if not ("genes" in use and coverage.n_known_genes) and not ("image" in use and coverage.channels):
            blank.append(section)
        if "image" in use and coverage.unknown_channels:
            logger.warning(
                "%s: channels that the model does not know are left out: %s",
                section.sample,
                ", ".join(coverage.unknown_channels),
            )
        if "genes" in use and coverage.share < 1:
            logger.warning(
                "%s: %s of %s genes are not known to the model and are left out",
                section.sample, f"{coverage.n_genes - coverage.n_known_genes:,}", f"{coverage.n_genes:,}",
            )  # fmt: skip
    if blank and (every_section or len(blank) == len(found)):
        raise ModelError(
            f"{blank[0].path}: nothing that the model could use: asked for {', '.join(use)}, the section's channels are "
            f"{', '.join(blank[0].entry.channels) or 'none'}, the model's {', '.join(model.vocabulary.channels) or 'none'}."
        )
    return found


def _coverage(section: Section, model: Spatia) -> Coverage:
    genes = [str(gene) for gene in section.cells.var().index]
    known = set(model.vocabulary.genes)
    channels = section.entry.channels
    has_image = section.cells.has("obsm/single_cell_images")
    return Coverage(
        sample=section.sample,
        n_genes=len(genes),
        n_known_genes=sum(gene in known for gene in genes),
        channels=tuple(c for c in channels if c in model.vocabulary.channels) if has_image else (),
        unknown_channels=tuple(c for c in channels if c not in model.vocabulary.channels),
    )
