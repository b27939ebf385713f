"""What the end of an epoch says of a stage."""

from dataclasses import asdict, dataclass
from typing import Any

from spatia.metrics.collapse import Spread


@dataclass
class Best:
    """The best epoch so far, by validation loss."""

    loss: float | None = None
    epoch: int = 0
    stale: int = 0  # epochs since


@dataclass(frozen=True)
class Validation:
    """The end of an epoch: losses of the averaged weights on validation data, where there are any, and their spread."""

    loss: float | None
    terms: dict[str, float | None]
    spread: Spread | None

    def facts(self) -> dict[str, Any]:
        """Return the fields of a log line."""
        spread = {} if self.spread is None else {**asdict(self.spread), "share": self.spread.share}
        return {"loss": self.loss, "terms": self.terms, **spread}
