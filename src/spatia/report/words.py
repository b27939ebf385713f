"""What a run found, in plain sentences and a few numbers."""

from dataclasses import dataclass

import numpy as np

from spatia import keys
from spatia.report.contents import RunFolder
from spatia.report.schema import ExpressionTask, SectionFacts
from spatia.report.tables import BenchmarkTable

WAY = {
    "image": "from the image alone",
    "imputation": "of hidden genes, from the other genes and the image",
}


@dataclass(frozen=True)
class KeyNumber:
    """A number of the summary, what it is, and where in the page it is explained."""

    value: str
    name: str
    anchor: str


def number(value: float | None, digits: int = 2) -> str:
    """Return a number for reading; a dash where there is none.

    Examples
    --------
    >>> number(0.12345), number(None), number(float("nan"))
    ('0.12', '–', '–')
    """
    return "–" if value is None or not np.isfinite(value) else f"{value:.{digits}f}".replace("-", "−")


def duration(seconds: float | None) -> str:
    """Return a time for reading.

    Examples
    --------
    >>> duration(4.21), duration(75), duration(7_320)
    ('4.2 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def size(n_bytes: float | None) -> str:
    """Return a size for reading.

    Examples
    --------
    >>> size(3_400_000_000)
    '3.4 GB'
    """
    if n_bytes is None:
        return "–"
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"


def some(n: int, what: str, many: str | None = None) -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> some(1, "cell"), some(2189, "cell"), some(0, "warning")
    ('1 cell', '2,189 cells', 'no warnings')
    """
    return f"{n:,} {what}" if n == 1 else f"{f'{n:,}' if n else 'no'} {many or what + 's'}"


def listed(names: list[str], most: int = 6) -> str:
    """Return names as a phrase; what is left out is counted.

    Examples
    --------
    >>> listed(["DAPI"]), listed(["a", "b", "c"]), listed(list("abcdefgh"), most=2)
    ('DAPI', 'a, b and c', 'a, b and 6 more')
    """
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "none"


def run_state(folder: RunFolder) -> tuple[str, str]:
    """Return what became of the run, as the page colours it and in words; sections that it left out are counted and named."""
    steps = {step.status for step in folder.run.steps}
    state = "stopped" if steps & {"failed", "refused"} else "unfinished" if "running" in steps else "complete"
    left_out = list(dict.fromkeys(name for step in folder.run.steps for name in step.left_out))
    if not left_out:
        return state, f"run {state}"
    built = [section.sample for section in folder.slide.sections] if folder.slide else []
    n = len({*left_out, *built, *(check.sample for check in folder.checks or ())})
    words = f"run {state}, {len(left_out)} of {some(n, 'section')} left out: {listed(left_out)}"
    return "partial" if state == "complete" else state, words


def summary(folder: RunFolder, benchmark: BenchmarkTable | None) -> list[str]:
    """Return what the run found as sentences, the unwelcome ones among them."""
    parts = (_slide(folder), _doctor(folder), _model(folder), _groups(folder), _annotation(folder))
    sentences = [sentence for sentence in parts if sentence]
    if folder.expression:
        sentences += [_expression(task) for task in folder.expression.tasks if task.mean_pearson is not None]
    if benchmark is not None and benchmark.tasks:
        sentences.append(_benchmark(benchmark))
    return sentences


def _slide(folder: RunFolder) -> str:
    if folder.slide is None:
        return ""
    sections = folder.slide.sections
    n = sum(section.n_cells for section in sections)
    channels = list(dict.fromkeys(channel for section in sections for channel in section.channels))
    image = f"an image of {some(len(channels), 'channel')} ({listed(channels)})" if channels else "no image"
    where = "one section" if len(sections) == 1 else f"{len(sections)} sections"
    platform = listed(sorted({section.platform for section in sections}))
    return f"The slide holds {some(n, 'cell')} in {where} ({platform}), with {' '.join(_genes(folder, sections))} and {image}."


def _genes(folder: RunFolder, sections: tuple[SectionFacts, ...]) -> tuple[str, str]:
    """Return how many genes were measured, and what is counted: over all sections, once their panels were put together."""
    cells = folder.cells
    if cells is None or cells.measured is None:
        sizes = sorted({section.n_genes for section in sections})
        size_range = f"{sizes[0]:,} to {sizes[-1]:,}" if len(sizes) > 1 else f"{sizes[0]:,}"
        return size_range, "genes in each section" if len(sections) > 1 else "genes"
    everywhere = cells.n_everywhere
    words = "genes" if everywhere is None else f"genes ({f'{everywhere:,}' if everywhere else 'none'} in every section)"
    return f"{cells.measured.shape[1]:,}", words


def _doctor(folder: RunFolder) -> str:
    if not folder.checks:
        return ""
    found = [finding.severity for check in folder.checks for finding in check.findings]
    refused, warned = found.count("refused"), found.count("warning")
    if refused:
        return f"The check of the slide refused {some(refused, 'thing')} and warned of {warned or 'nothing more'}; see the slide."
    return f"The check of the slide found nothing to refuse and gave {some(warned, 'warning')}."


def _model(folder: RunFolder) -> str:
    training = folder.training
    if training is None:
        return ""
    words = f"{training.n_parameters / 1e6:.1f} million parameters"
    if not training.trained:
        return f"No model was trained: the given one ({words}) was used as it is."
    cells = f" on {some(training.n_train_cells, 'cell')}" if training.n_train_cells else ""
    collapse = training.collapse
    state = ""
    if collapse is not None:
        used = f"uses about {collapse.effective_rank:.0f} directions of at most {collapse.most}"
        state = (
            f" Its embedding has collapsed ({used}): do not rely on it."
            if collapse.collapsed
            else f" Its embedding {used}."
        )
    return f"A {training.preset or ''} model of {words} was trained{cells} in {duration(training.seconds)}.{state}".replace(
        "A  model", "A model"
    )


def _groups(folder: RunFolder) -> str:
    cells = folder.cells
    if cells is None:
        return ""
    parts = [
        some(len(cells.categories(column)), what)
        for column, what in ((keys.CLUSTER, "cluster"), (keys.DOMAIN, "spatial domain"))
        if column in cells.obs
    ]
    return f"Without any labels, the cells fall into {listed(parts)}." if parts else ""


def _annotation(folder: RunFolder) -> str:
    result = folder.annotation
    if result is None:
        return ""
    if result.accuracy is None:
        return "Labels: on held-out cells the model is nowhere sure enough, so it gave no cell a label."
    return (
        f"Labels: held out, {result.accuracy:.0%} of the labelled cells that were given one of the {len(result.labels)} labels got the right one; "
        f"{result.abstained_share:.0%} were left without one because the model was unsure."
    )


def _expression(task: ExpressionTask) -> str:
    compared = ""
    if task.baseline and task.baseline_mean_pearson is not None and task.mean_pearson is not None:
        ours, theirs = (
            round(value, 2) for value in (task.mean_pearson, task.baseline_mean_pearson)
        )  # as they are shown
        verdict = "more than" if ours > theirs else "less than" if ours < theirs else "the same as"
        compared = f"; that is {verdict} {task.baseline} ({number(task.baseline_mean_pearson)})"
    return (
        f"Expression {WAY[task.name]}: on {some(task.n_cells, 'held-out cell')} the mean correlation over "
        f"{some(task.n_genes, 'gene')} is {number(task.mean_pearson)}{compared}."
    )


def _benchmark(table: BenchmarkTable) -> str:
    outcomes = {task.title: table.outcome(task.key) for task in table.tasks}
    counted = [outcome for outcome, _ in outcomes.values()]
    lost = [f"{title} (to {best})" for title, (outcome, best) in outcomes.items() if outcome == "lost"]
    first = f"Against the simple methods, the model is first in {counted.count('won')} of {some(len(counted), 'comparison')}"
    tied = f", tied in {counted.count('tied')}" if "tied" in counted else ""
    return first + tied + (f" and behind in {len(lost)}: {'; '.join(lost)}." if lost else ".")


def key_numbers(folder: RunFolder, benchmark: BenchmarkTable | None) -> list[KeyNumber]:
    """Return the numbers that head the report."""
    numbers = []
    if folder.slide is not None:
        numbers.append(KeyNumber(f"{sum(section.n_cells for section in folder.slide.sections):,}", "cells", "slide"))
        numbers.append(KeyNumber(*_genes(folder, folder.slide.sections), "slide"))
    cells = folder.cells
    if cells is not None:
        for column, what, anchor in (
            (keys.CLUSTER, "clusters", "maps"),
            (keys.DOMAIN, "domains", "maps"),
            (keys.PREDICTED_LABEL, "labels", "annotation"),
        ):
            if column in cells.obs:
                numbers.append(KeyNumber(str(len(cells.categories(column))), what, anchor))
    for task in folder.expression.tasks if folder.expression else ():
        name = "r, image → genes" if task.name == "image" else "r, hidden genes"
        numbers.append(KeyNumber(number(task.mean_pearson), name, "expression"))
    if benchmark is not None and benchmark.tasks:
        good = sum(benchmark.outcome(task.key)[0] in ("won", "tied") for task in benchmark.tasks)
        numbers.append(KeyNumber(f"{good} of {len(benchmark.tasks)}", "comparisons first or tied", "benchmark"))
    return numbers
