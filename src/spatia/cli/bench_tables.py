"""Methods that are tables of embeddings: what ``--embeddings NAME=TABLE`` says of one, and what its files were."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final

import pandas as pd

from spatia.bench.dataset import DataSet
from spatia.bench.method_record import Named, is_made_of, keep_what_names_are, of_files, standing_values
from spatia.bench.methods.method import BOTH, GENES, IMAGE, Method, Modality
from spatia.bench.permute import control_of
from spatia.bench.published.embeddings_file import embeddings_method, require_table
from spatia.bench.split_tables import of_each_split, table_of
from spatia.errors import SettingsError

OPTION: Final = "--embeddings"
ZERO_SHOT: Final = "zero-shot"
_VIEWS: Final = {"image": IMAGE, "genes": GENES}


@dataclass(frozen=True)
class GivenTable:
    """A table of embeddings, or one of each split.

    Attributes
    ----------
    name
        As tables of results show it: with what is said of it after colons.
    about
        The same without what was said.
    path
        Of the table; ``{data}`` and ``{seed}`` in it: of each split its own.
    reads
        What it was computed from.
    zero_shot
        Whether nothing of it was fitted on the slides.
    """

    name: str
    about: str
    path: Path
    reads: frozenset[Modality]
    zero_shot: bool

    @classmethod
    def parse(cls, text: str) -> "GivenTable":
        """Read ``NAME[:image|:genes][:zero-shot]=TABLE``.

        Raises
        ------
        SettingsError
            Saying what may stand there.
        """
        name, _, path = text.partition("=")
        if not (name and path):
            raise SettingsError(f"{OPTION} {text!r}: expected NAME=PATH.")
        about, words = name, list[str]()
        while about.rpartition(":")[0] and about.rpartition(":")[2] in (*_VIEWS, ZERO_SHOT):
            about, _, word = about.rpartition(":")
            words.append(word)
        views = [word for word in words if word in _VIEWS]
        if len(views) > 1 or (":" in about and not words):
            raise SettingsError(
                f"{OPTION} {text!r}: after the colon stands what it was computed from, image or genes (both: neither), and zero-shot where "
                "nothing of it was fitted on these slides."
            )
        return cls(name, about, Path(path), _VIEWS[views[0]] if views else BOTH, ZERO_SHOT in words)

    def method(self) -> Method:
        """Return the method that reads it."""
        return embeddings_method(self.name, self.path, self.reads, zero_shot=self.zero_shot)

    def named(self, out: Path, rows: pd.DataFrame, units: Iterable[tuple[DataSet, int]]) -> list[Named]:
        """Return what the name stands for, of each split where each has a table.

        Raises
        ------
        ModelError
            If a table is not there: before anything is run, not after an hour of the others.
        """
        remedy = "Give the table another name"
        if not of_each_split(self.path):
            return [of_files(self.name, self.path, out, rows, remedy)]
        bound = any(is_made_of(method, self.name) for method in rows["method"].unique())
        found = [Named(self.name, {"files": "one for each split"}, str(self.path), remedy, bound)]
        for data, seed in units:
            if control_of(data.name) is None:
                table = table_of(self.path, data.name, seed)
                require_table(table)
                own = rows[(rows["data"] == data.name) & (rows["seed"] == seed)]
                found.append(of_files(self.name, table, out, own, remedy, of=f"{data.name}, seed {seed}"))
        return found


def methods_of_tables(tables: Sequence[GivenTable]) -> list[Method]:
    """Return a method for each table, and one for each pair of tables of one name, of images and of genes: retrieval needs both."""
    methods = [table.method() for table in tables]
    by_name = dict(zip(tables, methods, strict=True))
    for one, other in combinations(tables, 2):
        if one.about == other.about and {one.reads, other.reads} == {IMAGE, GENES}:
            image, genes = (one, other) if one.reads == IMAGE else (other, one)
            methods.append(
                Method(
                    f"{image.name} + {genes.name}",
                    BOTH,
                    None,
                    f"embeddings of {image.path.name} and {genes.path.name}",
                    image_side=by_name[image].embed,
                    genes_side=by_name[genes].embed,
                )
            )
    return methods


def keep_what_tables_are(out: Path, tables: Sequence[GivenTable], units: Sequence[tuple[DataSet, int]]) -> None:
    """Write the tables by a digest.

    Raises
    ------
    SettingsError
        If rows of one stand in ``out`` that were made of another table.
    ModelError
        If one is not there.
    """
    rows = standing_values(out)
    keep_what_names_are(out, [named for table in tables for named in table.named(out, rows, units)])
