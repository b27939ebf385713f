"""Map a channel's raw values to uint8 and back: one linear map a section and channel, stored with the section."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class IntensityMap:
    """``value = round(255 · clip((raw − low) / (high − low), 0, 1))``.

    Invertible up to the quantisation of (high − low) / 255 raw units inside [low, high]; what lies outside is clipped.
    """

    low: float
    high: float
    method: str = "identity"

    def table(self, dtype: np.dtype) -> NDArray[np.uint8]:
        """Return the look-up table over all values of an unsigned integer ``dtype``."""
        return self.apply(np.arange(np.iinfo(dtype).max + 1))

    def apply(self, raw: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Map raw values to uint8."""
        span = max(self.high - self.low, 1e-12)
        return np.rint(255 * np.clip((raw.astype(np.float64) - self.low) / span, 0, 1)).astype(np.uint8)

    def invert(self, value: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Map uint8 back to raw units.

        Examples
        --------
        >>> intensity = IntensityMap(low=100, high=610)
        >>> intensity.invert(intensity.apply(np.array([100, 300, 610]))).tolist()
        [100.0, 300.0, 610.0]
        """
        return self.low + value.astype(np.float64) / 255 * (self.high - self.low)

    def to_json(self) -> dict[str, float | str]:
        """Return the fields as JSON values."""
        return asdict(self)


IDENTITY_UINT8 = IntensityMap(0.0, 255.0)  # stained (RGB) images: a stretch per channel would change their colour


def map_from_histogram(histogram: NDArray[np.int64], low_percent: float, high_percent: float) -> IntensityMap:
    """Return the map between two percentiles of a channel.

    Parameters
    ----------
    histogram
        Number of pixels of each raw value 0, 1, 2 …. Value 0 is left out: it is the padding outside the scanned region.
    low_percent, high_percent
        Percentiles in [0, 100].
    """
    counts = histogram.copy()
    counts[0] = 0
    total = counts.sum()
    if total == 0:
        return IntensityMap(0.0, 1.0, "empty channel")
    cumulative = np.cumsum(counts)
    low, high = (
        float(np.searchsorted(cumulative, max(1, np.ceil(total * percent / 100))))
        for percent in (low_percent, high_percent)
    )
    return IntensityMap(low, max(high, low + 1), f"percentiles {low_percent}-{high_percent} of non-zero pixels")
