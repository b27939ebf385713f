"""Where a section lies while it is built, and how it comes to its place: at no moment is there half of one."""

import shutil
from pathlib import Path


def building_folder(place: Path) -> Path:
    """Return the folder beside ``place`` (``sections/<sample>``) in which the section is built."""
    return place.with_name(f".{place.name}.building")


def put_in_place(place: Path) -> None:
    """Rename a finished section to its place and remove what only its build needed.

    An older section there goes aside first and is removed last, so that at no moment both are gone.
    """
    old = _aside(place)
    if old.exists():
        shutil.rmtree(old)
    if place.exists():
        place.replace(old)
    (building_folder(place) / "section").replace(place)
    remove_leftovers(place)


def remove_leftovers(place: Path) -> None:
    """Remove what only the build of a section needed; a build killed at its very end has left it."""
    for left in (building_folder(place), _aside(place)):
        shutil.rmtree(left, ignore_errors=True)


def _aside(place: Path) -> Path:
    return place.with_name(f".{place.name}.old")
