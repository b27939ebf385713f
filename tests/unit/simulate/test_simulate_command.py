"""``spatia simulate`` on the command line."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from spatia.cli.simulate import simulate
from spatia.errors import SettingsError

app = typer.Typer()
app.command()(simulate)
SMALL = ["--cells", "80", "--um-per-px", "0.85"]


def test_it_prints_the_folder_and_writes_the_counterfactual(tmp_path: Path) -> None:
    arguments = [str(tmp_path / "a"), *SMALL, "--counterfactual", "hypoxia", "--counterfactual-cells", "3"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(tmp_path / "a")
    assert (tmp_path / "a" / "truth" / "counterfactual_hypoxia_0_to_1.h5ad").is_file()


def test_json_lists_the_slides_and_settings(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path / "b"), *SMALL, "--sections", "2", "--json"])
    content = json.loads(result.stdout)
    assert content["slides"] == [str(tmp_path / "b" / f"section_{k}") for k in (1, 2)]
    assert content["settings"]["n_cells"] == 80


@pytest.mark.parametrize("wrong", [["--cells", "3"], ["--codec", "gif"], ["--counterfactual", "anger"]])
def test_settings_out_of_range_are_refused(tmp_path: Path, wrong: list[str]) -> None:
    result = CliRunner().invoke(app, [str(tmp_path / "c"), *SMALL, *wrong])
    assert isinstance(result.exception, SettingsError)
    assert not (tmp_path / "c").exists()
