"""The public protocols by name: one line for each, and how a user names one with its folder."""

from pathlib import Path

from spatia.bench.public.bcnb import BCNB
from spatia.bench.public.gse155468 import GSE155468
from spatia.bench.public.hest import HEST
from spatia.bench.public.protocol import PublicProtocol
from spatia.bench.public.spatch import SPATCH
from spatia.errors import SettingsError

PUBLIC: dict[str, PublicProtocol] = {one.name: one for one in (HEST, GSE155468, SPATCH, BCNB)}


def read_public(text: str) -> tuple[PublicProtocol, Path]:
    """Read ``NAME=FOLDER`` as the command line gives it.

    Raises
    ------
    SettingsError
        If there is no ``=``, or the name is unknown; the message lists the names and what each needs.

    Examples
    --------
    >>> protocol, folder = read_public("hest=data/hest-bench")
    >>> protocol.name, str(folder)
    ('hest', 'data/hest-bench')
    """
    name, equals, folder = text.partition("=")
    if not equals or not folder or name.strip() not in PUBLIC:
        what = (
            f"Unknown public protocol {name.strip()!r}" if equals and folder else f"--public {text!r} names no folder"
        )
        raise SettingsError(
            f"{what}. Expected NAME=FOLDER, the name one of {', '.join(PUBLIC)}. `--public list` says more."
        )
    return PUBLIC[name.strip()], Path(folder).expanduser()


def public_text() -> str:
    """Return what each protocol asks, what to download and how the folder must look."""
    parts = [
        f"{one.name}: {one.question}.\n  download: {one.download}\n  layout: {one.layout}\n  source: {one.source}."
        for one in PUBLIC.values()
    ]
    return "\n\n".join(parts) + "\n"
