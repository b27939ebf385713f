"""Read what others published without running it, and put tensors into a module so that each is accounted for.

Weights are safetensors, or files of ``torch.save`` read by torch's weights-only reader, which builds tensors and plain
containers and refuses everything else. Dictionaries are JSON, parquet, or a pickle read by `_Plain`, which knows numbers and text.
"""

import pickle
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from spatia.corpus import files
from spatia.errors import ModelError
from spatia.models.checkpoint import read_tensors

NAMED: Final = 8  # tensors of each kind that an error names


def read_checkpoint(path: Path, *, allowed: Iterable[type] = ()) -> Mapping[str, Any]:
    """Read a file of weights: safetensors by its suffix, else what ``torch.save`` wrote.

    Parameters
    ----------
    allowed
        Classes beyond tensors and containers that the file may hold; they must be harmless to build.

    Raises
    ------
    ModelError
        If it cannot be read, or holds objects that would run code.
    """
    if path.suffix == ".safetensors":
        return read_tensors(path)
    try:
        with torch.serialization.safe_globals(list(allowed)):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        raise ModelError(
            f"{path}: cannot be read as tensors alone ({str(error).splitlines()[0]:.200}). A file with other objects in it could "
            "run code: where you trust it, save its tensors with safetensors.torch.save_file under the same names."
        ) from error
    if not isinstance(content, Mapping):
        raise ModelError(f"{path}: holds a {type(content).__name__}; expected tensors by name.")
    return content


def tensors_of(content: Mapping[str, Any], where: str, strip: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Return the tensors by name, without the prefixes that wrappers added to every name.

    Raises
    ------
    ModelError
        If something else than a tensor is among them.
    """
    found = {}
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise ModelError(f"{where}: {name!r} is a {type(value).__name__}; expected tensors alone.")
        for prefix in strip:
            name = name.removeprefix(prefix)
        found[name] = value
    return found


def load_strictly(
    module: nn.Module, tensors: Mapping[str, Tensor], where: str, *, left_out: tuple[str, ...] = ()
) -> nn.Module:
    """Put tensors into a module, as float32 in evaluation mode.

    Parameters
    ----------
    module
        May be on the ``meta`` device: it takes the tensors as they are.
    left_out
        Tensors known to be of no use for an embedding (decoders, training heads), by name, or by a prefix that ends with a dot;
        they may be there or not.

    Raises
    ------
    ModelError
        Naming tensors that are missing, that the architecture does not have, of another shape, or not finite.
    """
    own = module.state_dict()
    prefixes = tuple(name for name in left_out if name.endswith("."))
    given = {name: one for name, one in tensors.items() if name not in left_out and not name.startswith(prefixes)}
    shapes = {
        name: f"{name} {tuple(given[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own.keys() & given.keys()
        if given[name].shape != own[name].shape
    }
    said = [
        f"{len(names)} {what}: {', '.join(sorted(names)[:NAMED])}{', …' if len(names) > NAMED else ''}"
        for what, names in (
            ("missing", own.keys() - given.keys()),
            ("unknown", given.keys() - own.keys()),
            ("of another shape", shapes.values()),
        )
        if names
    ]
    if said:
        raise ModelError(f"{where}: not the tensors of this architecture ({len(own)} expected). {'; '.join(said)}.")
    for name, value in given.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ModelError(f"{where}: {name} holds NaN or infinite numbers. Download it again.")
    taken = {name: value.float() if value.is_floating_point() else value for name, value in given.items()}
    module.load_state_dict(taken, strict=True, assign=True)
    return module.requires_grad_(False).eval()


def on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    """Build a module without memory or random numbers, for `load_strictly` to fill."""
    with torch.device("meta"):
        return make()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that comes with weights."""
    return files.read_json(path, ModelError)


def shape_of(tensors: Mapping[str, Tensor], name: str, where: str, dims: int = 2) -> tuple[int, ...]:
    """Return the shape of a tensor that tells the sizes of a model whose folder has no settings.

    Raises
    ------
    ModelError
        If it is not there, or has another number of dimensions.
    """
    if name not in tensors or tensors[name].ndim != dims:
        found = f"{tuple(tensors[name].shape)}" if name in tensors else f"none among {len(tensors)} tensors"
        raise ModelError(f"{where}: expected {name} of {dims} dimensions, found {found}.")
    return tuple(tensors[name].shape)


def n_layers(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """Return how many numbered layers stand behind a prefix: one more than the largest number."""
    numbers = [name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)]
    return 1 + max((int(number) for number in numbers if number.isdigit()), default=-1)


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a dictionary of text to numbers or text: JSON, parquet of two columns, or a pickle of nothing else.

    Raises
    ------
    ModelError
        If it is damaged, or if the pickle holds anything but built-in values and numpy's numbers.
    """
    if path.suffix == ".json":
        return read_json(path)
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
            if table.shape[1] != 2:
                raise ModelError(f"{path}: {table.shape[1]} columns; expected two, names and values.")
            return dict(zip(table.iloc[:, 0].astype(str), table.iloc[:, 1].tolist(), strict=True))
        with path.open("rb") as file:
            content = _Plain(file).load()
    except (OSError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise ModelError(f"{path}: cannot be read ({error}).") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: holds a {type(content).__name__}; expected a dictionary.")
    return {str(name): value for name, value in content.items()}


class _Plain(pickle.Unpickler):
    """An unpickler that builds plain values: it looks no class up but the makers of numpy's numbers."""

    KNOWN: Final[dict[tuple[str, str], Any]] = {
        **{
            (module, "scalar"): np._core.multiarray.scalar
            for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        },
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): lambda text, how="latin1": text.encode("latin1") if how == "latin1" else _refuse(how),
    }

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)

    def find_class(self, module: str, name: str) -> Any:
        """Return a known maker; everything else is refused, by name."""
        if (module, name) in self.KNOWN:
            return self.KNOWN[module, name]
        return _refuse(f"{module}.{name}")


def _refuse(name: str) -> Any:
    raise pickle.UnpicklingError(f"it asks for {name}, which could run code; save the dictionary as JSON")
