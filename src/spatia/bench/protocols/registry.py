"""The tasks by name: one line for each."""

from collections.abc import Iterable

from spatia.bench.protocols import labels, retrieval, values
from spatia.bench.protocols.trial import Task
from spatia.errors import SettingsError

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
)
TASKS: dict[str, Task] = {task.name: task for task in _ALL}


def chosen_tasks(names: Iterable[str]) -> list[Task]:
    """Return tasks by name, "all" for every one.

    Raises
    ------
    SettingsError
        If a name is unknown; the message lists the names.
    """
    names = list(names)
    if names == ["all"]:
        return list(TASKS.values())
    if unknown := [name for name in names if name not in TASKS]:
        raise SettingsError(f"Unknown task {unknown[0]!r}. Known: {', '.join(TASKS)}.")
    return [TASKS[name] for name in names]
