"""Loaders over tiny corpora: right contents, every row where it belongs, the same batches however they are read."""

import gc
import json
import signal
import subprocess
import sys
import threading
import time
from itertools import chain

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from spatia.corpus.corpus import Corpus
from spatia.data.dataset import CellRows
from spatia.data.loader import cell_loader, niche_loader, tissue_loader
from spatia.data.vocabulary import Vocabulary
from spatia.errors import CorpusError, SettingsError

SMALL = {"batch_size": 8, "pool_cells": 32, "block_rows": 8}


@pytest.fixture(scope="module")
def corpus(tiny_corpus):
    return Corpus.open(tiny_corpus.path)


def rows(batch):
    return list(zip(batch.section.tolist(), batch.row.tolist(), strict=True))


def epoch(loader):
    return [rows(batch) for batch in loader]


def flat(lists):
    return list(chain.from_iterable(lists))


def all_cells(corpus):
    return [(s, row) for s, section in enumerate(corpus.sections.values()) for row in range(section.entry.n_cells)]


def check_cells(batch, tiny, vocabulary):
    """Every cell carries the pixels, masks and counts of its own row, and says what is absent."""
    genes, channels = list(vocabulary.genes), list(vocabulary.channels)
    for i, (number, row) in enumerate(rows(batch)):
        facts, at = tiny.sections[number], np.array([row])
        counts = dict(zip(facts.genes, tiny.cell_counts(facts, at)[0].tolist(), strict=True))
        expected = [counts.get(gene, 0) for gene in genes]
        assert batch.counts[i].tolist() == expected
        assert batch.measured[i].tolist() == [gene in facts.genes for gene in genes]
        has_image = bool(facts.channels) and row % 7 != 0
        for c, channel in enumerate(channels):
            present = has_image and channel in facts.channels
            assert bool(batch.channels_present[i, c]) == present
            value = int(tiny.pixel(facts, at, facts.channels.index(channel))[0]) if present else 0
            assert (batch.images[i, c] == value).all()
        assert bool(batch.mask_present[i]) == (facts.outlines and row % 5 != 0)
        assert (batch.masks[i] == (3 if batch.mask_present[i] else 0)).all()
        assert float(batch.image_share[i]) == float(has_image)
        assert batch.position_um[i].tolist() == [10.0 * row, 5.0 + facts.number]


@pytest.mark.parametrize("shuffle", [True, False])
def test_cells_carry_their_own_data_and_say_what_is_absent(corpus, tiny_corpus, shuffle):
    loader = cell_loader([corpus], shuffle=shuffle, **SMALL)
    assert loader.vocabulary.genes == ("EPCAM", "CD3E", "ACTB", "VIM", "MS4A1")
    for batch in loader:
        check_cells(batch, tiny_corpus, loader.vocabulary)
        assert batch.um_per_px == pytest.approx(27.2 / 8)


def test_training_draws_each_cell_at_most_once_and_evaluation_exactly_once_in_order(corpus):
    training = flat(epoch(cell_loader([corpus], **SMALL)))
    assert len(set(training)) == len(training) == corpus.n_cells // 8 * 8
    assert flat(epoch(cell_loader([corpus], shuffle=False, **SMALL))) == all_cells(corpus)


def test_same_seed_same_batches_other_epoch_other_batches(corpus):
    one, two = cell_loader([corpus], **SMALL), cell_loader([corpus], **SMALL)
    first = epoch(one)
    assert first == epoch(two)
    second = epoch(one)
    assert one.epoch == 2
    assert second != first
    two.set_epoch(0)
    assert epoch(two) == first
    assert epoch(cell_loader([corpus], seed=1, **SMALL)) != first


def test_many_corpora_are_joined_by_name(corpus, tiny_corpus, tmp_path):
    other = tiny_corpus.write(tmp_path / "other", tiny_corpus.sections[1:])
    corpora = [Corpus.open(other), corpus]
    loader = cell_loader(corpora, shuffle=False, **SMALL)
    assert loader.vocabulary.genes == ("ACTB", "VIM", "CD3E", "MS4A1", "EPCAM")
    assert loader.vocabulary.channels == ("RNA", "DAPI", "boundary")
    assert [source.section.sample for source in loader.sources] == ["right", "bare", "left", "right", "bare"]
    order = [tiny_corpus.sections[i] for i in (1, 2, 0, 1, 2)]
    joined = type(tiny_corpus)(tiny_corpus.path, tuple(order))
    for batch in loader:
        check_cells(batch, joined, loader.vocabulary)


def test_a_given_vocabulary_leaves_out_what_it_does_not_name(corpus, tiny_corpus):
    vocabulary = Vocabulary(genes=("VIM", "NEW", "EPCAM"), channels=("DAPI",))
    for batch in cell_loader([corpus], vocabulary=vocabulary, **SMALL):
        check_cells(batch, tiny_corpus, vocabulary)
        assert not batch.measured[:, 1].any()
    with pytest.raises(CorpusError, match="'A' twice among its genes"):
        Vocabulary(genes=("A", "B", "A"), channels=())


def test_only_what_is_asked_for_is_read(corpus):
    batch = next(iter(cell_loader([corpus], read=("counts",), **SMALL)))
    assert (batch.images, batch.masks) == (None, None)
    assert batch.counts is not None
    assert batch.channels_present.any(), "absence of the reading is not absence of the image"
    batch = next(iter(cell_loader([corpus], read=("images",), **SMALL)))
    assert batch.images is not None
    assert batch.counts is None


def test_resume_equals_the_unbroken_run(corpus):
    unbroken = cell_loader([corpus], **SMALL)
    whole = [epoch(unbroken), epoch(unbroken)]
    for stop in (1, 4, 5, len(whole[0])):
        broken, drawn = cell_loader([corpus], **SMALL), []
        state = broken.state_dict()
        for batch in broken:
            drawn.append(rows(batch))
            state = json.loads(json.dumps(broken.state_dict()))
            if len(drawn) == stop:
                break
        resumed = cell_loader([corpus], **SMALL)
        resumed.load_state_dict(state)
        drawn += epoch(resumed)
        assert drawn == whole[0]
        assert epoch(resumed) == whole[1]


def test_resume_reads_only_the_pools_that_are_left(corpus):
    loader, read = cell_loader([corpus], **SMALL), []
    reader = loader._pools._reader
    loader._pools._reader = lambda batches: read.append(1) or reader(batches)
    state = loader.state_dict() | {"batch": len(loader) - 1}
    loader.load_state_dict(state)
    assert len(epoch(loader)) == 1
    assert len(read) == 1


def test_a_position_of_other_settings_is_refused(corpus):
    state = cell_loader([corpus], **SMALL).state_dict()
    with pytest.raises(SettingsError, match="belongs to a loader of other corpora or settings"):
        cell_loader([corpus], seed=1, **SMALL).load_state_dict(state)
    cell_loader([corpus], read=("counts",), **SMALL).load_state_dict(state)  # draws the same rows


def test_a_pass_that_is_broken_off_starts_again(corpus):
    loader = cell_loader([corpus], **SMALL)
    first = rows(next(iter(loader)))
    assert rows(next(iter(loader))) == first
    assert loader.epoch == 0


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_an_epoch_without_overlap(corpus, world_size):
    of_rank = [epoch(cell_loader([corpus], rank=rank, world_size=world_size, **SMALL)) for rank in range(world_size)]
    assert len({len(batches) for batches in of_rank}) == 1
    drawn = flat(flat(of_rank))
    assert len(set(drawn)) == len(drawn) > corpus.n_cells - 8 * world_size
    in_order = [cell_loader([corpus], rank=r, world_size=world_size, shuffle=False, **SMALL) for r in range(world_size)]
    assert flat(flat(epoch(loader)) for loader in in_order) == all_cells(corpus)


@pytest.mark.slow
def test_worker_processes_give_the_same_batches_in_the_same_order(corpus, tiny_corpus):
    alone = cell_loader([corpus], **SMALL)
    workers = cell_loader([corpus], num_workers=2, **SMALL)
    batches = list(workers)
    assert [rows(batch) for batch in batches] == epoch(alone)
    for batch in batches:
        check_cells(batch, tiny_corpus, workers.vocabulary)
    niches = [rows(batch) for batch in niche_loader([corpus], max_cells=20)]
    assert [rows(batch) for batch in niche_loader([corpus], max_cells=20, num_workers=1)] == niches


@pytest.mark.slow
def test_a_torch_dataloader_over_the_loader_gives_the_same_batches(corpus):
    loader = cell_loader([corpus], **SMALL)
    workers = DataLoader(loader, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    assert [rows(batch) for batch in workers] == epoch(cell_loader([corpus], **SMALL))
    assert [rows(batch) for batch in DataLoader(loader, batch_size=None)] == epoch(cell_loader([corpus], **SMALL))


def test_a_part_of_a_split_and_named_sections(corpus):
    split = corpus.split("block")
    drawn = {
        part: set(flat(epoch(cell_loader([corpus], split="block", part=part, shuffle=False, **SMALL))))
        for part in ("train", "margin", "test")
    }
    for part, cells in drawn.items():
        ranges = [(s, r) for s, sample in enumerate(corpus.sections) for r in split.ranges(part, sample)]
        assert cells == {(s, row) for s, (a, b) in ranges for row in range(a, b)}
    assert len(set.union(*drawn.values())) == sum(map(len, drawn.values())) == corpus.n_cells
    bare = cell_loader([corpus], sections=["bare"], shuffle=False, **SMALL)
    assert len(flat(epoch(bare))) == corpus.section("bare").entry.n_cells
    assert all(not batch.image_present.any() for batch in bare)


def test_sections_are_balanced(corpus):
    loader = cell_loader([corpus], balance="section", **SMALL)
    drawn = torch.cat([batch.section for _ in range(10) for batch in loader])
    share = torch.bincount(drawn, minlength=3) / len(drawn)
    assert share.tolist() == pytest.approx([1 / 3] * 3, abs=0.03)
    sizes = [section.entry.n_cells for section in corpus.sections.values()]
    assert max(sizes) > 1.5 * min(sizes), "the test needs sections of different size"


def test_classes_are_balanced_and_weighted(corpus):
    def shares(**settings):
        loader = cell_loader([corpus], balance="cell_type", **settings, **SMALL)
        drawn = flat(flat(epoch(loader)) for _ in range(8))
        kinds = [section.cells.column("cell_type").tolist() for section in corpus.sections.values()]
        names = [kinds[s][row] for s, row in drawn]
        return {name: names.count(name) / len(names) for name in ("tumour", "immune", "stroma")}

    assert shares() == pytest.approx({"tumour": 1 / 3, "immune": 1 / 3, "stroma": 1 / 3}, abs=0.05)
    weighted = shares(class_weights={"tumour": 3, "immune": 1})
    assert weighted == pytest.approx({"tumour": 0.75, "immune": 0.25, "stroma": 0.0}, abs=0.05)
    assert weighted["stroma"] == 0
    in_part = cell_loader([corpus], balance="section", split="block", part="train", **SMALL)
    train = set(flat(epoch(cell_loader([corpus], split="block", part="train", shuffle=False, **SMALL))))
    assert set(flat(epoch(in_part))) <= train


def niche_members(corpus, knn):
    members = {}
    for s, section in enumerate(corpus.sections.values()):
        obs = section.niches.obs()
        for row in range(section.entry.n_niches):
            matrix = section.niches.read_csr("obsm/members", row, row + 1)
            members[s, row] = sorted(matrix.indices.tolist())
            if not knn:
                assert members[s, row] == list(range(obs["cell_start"].iloc[row], obs["cell_stop"].iloc[row]))
    return members


def members_of(batch, i):
    cells = batch.member_cell[batch.offsets[i] : batch.offsets[i + 1]]
    assert (batch.cells.section[cells] == batch.section[i]).all()
    return batch.cells.row[cells].tolist()


@pytest.mark.parametrize("shuffle", [True, False])
def test_niches_come_whole_with_their_cells(corpus, tiny_corpus, shuffle):
    loader = niche_loader([corpus], max_cells=20, max_niches=6, pool_cells=60, block_rows=16, shuffle=shuffle)
    members, seen = niche_members(corpus, knn=False), []
    for batch in loader:
        assert len(batch.member_cell) <= 20
        assert len(batch) <= 6
        assert (batch.centre_cell == -1).all()
        check_cells(batch.cells, tiny_corpus, loader.vocabulary)
        for i, niche in enumerate(rows(batch)):
            assert members_of(batch, i) == members[niche]
            facts = tiny_corpus.sections[niche[0]]
            if facts.channels:
                c = loader.vocabulary.channels.index(facts.channels[0])
                assert (batch.images[i, c] == int(tiny_corpus.pixel(facts, np.array([niche[1]]), 0)[0])).all()
        seen += rows(batch)
    assert sorted(seen) == sorted(members)
    assert (seen == sorted(seen)) is not shuffle


def test_niches_around_cells_share_cells_and_name_their_centre(tiny_knn_corpus):
    corpus = Corpus.open(tiny_knn_corpus.path)
    loader = niche_loader([corpus], max_cells=40, max_niches=16, pool_cells=300, block_rows=16)
    members, seen = niche_members(corpus, knn=True), []
    for batch in loader:
        assert len(set(rows(batch.cells))) == len(batch.cells)
        assert batch.cells.row[batch.centre_cell].tolist() == batch.row.tolist()
        for i, niche in enumerate(rows(batch)):
            assert members_of(batch, i) == members[niche]
        seen += rows(batch)
    assert sorted(seen) == all_cells(corpus)


def test_niches_around_cells_show_no_cell_of_another_part(tiny_knn_corpus):
    corpus = Corpus.open(tiny_knn_corpus.path)
    train = set(flat(epoch(cell_loader([corpus], split="block", part="train", shuffle=False, **SMALL))))
    centres, shown = set(), set()
    for batch in niche_loader([corpus], split="block", part="train", shuffle=False):
        centres |= set(rows(batch))
        shown |= set(rows(batch.cells))
    assert centres == shown == train


def test_windows_come_whole_with_niches_and_cells(corpus, tiny_corpus):
    loader = tissue_loader([corpus], max_cells=40, pool_cells=80, shuffle=False)
    members, seen = niche_members(corpus, knn=False), []
    obs = [section.tissues.obs() for section in corpus.sections.values()]
    for batch in loader:
        assert len(batch.cells) <= 40 or len(batch) == 1
        assert batch.images.shape[-1] == 16
        for i, (s, window) in enumerate(rows(batch)):
            of_window = slice(int(batch.offsets[i]), int(batch.offsets[i + 1]))
            start, stop = obs[s][["niche_start", "niche_stop"]].iloc[window]
            assert batch.niches.row[of_window].tolist() == list(range(start, stop))
        for i, niche in enumerate(rows(batch.niches)):
            assert members_of(batch.niches, i) == members[niche]
        seen += rows(batch)
    assert seen == [(s, row) for s, frame in enumerate(obs) for row in range(len(frame))]


def test_windows_of_niches_around_cells(tiny_knn_corpus):
    corpus = Corpus.open(tiny_knn_corpus.path)
    niches = flat(rows(batch.niches) for batch in tissue_loader([corpus], shuffle=False))
    assert niches == all_cells(corpus)


def test_parts_take_only_whole_niches_and_windows(corpus):
    train = set(flat(epoch(cell_loader([corpus], split="block", part="train", shuffle=False, **SMALL))))
    for make in (niche_loader, tissue_loader):
        cells = [rows(batch.cells) for batch in make([corpus], split="block", part="train", shuffle=False)]
        assert set(flat(cells)) == train


def test_few_pools_are_in_memory_however_many_there_are(corpus, monkeypatch):
    alive, most = set(), [0]

    class Counted(CellRows):
        def __init__(self, **values):
            super().__init__(**values)
            alive.add(id(self))
            most[0] = max(most[0], len(alive))

        def __del__(self):
            alive.discard(id(self))

    monkeypatch.setattr("spatia.data.dataset.CellRows", Counted)
    loader = cell_loader([corpus], batch_size=4, pool_cells=8, block_rows=4)
    assert len(loader) > 40
    for number, _ in enumerate(loader):
        if number < 3:
            time.sleep(0.3)  # a slow consumer: the reader has time to run ahead as far as it may
    gc.collect()
    assert 1 < most[0] <= 3
    assert not alive


def test_what_a_reader_thread_raises_reaches_the_caller(damaged_corpus):
    damaged = damaged_corpus.path / "sections/left/cells.zarr/obsm/single_cell_images/c/1/0/0/0"
    damaged.write_bytes(bytes(damaged.stat().st_size))
    loader = cell_loader([Corpus.open(damaged_corpus.path)], **SMALL)
    with pytest.raises(CorpusError, match=r"single_cell_images/c/1/0/0/0: cannot be read"):
        epoch(loader)
    assert _reader_threads() == 0


def test_a_pass_that_is_broken_off_leaves_no_thread(corpus):
    batches = iter(cell_loader([corpus], **SMALL))
    next(batches)
    batches.close()
    assert _reader_threads() == 0


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_ctrl_c_ends_a_pass(corpus, num_workers, tmp_path):
    script = f"""
from spatia.corpus.corpus import Corpus
from spatia.data.loader import cell_loader

if __name__ == "__main__":
    loader = cell_loader([Corpus.open({str(corpus.path)!r})], batch_size=8, pool_cells=32, num_workers={num_workers})
    while True:
        for batch in loader:
            print(len(batch), flush=True)
"""
    file = tmp_path / "train.py"  # a spawned worker imports the file again
    file.write_text(script)
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, file], stdout=pipe, stderr=pipe, text=True)
    assert process.stdout.readline() == "8\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)  # a hang would end here
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors


def _reader_threads():
    for _ in range(6000):  # a read that is under way ends first; on a busy machine that can take a while
        left = [thread for thread in threading.enumerate() if thread.name.startswith("spatia-reader")]
        if not left:
            break
        time.sleep(0.01)
    return len(left)


def test_a_missing_array_or_file_is_refused_on_opening(damaged_corpus):
    store = damaged_corpus.path / "sections/left/cells.zarr"
    shard = store / "obsm/single_cell_images/c/1/0/0/0"
    content = shard.read_bytes()
    shard.unlink()  # zarr alone would read zeros
    with pytest.raises(CorpusError, match=r"c/1/0/0/0: the file is missing"):
        cell_loader([Corpus.open(damaged_corpus.path)])
    shard.write_bytes(content)
    cell_loader([Corpus.open(damaged_corpus.path)], **SMALL)


def test_crops_of_another_size_than_the_level_says_are_refused(damaged_corpus):
    file = damaged_corpus.path / "corpus.json"
    content = json.loads(file.read_text())
    content["levels"]["cell"]["px"] = 16
    file.write_text(json.dumps(content))
    loader = cell_loader([Corpus.open(damaged_corpus.path)], **SMALL)
    with pytest.raises(CorpusError, match=r"crops of \(.*8, 8\), but"):
        next(iter(loader))


def test_corpora_of_different_scale_are_refused(corpus, tiny_corpus, tmp_path):
    other = tiny_corpus.write(tmp_path / "other", tiny_corpus.sections[:1], px={"cell": 16, "niche": 8, "tissue": 16})
    with pytest.raises(CorpusError, match=r"level 'cell' is .*px=16.* but"):
        cell_loader([corpus, Corpus.open(other)])


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"rank": 2, "world_size": 2}, "rank=2: expected 0 to 1"),
        ({"batch_size": 0}, "expected at least 1"),
        ({"pool_cells": 0}, "pool_cells=0: expected at least 1"),
        ({"seed": -1}, "seed=-1"),
        ({"read": ("pixels",)}, "read: pixels is unknown"),
        ({"suffle": True}, "Unknown setting suffle. There are: shuffle"),
        ({"split": "block"}, "give both"),
        ({"balance": "section", "shuffle": False}, "needs shuffle=True"),
        ({"class_weights": {"a": 1}}, "needs balance="),
        ({"balance": "cell_type", "class_weights": {"B": 1}}, "class_weights names B, but 'cell_type' has only"),
        ({"balance": "cell_type", "class_weights": {"immune": -1}}, "finite weights of at least 0"),
        ({"balance": "cell_type", "class_weights": {"immune": 0}}, "No cell to draw"),
        ({"batch_size": 10_000}, "too few for one batch of 10000 on each of 1 ranks"),
    ],
)
def test_wrong_settings_are_refused(corpus, settings, message):
    with pytest.raises(SettingsError, match=message):
        cell_loader([corpus], **settings)


def test_unknown_names_are_refused(corpus):
    with pytest.raises(CorpusError, match=r"No section middle. There are: bare, left, right"):
        cell_loader([corpus], sections=["middle"])
    with pytest.raises(CorpusError, match="obs has no column 'cluster'"):
        cell_loader([corpus], balance="cluster")
    with pytest.raises(SettingsError, match="No corpus given"):
        cell_loader([])


@pytest.mark.parametrize("make", [cell_loader, niche_loader, tissue_loader])
def test_in_order_a_rank_may_have_no_row_and_only_no_row_at_all_is_refused(corpus, make):
    some = {"sections": ["right"], "split": "block", "part": "margin"}  # one window
    alone = flat(epoch(make([corpus], shuffle=False, **some)))
    ranks = len(alone) + 1
    of_ranks = [epoch(make([corpus], shuffle=False, rank=rank, world_size=ranks, **some)) for rank in range(ranks)]
    assert [] in of_ranks
    assert flat(flat(of_ranks)) == alone
    for rank in (0, ranks - 1):  # in training every rank refuses
        with pytest.raises(SettingsError, match="too few for one batch"):
            make([corpus], rank=rank, world_size=ranks, **some)


def test_a_part_without_a_window_is_refused_on_every_rank(tiny_corpus, tmp_path):
    path = tiny_corpus.write(tmp_path / "corpus", tiny_corpus.sections[:1])
    file = path / "splits" / "block.json"
    split = json.loads(file.read_text())
    split["parts"]["test"]["left"] = [[0, 1]]
    file.write_text(json.dumps(split))
    for rank in range(2):
        with pytest.raises(SettingsError, match="0 tissues are selected"):
            tissue_loader([Corpus.open(path)], split="block", part="test", shuffle=False, rank=rank, world_size=2)
