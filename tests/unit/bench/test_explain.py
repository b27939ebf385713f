"""Every task has a page, every page the same headings, and what a page points at is there."""

import re
from pathlib import Path

import pytest

from spatia.bench.explain import HEADINGS, explain, page_name, pages
from spatia.bench.generators.generator import BOTH_TASKS
from spatia.bench.protocols.registry import TASKS
from spatia.errors import SettingsError

ROOT = Path(__file__).resolve().parents[3]


def _sections(page: str) -> dict[str, str]:
    parts = re.split(r"^## (.+)$", explain(page), flags=re.MULTILINE)
    return dict(zip(parts[1::2], map(str.strip, parts[2::2]), strict=True))


@pytest.mark.parametrize("task", sorted([*TASKS, *BOTH_TASKS]))
def test_every_task_has_a_page(task: str) -> None:
    assert explain(task).startswith("# ")


@pytest.mark.parametrize("page", pages())
def test_a_page_has_all_headings_and_something_below_each(page: str) -> None:
    sections = _sections(page)
    assert tuple(sections) == HEADINGS
    assert all(len(text) > 20 for text in sections.values())
    assert "\n\n" not in sections["Question"], "one line asks"
    assert re.search(r"^    (spatia|python benchmarks/\S+\.py) ", "\n" + explain(page), flags=re.MULTILINE)


@pytest.mark.parametrize("page", pages())
def test_the_tests_and_files_that_a_page_names_are_there(page: str) -> None:
    text = explain(page)
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text)
    assert named, "a guard is held by a test"
    for file, test in named:
        assert re.search(rf"^def {test}\(", (ROOT / file).read_text(), flags=re.MULTILINE), f"{file}::{test}"
    for module in re.findall(r"`(spatia(?:\.\w+)+)`", text):
        path = ROOT / "src" / Path(*module.split("."))
        found = path.with_suffix(".py").is_file() or path.is_dir() or path.parent.with_suffix(".py").is_file()
        assert found, module
    for script in re.findall(r"python (benchmarks/\S+\.py)", text):
        assert (ROOT / script).is_file(), script


@pytest.mark.parametrize("page", pages())
def test_a_command_asks_for_a_task_that_exists(page: str) -> None:
    for names in re.findall(r'--tasks "?([^"\n]+?)"?(?:\s+-|\n|$)', _sections(page)["Command"]):
        assert {name.strip() for name in names.split(",")} <= set(TASKS), names


def test_an_unknown_name_lists_the_pages() -> None:
    with pytest.raises(SettingsError, match=r"No page explains 'anotation'. There are: .*annotation, .*retrieval"):
        explain("anotation")


def test_names_of_tasks_and_of_pages_both_find_it() -> None:
    assert explain("Image to expression") == explain("image-to-expression")
    assert page_name("transition") == "state-transition"
