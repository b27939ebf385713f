"""What is said of all sections of a corpus together."""

from pathlib import Path

import pandas as pd
import pytest

from spatia.corpus.manifest import genes_of_two_names


@pytest.mark.parametrize(("other", "said"), [("ENSG3", False), ("B", True)])
def test_genes_of_two_names_are_said(tmp_path: Path, other: str, said: bool) -> None:
    table = {
        "gene_id": ["ENSG1", "ENSG2", other],
        "symbol": ["A", "B", "C" if other == "ENSG3" else "B"],
        "organism": None,
    }
    pd.DataFrame(table).to_parquet(tmp_path / "genes.parquet")
    found = genes_of_two_names(tmp_path)
    assert bool(found) == said
    if said:
        assert found.startswith("1 of 2 genes go by two ids, the first B by ENSG2 and B")
