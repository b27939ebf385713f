"""Every refusal is a SpatiaError, so that the command line exits with 2 and never with a traceback."""

import inspect

import pytest

from spatia import errors


def test_every_error_is_a_spatia_error() -> None:
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    assert len(classes) > 1
    assert all(issubclass(kind, errors.SpatiaError) for kind in classes)


def test_errors_are_not_caught_as_programming_mistakes() -> None:
    with pytest.raises(errors.SpatiaError, match=r"cells\.zarr"):
        raise errors.CorpusError("c/sections/a/cells.zarr: missing")
    assert not issubclass(errors.SpatiaError, (ValueError, OSError, RuntimeError))
