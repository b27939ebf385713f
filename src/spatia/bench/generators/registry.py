"""The generators by name: one line for each."""

from spatia.bench.generators import (
    cellflux,
    class_conditional,
    copy_control,
    diffusers_unet,
    mean_image,
    nearest_cell,
    noise_flow,
    ours,
    random_cell,
)
from spatia.bench.generators.generator import Generator

_ALL = (
    copy_control.COPY_CONTROL,
    mean_image.MEAN_IMAGE,
    random_cell.RANDOM_CELL,
    random_cell.RANDOM_OF_TYPE,
    nearest_cell.NEAREST_CELL,
    class_conditional.CLASS_CONDITIONAL,
    cellflux.CELLFLUX,
    noise_flow.NOISE_FLOW,
    diffusers_unet.DIFFUSERS_UNET,
    ours.OURS,
    ours.OURS_SHUFFLED,
    ours.OURS_CHOSEN,
    ours.OURS_FROM_REAL,
    ours.OURS_FROM_REAL_SHUFFLED,
    ours.OURS_UNALIGNED,
    ours.OURS_FLOW,
    ours.OURS_FROM_EXPRESSION,
    ours.OURS_WRONG_PARTNERS,
)
GENERATORS: dict[str, Generator] = {generator.name: generator for generator in _ALL}
