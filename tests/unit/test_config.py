"""Wrong settings give one sentence that names each, what was found and what was expected."""

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from spatia.config import make_settings
from spatia.errors import SettingsError


class Level(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    size_um: float = Field(27.2, gt=0)


class Build(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    n_cells: int = Field(100, ge=50)
    level: Level = Level()

    @model_validator(mode="after")
    def _even(self) -> "Build":
        if self.n_cells % 2:
            raise ValueError("n_cells must be even")
        return self


def test_values_arrive() -> None:
    settings = make_settings(Build, {"n_cells": 60, "level": {"size_um": 54.4}}, where="here")
    assert settings == Build(n_cells=60, level=Level(size_um=54.4))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_cells": 3}, r"^here: n_cells is 3: input should be greater than or equal to 50\.$"),
        ({"n_cells": 61}, r"^here: n_cells must be even\.$"),
        ({"n_cell": 60}, r"unknown setting 'n_cell', did you mean 'n_cells'\?"),
        ({"colour": 1}, r"unknown setting 'colour', known: n_cells, level"),
        ({"level": {"size": 1.0}}, r"unknown setting 'level\.size', did you mean 'size_um'\?"),
        ({"level": {"size_um": -1}}, r"level\.size_um is -1: input should be greater than 0"),
        ({"n_cells": "many", "colour": 1}, r"n_cells is 'many': .*; unknown setting 'colour'"),
    ],
)
def test_each_wrong_setting_is_named(values: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make_settings(Build, values, where="here")
