"""Domains of two donors sought together, as they are and moved to one another (docs/decisions/0022).

    python benchmarks/domains.py DATA.json=MODEL [DATA.json=MODEL ...]

Data sets of two sections whose regions are known (of `model_data.simulated`), each with the model that embeds it. The second section is also
thinned: without the largest region, and without every second one.
"""

import argparse
import logging
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score, mutual_info_score

from spatia import keys
from spatia.bench.dataset import DataSet
from spatia.errors import SettingsError
from spatia.inference.embed import embed
from spatia.log import configure
from spatia.tasks.domains import domains


def main() -> None:
    """Print a row for each data set, composition and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="DATA.json=MODEL")
    configure(logging.WARNING)
    print(
        "| data | second section | moved | domains | ARI | bits of the donor | (of the regions) |\n|---|---|---|---|---|---|---|"
    )
    for one in parser.parse_args().data:
        data, _, model = one.rpartition("=")
        compare(Path(data), Path(model))


def compare(data: Path, model: Path) -> None:
    """Embed a data set and seek its domains in every way."""
    dataset = DataSet.read(data)
    if dataset.labels is None or dataset.domain is None:
        raise SettingsError(f"{data}: names no table of labels, or no column of regions (`domain`).")
    cells = embed(dataset.corpus, model)
    assert isinstance(cells, ad.AnnData)
    region = known_regions(cells, dataset.labels, dataset.domain)
    sample = cells.obs["sample"].astype(str).to_numpy()
    regions = region.value_counts().index  # the largest first
    second = sample == np.unique(sample)[1]
    for composition, without in (
        ("whole", []),
        ("without the largest region", regions[:1]),
        ("without half of them", regions[::2]),
    ):
        kept = ~second | ~region.isin(without).to_numpy()
        told = kept & region.notna().to_numpy()
        for align in (False, True):
            found = domains(
                cells.obsm["X_spatia_niche"][kept],
                cells.obsm[keys.SPATIAL][kept][:, :2],
                sections=sample[kept],
                align=align,
            )
            group = pd.Series(found.group, index=np.flatnonzero(kept))[np.flatnonzero(told)]
            bits = [mutual_info_score(of, sample[told]) / np.log(2) for of in (group, region[told])]
            score = adjusted_rand_score(region[told], group)
            print(
                f"| {data.stem} | {composition} | {align} | {found.n_groups} | {score:.3f} | {bits[0]:.2f} | {bits[1]:.2f} |",
                flush=True,
            )


def known_regions(cells: ad.AnnData, labels: Path, column: str) -> pd.Series:
    """Return the region of each cell, missing where it has none."""
    table = pd.read_parquet(labels)
    ids = cells.obs[keys.CELL_ID] if keys.CELL_ID in cells.obs else cells.obs_names.to_series()
    own = pd.DataFrame({"sample": cells.obs["sample"].astype(str).to_numpy(), keys.CELL_ID: ids.astype(str).to_numpy()})
    return own.merge(table.astype({"sample": str, keys.CELL_ID: str}), how="left", on=["sample", keys.CELL_ID])[column]


if __name__ == "__main__":
    main()
