"""Permutation controls: a copy of a corpus in which one input says nothing about its cell any more.

A method that runs on the copy as on the original shows by the difference what that input gave it: nothing of the method needs
to be changed, and it may even learn that the input is empty. Rows are exchanged within each section, so composition, depth and
stain of a section stay.
"""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
import zarr
from numpy.typing import NDArray

from spatia import keys
from spatia.bench.choosing import choose
from spatia.bench.dataset import DataSet
from spatia.corpus.corpus import CORPUS_FILE, MANIFEST_FILE, Corpus, read_json
from spatia.corpus.files import sha256, whole_folder, write_json
from spatia.corpus.manifest import write_manifest
from spatia.corpus.scheduling import Scheduler
from spatia.corpus.store import array_in, subgroup
from spatia.errors import SettingsError

Control = Literal["images", "genes", "positions"]
CONTROLS: tuple[Control, ...] = get_args(Control)
_OF_CONTROL = re.compile(rf", ({'|'.join(CONTROLS)}) shuffled$")
# What a control cannot touch: means over all cells of a section stay when its cells are exchanged, and so does what genes tell of each other.
UNTOUCHED: dict[str, tuple[Control, ...]] = {"biomarker": CONTROLS, "imputation": ("genes",)}
_OF_PLACE = ("tissue", "niche", keys.SAMPLE)  # columns of obs that belong to the place, not to the cell
_OF_IMAGE = (keys.HAS_IMAGE, "image_share", "has_outline")


def control_of(data_name: str) -> Control | None:
    """Return what is shuffled in a data set, by its name; None: nothing.

    Examples
    --------
    >>> control_of("breast, genes shuffled"), control_of("breast")
    ('genes', None)
    """
    found = _OF_CONTROL.search(data_name)
    return cast(Control, found[1]) if found else None


def chosen_controls(names: Iterable[str]) -> list[Control]:
    """Return the controls of these names, each once; "all" for every one.

    Raises
    ------
    SettingsError
        If one is unknown.
    """
    return choose(dict.fromkeys(names), {name: name for name in CONTROLS}, "control")


def shuffled(data: DataSet, what: Control, folder: Path, seed: int = 0) -> DataSet:
    """Return a data set on a copy of the corpus with one input shuffled among the cells of each section.

    Parameters
    ----------
    what
        ``"images"``: crops, masks and measured morphology among cells, and pictures among niches and among tissue windows.
        ``"genes"``: counts of cells; sums over niches and windows, which no method reads, stay.
        ``"positions"``: whole cells, with their labels, change places, so that neighbours are strangers. Pictures of niches and
        windows belong to the place and stay: they show what stood there, to a cell that did not. Crops then overlap with those of
        cells that now stand elsewhere, and are parts of the pictures there, so a method that reads pixels may gain from a few
        shared ones.
    folder
        Where copies lie; made once for each corpus.

    Raises
    ------
    SettingsError
        If there is no image to shuffle.
    """
    corpus = Corpus.open(data.corpus)
    if what == "images" and not corpus.channels:
        raise SettingsError(f"{data.corpus}: no image to shuffle.")
    # two corpora may have one name, and one may be built anew under its name
    copy = folder / f"{data.corpus.name}-{corpus.corpus_id[:8]}-{what}-{seed}"
    if not copy.exists():
        with whole_folder(copy) as aside:
            shutil.copytree(corpus.path, aside, dirs_exist_ok=True)
            for number, sample in enumerate(corpus.sections):
                _shuffle_section(aside, sample, what, np.random.default_rng([seed, number]))
    return data.model_copy(update={"name": f"{data.name}, {what} shuffled", "corpus": copy})


def _shuffle_section(corpus: Path, sample: str, what: Control, rng: np.random.Generator) -> None:
    section = corpus / "sections" / sample
    store = section / keys.STORES["cell"]
    with zarr.config.set({"threading.max_workers": 2}):
        root = zarr.open_group(store, mode="r+", use_consolidated=False)
        n = array_in(root, f"obsm/{keys.SPATIAL}").shape[0]
        order = rng.permutation(n)
        if what in ("genes", "positions"):
            _take_csr_rows(root, order)
        if what in ("images", "positions"):
            for name, element in subgroup(root, "obsm").members():
                if name != keys.SPATIAL:
                    _take_rows(element, order)
        for name, element in subgroup(root, "obs").members():
            image, place = name in _OF_IMAGE, name in _OF_PLACE
            mine = {"images": image, "genes": name == "n_counts", "positions": not place}[what]
            if mine:
                _take_rows(element, order)
        if what == "images":
            for level in ("niche", "tissue"):
                _shuffle_pictures(section / keys.STORES[level], rng)
    write_manifest(section, Scheduler(n_workers=1))
    content = read_json(corpus / CORPUS_FILE)
    content["sections"][sample]["manifest_sha256"] = sha256(section / MANIFEST_FILE)
    write_json(corpus / CORPUS_FILE, content)


def _shuffle_pictures(store: Path, rng: np.random.Generator) -> None:
    """Exchange the pictures of niches or of tissue windows, and what is said of them."""
    root = zarr.open_group(store, mode="r+", use_consolidated=False)
    pictures = dict(subgroup(root, "obsm").members()).get(keys.IMAGES)
    if pictures is None:  # a section without an image, beside others that have one
        return
    order = rng.permutation(array_in(root, f"obsm/{keys.IMAGES}").shape[0])
    _take_rows(pictures, order)
    for name, element in subgroup(root, "obs").members():
        if name in _OF_IMAGE:
            _take_rows(element, order)


def _take_rows(element: zarr.Array | zarr.Group, order: NDArray[np.int64]) -> None:
    """Reorder the rows of an array, or of every column of a table; the categories of a categorical are no rows."""
    if isinstance(element, zarr.Array):
        if element.shape and element.shape[0] == len(order):
            element[:] = np.asarray(element[:])[order]
        return
    encoding = element.attrs.get("encoding-type")
    for name, child in element.members():
        if not (encoding == "categorical" and name == "categories"):
            _take_rows(child, order)


def _take_csr_rows(root: zarr.Group, order: NDArray[np.int64]) -> None:
    arrays = {name: array_in(root, f"X/{name}") for name in ("indptr", "indices", "data")}
    indptr, indices, data = (np.asarray(array[:]) for array in arrays.values())
    length = np.diff(indptr)[order]
    take = np.repeat(indptr[order] - np.r_[0, np.cumsum(length)[:-1]], length) + np.arange(length.sum())
    arrays["indices"][:], arrays["data"][:] = indices[take], data[take]
    arrays["indptr"][:] = np.r_[0, np.cumsum(length)].astype(indptr.dtype)
