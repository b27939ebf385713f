"""How much hangs on what a niche is: one model, the same cells, niches of other sizes and definitions.

    python benchmarks/niches.py --work WORK [--model tiny] [--seeds 3]

The Xenium breast slide and a simulated pair are built anew for each definition; the model is used as it is, so that nothing but
the niche differs. Rows: WORK/results/niches/rows.parquet.
"""

import argparse
from pathlib import Path

import model_data as data

from spatia.bench.dataset import DataSet
from spatia.bench.methods.method import Method
from spatia.bench.methods.spatia_model import SpatiaSource, spatia_methods
from spatia.bench.protocols.registry import chosen_tasks
from spatia.bench.run import Plan, run
from spatia.bench.suites import Size, section_folders, suite_data
from spatia.bench.tables import markdown
from spatia.corpus.build import build
from spatia.corpus.lock import only_writer_of
from spatia.corpus.settings import BuildSettings, NicheSettings
from spatia.errors import SpatiaError
from spatia.io.source import Source
from spatia.log import configure
from spatia.models.shipped import model_folder

NICHES = {
    "6 nearest": NicheSettings(definition="knn", neighbours=6),
    "12 nearest": NicheSettings(definition="knn", neighbours=12),
    "24 nearest": NicheSettings(definition="knn", neighbours=24),
    "48 nearest": NicheSettings(definition="knn", neighbours=48),
    "within 27 µm": NicheSettings(definition="radius", radius_um=27.2),
    "within 54 µm": NicheSettings(definition="radius", radius_um=54.4),
    "grid of 54 µm": NicheSettings(definition="grid"),
    "adaptive, 16 cells": NicheSettings(definition="adaptive", cells_per_niche=16),
}
TASKS = ["neighbourhood", "annotation", "domain annotation", "states"]
KEPT = ("spatia", "spatia, cell", "spatia, niche", "spatia, cell + niche")


def variants(base: DataSet, sources: list[Source], work: Path) -> list[DataSet]:
    """Return the data set under every definition; the corpora are built where they are not there yet."""
    found = []
    for name, niches in NICHES.items():
        corpus = work / "niches" / f"{base.corpus.name}-{name.replace(' ', '-').replace(',', '')}"
        if not (corpus / "corpus.json").exists():
            result = build(sources, corpus, BuildSettings(niches=niches))
            if result.exit_code:
                raise SpatiaError("; ".join(section.message for section in result.sections if section.message))
        found.append(base.model_copy(update={"name": f"{base.name}: {name}", "corpus": corpus}))
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="cache of corpora and results")
    parser.add_argument("--model", default="tiny", help="model folder, or tiny: the one that comes with spatia")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    configure()
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    breast = DataSet.read(data.breast(work)[0])
    pair = next(one for one in map(DataSet.read, suite_data(work, Size(1_000, 4, 100, 1))) if one.split == "donor")
    slides = section_folders(work / "pair_0_slides")
    simulated = [Source(one.name, one, donor=f"donor_{number + 1}") for number, one in enumerate(slides)]
    sets = variants(breast, [Source("xenium_breast", data.REAL / "xenium_breast" / "outs")], work)
    sets += variants(pair, simulated, work)
    source = SpatiaSource(model=model_folder(arguments.model))
    methods: list[Method] = [one for one in spatia_methods(source) if one.name in KEPT]
    out = work / "results" / "niches"
    with only_writer_of(out, "benchmark"):
        rows = run(Plan(sets, chosen_tasks(TASKS), methods, arguments.seeds, "python benchmarks/niches.py"), out)
    # definitions down, tasks across: the data set is the definition here
    print(markdown(rows))


if __name__ == "__main__":
    main()
