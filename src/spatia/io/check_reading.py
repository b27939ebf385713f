"""Turn what a damaged file raises while it is read lazily into one clear error."""

from collections.abc import Iterator
from contextlib import contextmanager

from spatia.errors import SlideError, SpatiaError


@contextmanager
def reading(part: str) -> Iterator[None]:
    """Around the reading of lazy data: whatever a decoder raises on damaged bytes becomes a :class:`SlideError`.

    Decoders raise anything from ``zlib.error`` to ``struct.error`` and their own classes, hence the broad clause. Only
    calls that read belong inside; the original error stays attached as the cause.

    Examples
    --------
    >>> with reading("the image"):
    ...     raise EOFError("end of file")
    Traceback (most recent call last):
    ...
    spatia.errors.SlideError: the image cannot be read: EOFError: end of file. Expected an undamaged file; copy it again.
    """
    try:
        yield
    except (SpatiaError, MemoryError):
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0][:300].rstrip(".")
        raise SlideError(f"{part} cannot be read: {what}. Expected an undamaged file; copy it again.") from error
