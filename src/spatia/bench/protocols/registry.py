"""The tasks by name: one line for each."""

from collections.abc import Iterable

from spatia.bench.choosing import choose
from spatia.bench.protocols import integration, labels, retrieval, tissue, values
from spatia.bench.protocols.trial import Task

_ALL = (
    labels.ANNOTATION,
    labels.ANNOTATION_BY_IMAGE,
    labels.CLUSTERING,
    labels.DOMAINS,
    labels.DOMAIN_ANNOTATION,
    values.STATES,
    values.IMPUTATION,
    values.IMAGE_TO_EXPRESSION,
    values.EXPRESSION_TO_IMAGE,
    values.NEIGHBOURHOOD,
    values.SURROUNDINGS,
    retrieval.RETRIEVAL,
    labels.ZERO_SHOT,
    integration.INTEGRATION,
    tissue.BIOMARKER,
)
TASKS: dict[str, Task] = {task.name: task for task in _ALL}


def chosen_tasks(names: Iterable[str]) -> list[Task]:
    """Return tasks by name, "all" for every one.

    Raises
    ------
    SettingsError
        If a name is unknown; the message lists the names.
    """
    return choose(names, TASKS, "task")
