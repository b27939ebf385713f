"""Opening a corpus: metadata, ranges, and an error that names the damaged file."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from spatia.corpus.corpus import Corpus
from spatia.corpus.splits import SplitSettings, make_split
from spatia.errors import CorpusError, SettingsError


def change(file: Path, **changes: Any) -> None:
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | changes))


def test_open_reads_what_is_in_the_corpus(tiny_corpus):
    corpus = Corpus.open(tiny_corpus.path)
    assert list(corpus.sections) == ["left", "right", "bare"]
    assert corpus.channels == ("DAPI", "boundary", "RNA")
    assert corpus.n_cells == sum(section.cells.n_rows("X") for section in corpus.sections.values())
    assert corpus.levels["cell"].um_per_px == pytest.approx(27.2 / 8)
    assert corpus.genes["gene_id"].tolist() == ["EPCAM", "CD3E", "ACTB", "VIM", "MS4A1"]
    assert corpus.niche_definition == "grid"
    assert len(corpus.corpus_id) == 64


def test_corpus_id_changes_with_the_corpus(tiny_corpus, damaged_corpus):
    before = Corpus.open(damaged_corpus.path).corpus_id
    change(damaged_corpus.path / "corpus.json", spatia_version="other")
    assert Corpus.open(damaged_corpus.path).corpus_id != before


def test_rows_are_read_in_ranges(tiny_corpus):
    facts = tiny_corpus.sections[0]
    section = Corpus.open(tiny_corpus.path).section("left")
    rows = np.arange(5, 23)  # across a shard
    images = section.cells.read("obsm/single_cell_images", 5, 23)
    seen = rows % 7 != 0
    assert np.array_equal(images[seen, 1, 0, 0], tiny_corpus.pixel(facts, rows[seen], 1))
    counts = section.cells.read_csr("X", 5, 23).toarray()
    assert np.array_equal(counts, tiny_corpus.cell_counts(facts, rows))
    out = np.empty_like(images)
    assert section.cells.read("obsm/single_cell_images", 5, 23, out=out) is out
    assert np.array_equal(out, images)


def test_columns_and_absent_elements(tiny_corpus):
    section = Corpus.open(tiny_corpus.path).section("bare")
    assert set(section.cells.column("cell_type")) == {"stroma", "immune"}
    assert not section.cells.has("obsm/single_cell_images")
    assert section.details["channels"] == []
    with pytest.raises(CorpusError, match=r"obs has no column 'cluster'.*cell_type"):
        section.cells.column("cluster")
    with pytest.raises(CorpusError, match="no array 'obsm/single_cell_images'"):
        section.cells.read("obsm/single_cell_images", 0, 1)
    with pytest.raises(CorpusError, match="rows, expected at least"):
        section.cells.read_csr("X", 0, 10**6)


def test_a_section_travels_between_processes(tiny_corpus):
    section = Corpus.open(tiny_corpus.path).section("left")
    before = section.cells.read("obsm/spatial", 0, 4)
    again = pickle.loads(pickle.dumps(section))
    assert np.array_equal(again.cells.read("obsm/spatial", 0, 4), before)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"format": "zip"}, "format 'zip', version 1; expected 'spatia-corpus', version 1"),
        ({"format_version": 2}, "version 2; expected 'spatia-corpus', version 1"),
        ({"n_genes": "many"}, "n_genes: .*'many'"),
        ({"levels": {"cell": {"size_um": 27.2, "px": 8}}}, "no level niche, tissue"),
        ({"sections": {"../x": {}}}, "sections.../x.n_cells: Field required"),
    ],
)
def test_a_wrong_corpus_json_is_refused(damaged_corpus, changes, message):
    change(damaged_corpus.path / "corpus.json", **changes)
    with pytest.raises(CorpusError, match=message):
        Corpus.open(damaged_corpus.path)


@pytest.mark.parametrize("name", ["../left", "a/b", "..", "", "a\\b"])
def test_a_section_cannot_lie_outside_the_corpus(damaged_corpus, name):
    file = damaged_corpus.path / "corpus.json"
    entry = json.loads(file.read_text())["sections"]["left"]
    change(file, sections={name: entry})
    with pytest.raises(CorpusError, match="not a plain folder name"):
        Corpus.open(damaged_corpus.path)


def test_missing_and_broken_files_are_named(damaged_corpus, tmp_path):
    with pytest.raises(CorpusError, match=r"empty/corpus.json: no such file"):
        Corpus.open(tmp_path / "empty")
    corpus = Corpus.open(damaged_corpus.path)
    with pytest.raises(CorpusError, match=r"no section 'middle'. Its sections: left"):
        corpus.section("middle")
    (damaged_corpus.path / "genes.parquet").write_bytes(b"no")
    with pytest.raises(CorpusError, match=r"genes.parquet: cannot be read"):
        _ = corpus.genes
    (damaged_corpus.path / "corpus.json").write_text("{")
    with pytest.raises(CorpusError, match=r"corpus.json: not valid JSON"):
        Corpus.open(damaged_corpus.path)


def test_a_gene_table_of_another_corpus_is_refused(damaged_corpus):
    change(damaged_corpus.path / "corpus.json", n_genes=4)
    with pytest.raises(CorpusError, match=r"3 genes, but corpus.json says 4"):
        _ = Corpus.open(damaged_corpus.path).genes


def test_split_gives_ranges_and_checks_them(damaged_corpus):
    corpus = Corpus.open(damaged_corpus.path)
    split = corpus.split("block")
    (train,), (test,) = split.ranges("train", "left"), split.ranges("test", "left")
    assert 0 == train[0] < train[1] <= test[0] < test[1] == corpus.n_cells
    assert split.ranges("train", "elsewhere") == ()
    with pytest.raises(CorpusError, match=r"no part 'dev'. Its parts: train, margin, test"):
        split.ranges("dev", "left")
    with pytest.raises(CorpusError, match=r"no split 'donor' \(there: block\)"):
        corpus.split("donor")


@pytest.mark.parametrize("ranges", [[[5, 5]], [[0, 4], [3, 6]], [[0, 10**6]], [[-1, 3]]])
def test_split_with_impossible_ranges_is_refused(damaged_corpus, ranges):
    change(damaged_corpus.path / "splits" / "block.json", parts={"train": {"left": ranges}})
    with pytest.raises(CorpusError, match=r"block.json: part 'train', section 'left'"):
        Corpus.open(damaged_corpus.path).split("block")


def test_a_split_does_not_go_with_a_section_that_was_built_anew(tiny_corpus, tmp_path):
    path = Path(shutil.copytree(tiny_corpus.path, tmp_path / "corpus"))
    parts = SplitSettings(validation=0.3, test=0.3)
    make_split(Corpus.open(path), "section", settings=parts)
    before = Corpus.open(path).split("section")
    assert set(before.cells) == {"left", "right", "bare"}
    zarr.open_group(path / "sections/left/cells.zarr", mode="r+")["obsm/spatial"][3] += 1
    with pytest.raises(CorpusError, match=r"section.json: section 'left' has other cells than when the split was made"):
        Corpus.open(path).split("section")
    make_split(Corpus.open(path), "section", settings=parts, replace=True)
    assert Corpus.open(path).split("section").parts == before.parts


def without(corpus: Path, sample: str) -> dict[str, Any]:
    """Take a section out of what the corpus lists; return what it listed before."""
    sections = json.loads((corpus / "corpus.json").read_text())["sections"]
    change(corpus / "corpus.json", sections={name: one for name, one in sections.items() if name != sample})
    return sections


def test_a_section_added_later_is_named_by_the_splits_that_do_not_know_it(tiny_corpus, tmp_path, caplog):
    path = Path(shutil.copytree(tiny_corpus.path, tmp_path / "corpus"))
    everything = without(path, "bare")
    with_two = SplitSettings(validation=0, test=0.3)
    make_split(Corpus.open(path), "section", settings=with_two)
    Corpus.open(path).split("section")
    assert not caplog.text
    change(path / "corpus.json", sections=everything)
    corpus = Corpus.open(path)
    with caplog.at_level("WARNING", "spatia"):
        for _ in range(3):
            corpus.split("section")
    (warning,) = caplog.messages
    n_cells = corpus.section("bare").entry.n_cells
    assert f"section.json: the split does not know section 'bare' ({n_cells} cells), added to the corpus" in warning
    assert "`spatia split ... --by section --name NAME`" in warning
    with pytest.raises(SettingsError, match=r"another split has this name.*It does not know section 'bare'"):
        make_split(corpus, "section", settings=with_two)


def test_a_split_written_by_hand_may_leave_sections_out(tiny_corpus, tmp_path, caplog):
    path = Path(shutil.copytree(tiny_corpus.path, tmp_path / "corpus"))
    change(path / "splits" / "block.json", parts={"train": {"left": [[0, 3]]}, "test": {"right": [[0, 3]]}})
    Corpus.open(path).split("block")
    assert not caplog.text


@pytest.mark.parametrize(
    "left_out, validation, message",
    [
        ("bare", 0.1, r"2 sections cannot fill 3 parts \(.*\)\. Add sections, set --validation 0, or split by block"),
        ("bare right", 0.1, r"1 section cannot fill 3 parts \(.*\)\. Add sections, or split by block"),
        ("bare right", 0, r"1 section cannot fill 2 parts \(.*\)\. Add sections, or split by block"),
    ],
)
def test_too_few_sections_are_told_what_helps(tiny_corpus, tmp_path, left_out, validation, message):
    path = Path(shutil.copytree(tiny_corpus.path, tmp_path / "corpus"))
    for sample in left_out.split():
        without(path, sample)
    with pytest.raises(SettingsError, match=message):
        make_split(Corpus.open(path), "section", settings=SplitSettings(validation=validation))


def shards(corpus_path: Path) -> Path:
    return corpus_path / "sections/left/cells.zarr/obsm/single_cell_images/c"


def test_a_missing_or_short_file_is_found_by_the_manifest(damaged_corpus):
    section = Corpus.open(damaged_corpus.path).section("left")
    section.check_files()
    shard = shards(damaged_corpus.path) / "1/0/0/0"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    with pytest.raises(CorpusError, match=r"c/1/0/0/0: .* bytes, but manifest.json says"):
        section.check_files()
    shard.unlink()
    with pytest.raises(CorpusError, match=r"c/1/0/0/0: the file is missing"):
        section.check_files()


def test_a_damaged_shard_is_named(damaged_corpus):
    shard = shards(damaged_corpus.path) / "1/0/0/0"
    content = bytearray(shard.read_bytes())
    content[: len(content) // 2] = bytes(len(content) // 2)
    shard.write_bytes(content)
    section = Corpus.open(damaged_corpus.path).section("left")
    section.cells.read("obsm/single_cell_images", 0, 16)
    with pytest.raises(CorpusError, match=r"single_cell_images/c/1/0/0/0: cannot be read"):
        section.cells.read("obsm/single_cell_images", 0, 40)


def test_columns_beyond_the_panel_are_refused(damaged_corpus):
    store = damaged_corpus.path / "sections/left/cells.zarr"
    zarr.open_group(store, mode="a")["X/indices"][0] = 99
    with pytest.raises(CorpusError, match=r"a column lies outside \[0, 3\)"):
        Corpus.open(damaged_corpus.path).section("left").cells.read_csr("X", 0, 5)


def test_a_missing_store_is_named(damaged_corpus):
    (damaged_corpus.path / "sections/left/niches.zarr/zarr.json").unlink()
    with pytest.raises(CorpusError, match=r"niches.zarr: no such store"):
        Corpus.open(damaged_corpus.path).section("left").niches.obs()
