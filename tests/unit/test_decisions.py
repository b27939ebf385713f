"""The pages of decisions: each is listed under its title, and says what was given up."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "decisions"
PAGES = sorted(FOLDER.glob("[0-9]*.md"))


def test_the_list_is_the_folder() -> None:
    listed = re.findall(r"^- \[(\d+)\]\((\S+)\) (.+)$", (FOLDER / "README.md").read_text(), flags=re.MULTILINE)
    titles = [(page, re.match(r"# (\d+)\. (.+)\n", page.read_text())) for page in PAGES]
    assert listed == [(f"{int(one[1]):04}", page.name, one[2]) for page, one in titles if one]
    assert len(listed) == len(PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem[:4])
def test_a_decision_says_what_why_and_at_what_cost(page: Path) -> None:
    begins = re.findall(r"^\*\*(Decision|Why|Cost)\b", page.read_text().partition("## Template")[0], flags=re.MULTILINE)
    assert begins == ["Decision", "Why", "Cost"]
