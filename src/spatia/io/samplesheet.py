"""Many sections in one call: a CSV with one row per section, and a name for a section given by its path alone."""

import csv
import dataclasses
import difflib
import math
import re
from pathlib import Path
from typing import Any

from spatia.errors import SlideError
from spatia.io.source import PATH_FACTS, Source
from spatia.log import logger

_PATHS = ("path", "counts", "image", "outlines", "labels")
_TEXT = ("platform", "donor", "tissue", "disease", "organism")
_ORIGIN = ("image_origin_x_um", "image_origin_y_um")
_OTHERS = ("sample", "um_per_px", "channels", "measure", "no_image", *_ORIGIN)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*$")
_SELECTING = ("bin", "z_index", "only", "cells", "table_element", "image_element", "shapes_element")
_MISSING = ("na", "n/a", "nan", "null")  # how tables of other programs write that a text is not known


def read_samplesheet(path: Path) -> list[Source]:
    """Read a samplesheet: one :class:`Source` per row; relative paths are relative to the sheet.

    Columns are the fields of `Source` (`channels` separated by ``;``, `image_origin_x_um` and `image_origin_y_um` for its
    origin); every other column is kept in ``facts``.

    Raises
    ------
    SlideError
        If the sheet is missing or empty, a sample is named twice, one slide stands in two rows, or a value cannot be
        understood; the message names the line and the column.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SlideError(f"{path}: not a readable samplesheet ({error}). Expected a CSV in UTF-8.") from error
    lines = csv.reader(text.splitlines())
    header = [name.strip() for name in next(lines, [])]
    if "sample" not in header or not {"path", "counts"} & set(header):
        raise SlideError(f"{path}: line 1: columns {header}; expected at least 'sample' and one of 'path', 'counts'.")
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise SlideError(f"{path}: line 1: the columns {repeated} occur twice; expected each once.")
    _warn_of_misspelt(header, path)
    sources: dict[int, Source] = {}  # by line
    for line, cells in enumerate(lines, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise SlideError(
                f"{path}: line {line}: {len(cells)} values; expected {len(header)}, one per column of line 1."
            )
        sources[line] = _source(dict(zip(header, (cell.strip() for cell in cells), strict=True)), path, line)
    if not sources:
        raise SlideError(f"{path}: no section in it; expected one row per section below the header.")
    _require_different(sources, path)
    return list(sources.values())


def check_sample_name(name: str, where: str) -> str:
    """Return the name if it can name a folder of a corpus.

    Raises
    ------
    SlideError
        If it is empty, too long, or holds anything but letters, digits, ``.``, ``_``, ``-``.
    """
    if not _NAME.match(name) or len(name) > 100:
        raise SlideError(
            f"{where}: {name!r} cannot name a sample. Expected up to 100 letters, digits, '.', '_' or '-', the first a letter "
            "or digit."
        )
    return name


def _warn_of_misspelt(header: list[str], sheet: Path) -> None:
    """Warn of columns that are kept as facts and look like one that is read."""
    known = {"sample", *_PATHS, *_TEXT, *_OTHERS}
    for name in header:
        if (
            name
            and name not in known
            and (near := difflib.get_close_matches(name.lower(), sorted(known), n=1, cutoff=0.8))
        ):
            logger.warning("%s: column %r is kept as a fact; did you mean %r?", sheet, name, near[0])


def _require_different(sources: dict[int, Source], sheet: Path) -> None:
    """Refuse a name or a slide that two lines share."""
    line_of_name: dict[str, int] = {}
    line_of_slide: dict[tuple[Any, ...], int] = {}
    for line, source in sources.items():
        if line_of_name.setdefault(source.sample, line) != line:
            raise SlideError(
                f"{sheet}: line {line}: sample {source.sample!r} is named twice; expected one row per section."
            )
        if (first := line_of_slide.setdefault(_what_is_read(source), line)) != line:
            raise SlideError(
                f"{sheet}: lines {first} and {line}: {sources[first].sample!r} and {source.sample!r} are one slide, {source.where}; "
                "expected one row per slide, as the same cells under two names would be trained on and held out. Remove one of the rows "
                f"or correct its path; where the slide holds several sections, say which in a column ({', '.join(_SELECTING)})."
            )


def _what_is_read(source: Source) -> tuple[Any, ...]:
    """Return what two rows share if they are the same slide: its files, and the facts that choose among what is in them."""
    files = (None if file is None else file.resolve() for file in (source.path, source.counts))
    return (*files, *(source.facts.get(name) for name in _SELECTING))


def _source(row: dict[str, str], sheet: Path, line: int) -> Source:
    where = f"{sheet}: line {line}, column"
    fields: dict[str, Any] = {"sample": check_sample_name(row["sample"], f"{where} 'sample'")}
    fields |= {name: sheet.parent / Path(row[name]).expanduser() for name in _PATHS if row.get(name)}
    fields |= {name: row[name] for name in _TEXT if row.get(name) and row[name].lower() not in _MISSING}
    if "path" not in fields and "counts" not in fields:
        raise SlideError(f"{where} 'path': empty, and so is 'counts'; expected the slide's folder or a file of counts.")
    if row.get("um_per_px"):
        fields["um_per_px"] = _number(row["um_per_px"], f"{where} 'um_per_px'", positive=True)
    if row.get("channels"):
        fields["channels"] = tuple(name.strip() for name in row["channels"].split(";"))
    if any(row.get(name) for name in _ORIGIN):
        fields["image_origin_um"] = tuple(_number(row.get(name) or "0", f"{where} {name!r}") for name in _ORIGIN)
    if row.get("measure"):
        fields["measure"] = _choice(
            row["measure"], {"counts": "counts", "intensity": "intensity"}, f"{where} 'measure'"
        )
    if row.get("no_image"):
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        fields["no_image"] = _choice(row["no_image"].lower(), words, f"{where} 'no_image'")
    known = {*_PATHS, *_TEXT, *_OTHERS}
    facts = {name: value for name, value in row.items() if name and name not in known and value}
    if "counts" in fields:  # of a vendor's folder, a column of that name may be anything
        facts |= {name: str(sheet.parent / Path(facts[name]).expanduser()) for name in PATH_FACTS if name in facts}
    fields["facts"] = facts
    return Source(**fields)


def _number(text: str, where: str, *, positive: bool = False) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (positive and value <= 0):
        raise SlideError(f"{where}: {text!r}; expected a {'positive ' if positive else ''}number.")
    return value


def _choice(text: str, options: dict[str, Any], where: str) -> Any:
    if text not in options:
        raise SlideError(f"{where}: {text!r}; expected one of {', '.join(options)}.")
    return options[text]


_UNLISTED = {field.name for field in dataclasses.fields(Source)} - {
    *_PATHS,
    *_TEXT,
    *_OTHERS,
    "image_origin_um",
    "facts",
}
if _UNLISTED:  # a new field of Source that the sheet would put among the facts without a word
    raise ImportError(f"samplesheet.py does not read the fields {sorted(_UNLISTED)} of Source")
