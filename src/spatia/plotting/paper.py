"""The look that the figures of a report share: sizes, type, colours, scale bars.

Figures are drawn without pyplot, so no global state changes, and names from a slide are never read as mathematics.
"""

import colorsys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spatia.plotting.palette import COLOUR_BLIND_SAFE, NO_VALUE, colours_of

Floats = NDArray[np.float64]
INK: Final = "#1f2430"
MUTED: Final = "#687080"
FAINT: Final = NO_VALUE
OURS: Final = "#0b62a8"
OTHER: Final = "#8a93a3"
DPI: Final = 140

# From a grey that is still seen on white to a dark blue: a cell without the gene is shown, not left out.
AMOUNT: Final[Colormap] = LinearSegmentedColormap.from_list(
    "amount", ["#dfe3e8", "#9fc5e0", "#4f97c9", "#2a5ba8", "#2b1f63"]
)
STYLE: Final = {
    "font.size": 9,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so the same figure is drawn everywhere
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
}


def drawing() -> AbstractContextManager[None]:
    """Return the context in which figures of this look are drawn."""
    return mpl.rc_context(STYLE)  # type: ignore[arg-type]  # the stubs list every parameter's name as a literal


def new_figure(width: float, height: float) -> Figure:
    """Return a white figure of ``width`` × ``height`` inches, to be used inside :func:`drawing`."""
    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write the PNG; equal figures give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    return path


def category_colours(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for each name: the palette, and beyond its end evenly spaced hues.

    Examples
    --------
    >>> len(set(category_colours([str(i) for i in range(45)]).values()))
    45
    """
    if len(names) <= len(COLOUR_BLIND_SAFE):
        return colours_of(names)
    shades = ((0.55, 0.75), (0.38, 0.6), (0.7, 0.5))
    colours = []
    for i in range(len(names)):
        lightness, saturation = shades[i % len(shades)]
        colours.append(mpl.colors.to_hex(colorsys.hls_to_rgb(i / len(names), lightness, saturation)))
    return dict(zip(names, colours, strict=True))


def dot_size(n: int, panel_in2: float) -> float:
    """Return the marker area (points²) at which ``n`` dots fill a third of a panel of so many square inches."""
    return float(np.clip(0.33 * 72**2 * panel_in2 / max(n, 1), 0.4, 60.0))


def plain(text: str, longest: int = 28) -> str:
    """Return a name as matplotlib can draw it: printable, one line, not too long."""
    shown = "".join(sign if sign.isprintable() and ord(sign) < 0x2C00 else "?" for sign in str(text))
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def title(ax: Axes, text: str) -> None:
    """Set a title that is never read as mathematics."""
    ax.set_title(text, parse_math=False)


def label_ticks(ax: Axes, axis: str, names: Sequence[str], *, longest: int = 28, **style: object) -> None:
    """Name the places 0, 1, … of an axis ("x" or "y")."""
    of_axis = ax.xaxis if axis == "x" else ax.yaxis
    of_axis.set_ticks(range(len(names)), [plain(name, longest) for name in names])
    for tick in of_axis.get_ticklabels():
        tick.set_parse_math(False)
        tick.set(**style)


def map_axes(ax: Axes, position_um: Floats) -> None:
    """Make an axis a map: equal scales, y down, no ticks, a scale bar below."""
    (x0, y0), (x1, y1) = position_um.min(axis=0), position_um.max(axis=0)
    pad = 0.02 * max(x1 - x0, y1 - y0, 1.0)
    ax.set(xlim=(x0 - pad, x1 + pad), ylim=(y1 + pad, y0 - pad), xticks=[], yticks=[], aspect="equal")
    for spine in ax.spines.values():
        spine.set_visible(False)
    nice = [step * 10**power for power in range(5) for step in (1, 2, 5)]
    length = max((value for value in nice if value <= (x1 - x0 + 2 * pad) / 4), default=1)
    share = length / (x1 - x0 + 2 * pad)
    ax.plot(
        [0, share], [-0.015, -0.015], transform=ax.transAxes, color=INK, lw=2.5, clip_on=False, solid_capstyle="butt"
    )
    ax.text(share + 0.012, -0.015, f"{length:g} µm", transform=ax.transAxes, va="center", fontsize=8, color=MUTED)


def map_shape(position_um: Floats, least: float = 0.45, most: float = 1.6) -> float:
    """Return height over width of a map, within bounds that fit a page."""
    extent = np.ptp(position_um, axis=0)
    return float(np.clip(extent[1] / max(extent[0], 1e-9), least, most))


def shuffled(n: int) -> NDArray[np.int64]:
    """Return a fixed random order of rows, so that no group is drawn wholly over another."""
    return np.random.default_rng(0).permutation(n)
