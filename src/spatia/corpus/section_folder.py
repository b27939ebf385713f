"""Where a section lies while it is built, and how it comes to its place: at no moment is there half of one."""

import shutil
from pathlib import Path

from spatia.corpus.files import put_in_place


def building_folder(place: Path) -> Path:
    """Return the folder beside ``place`` (``sections/<sample>``) in which the section is built."""
    return place.with_name(f".{place.name}.building")


def put_section_in_place(place: Path) -> None:
    """Rename a finished section to its place, that of an older one, and remove what only its build needed."""
    put_in_place(building_folder(place) / "section", place)
    remove_leftovers(place)


def remove_leftovers(place: Path) -> None:
    """Remove what only the build of a section needed; a build killed at its very end has left it."""
    for left in (building_folder(place), place.with_name(f".{place.name}.old")):
        shutil.rmtree(left, ignore_errors=True)
