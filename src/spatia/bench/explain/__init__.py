"""One page a task: what is asked, on what, split how, measured how, what is guarded against, and what it does not say."""

import re
from importlib.resources import files

from spatia.errors import SettingsError

# The headings of every page, in this order; what a reader looks for stands in the same place everywhere.
HEADINGS = (
    "Question",
    "Data",
    "Split",
    "Metric",
    "Simple predictor",
    "Leaks guarded against",
    "What it does not say",
    "Command",
)
# Names that tasks go by elsewhere: of the two tasks of generators, and of common ways to ask.
ALIASES = {
    "transition": "state-transition",
    "generation": "expression-to-image",
    "across-section": "across-sections",
    "across-donor": "across-donors",
    "zero-shot": "gene-only-zero-shot",
}
OF_LIST = {
    "expression to image": "expression-to-morphology"
}  # with blanks the task of `--list`, with hyphens that of generators


def pages() -> list[str]:
    """Return the names of the pages."""
    names = [entry.name for entry in files(__name__).iterdir()]
    return sorted(name.removesuffix(".md") for name in names if name.endswith(".md"))


def page_name(task: str) -> str:
    """Return the name that the page of a task would have: its words with hyphens.

    Examples
    --------
    >>> page_name("image to expression"), page_name("transition"), page_name("expression to image")
    ('image-to-expression', 'state-transition', 'expression-to-morphology')
    """
    if task in OF_LIST:
        return OF_LIST[task]
    name = re.sub(r"[^a-z0-9]+", "-", task.strip().lower()).strip("-")
    return ALIASES.get(name, name)


def explain(task: str) -> str:
    """Return the page of a task as Markdown.

    Parameters
    ----------
    task
        As ``spatia bench --list`` names it, or the name of a page.

    Raises
    ------
    SettingsError
        If there is no such page; the message lists the pages.
    """
    known, name = pages(), page_name(task)
    if name not in known:
        raise SettingsError(f"No page explains {task!r}. There are: {', '.join(known)}.")
    return files(__name__).joinpath(f"{name}.md").read_text(encoding="utf-8")
