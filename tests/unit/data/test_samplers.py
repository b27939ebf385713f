"""Which rows make which batch: coverage, ranks, resume, balance. Pure numpy."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatia.data.samplers import BlockStream, CellPlan, GroupPlan, RepeatStream, Share, balanced_repeats
from spatia.errors import SettingsError


def pairs(draw):
    return list(zip(draw.section.tolist(), draw.row.tolist(), strict=True))


def batches(plan):
    return [pairs(draw) for pool in range(len(plan.pool_starts) - 1) for draw in plan.pool(pool)]


def flat(lists):
    return [item for items in lists for item in items]


@st.composite
def selections(draw):
    """Row ranges of one to three sections, some empty."""
    sections = []
    for _ in range(draw(st.integers(1, 3))):
        edges = sorted(draw(st.sets(st.integers(0, 150), max_size=8)))
        edges = edges[: len(edges) // 2 * 2]
        sections.append(np.array(edges, np.int64).reshape(-1, 2))
    return sections


def rows_of(ranges):
    return [(section, row) for section, r in enumerate(ranges) for a, b in r.tolist() for row in range(a, b)]


@given(selections(), st.integers(1, 40), st.integers(0, 5))
def test_block_stream_is_a_permutation_that_keeps_blocks_together(ranges, block_rows, seed):
    stream = BlockStream(ranges, block_rows, np.random.default_rng(seed))
    drawn = pairs(stream.segment(0, len(stream)))
    assert sorted(drawn) == rows_of(ranges)
    blocks = [(section, row // block_rows) for section, row in drawn]
    changes = sum(a != b for a, b in pairwise(blocks))
    assert changes == max(0, len(set(blocks)) - 1)


@given(selections(), st.integers(1, 40), st.data())
def test_any_segment_of_a_stream_equals_the_same_cut_of_the_whole(ranges, block_rows, data):
    stream = BlockStream(ranges, block_rows, np.random.default_rng(0))
    start = data.draw(st.integers(0, len(stream)))
    stop = data.draw(st.integers(start, len(stream)))
    assert pairs(stream.segment(start, stop)) == pairs(stream.segment(0, len(stream)))[start:stop]


@given(selections(), st.integers(1, 9), st.integers(1, 4), st.integers(1, 3))
def test_training_ranks_are_disjoint_equal_and_drop_less_than_a_batch_each(ranges, batch_size, pool, world_size):
    def plan(rank):
        share = Share(seed=1, epoch=2, shuffle=True, rank=rank, world_size=world_size)
        return CellPlan(BlockStream(ranges, 8, share.rng(0)), batch_size, pool, share)

    of_rank = [batches(plan(rank)) for rank in range(world_size)]
    assert len({len(b) for b in of_rank}) == 1
    assert all(len(batch) == batch_size for rank in of_rank for batch in rank)
    drawn = flat(flat(of_rank))
    assert len(set(drawn)) == len(drawn)
    dropped = len(rows_of(ranges)) - len(drawn)
    assert set(drawn) <= set(rows_of(ranges))
    assert 0 <= dropped < batch_size * world_size


@given(selections(), st.integers(1, 9), st.integers(1, 4), st.integers(1, 3))
def test_evaluation_covers_every_row_once_in_order(ranges, batch_size, pool, world_size):
    def plan(rank):
        share = Share(seed=1, epoch=0, shuffle=False, rank=rank, world_size=world_size)
        return CellPlan(BlockStream(ranges, 8, None), batch_size, pool, share)

    of_rank = [batches(plan(rank)) for rank in range(world_size)]
    assert flat(flat(of_rank)) == rows_of(ranges)
    assert max(map(len, of_rank)) - min(map(len, of_rank)) <= 1


def test_epochs_and_seeds_differ_and_repeat():
    def order(seed, epoch):
        share = Share(seed=seed, epoch=epoch, shuffle=True, rank=0, world_size=1)
        return flat(batches(CellPlan(BlockStream([np.array([[0, 500]])], 16, share.rng(0)), 10, 5, share)))

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1) != order(1, 0)
    assert order(0, 0) != sorted(order(0, 0))


def test_a_pool_mixes_blocks_of_all_sections():
    share = Share(seed=0, epoch=0, shuffle=True, rank=0, world_size=1)
    ranges = [np.array([[0, 2000]]), np.array([[0, 2000]])]
    plan = CellPlan(BlockStream(ranges, 16, share.rng(0)), 64, 16, share)
    for draw in plan.pool(0):
        assert 8 < draw.section.sum() < 56  # of 64
        assert len(set((draw.row // 16).tolist())) > 20


sizes_of_groups = st.lists(st.integers(0, 30), min_size=1, max_size=60)


@given(sizes_of_groups, st.integers(1, 50), st.integers(1, 8), st.integers(1, 200), st.integers(1, 3))
@settings(max_examples=200)
def test_groups_are_whole_capped_and_covered(sizes, max_cells, max_groups, pool_cells, world_size):
    sizes = np.array(sizes)
    ranges = [np.array([[0, len(sizes)]])]

    def plan(rank, shuffle):
        share = Share(seed=3, epoch=1, shuffle=shuffle, rank=rank, world_size=world_size)
        stream = BlockStream(ranges, 4, share.rng(0) if shuffle else None)
        limits = {"max_cells": max_cells, "max_groups": max_groups, "pool_cells": pool_cells}
        return GroupPlan(stream, [sizes], **limits, share=share)

    for shuffle in (False, True):
        of_rank = [batches(plan(rank, shuffle)) for rank in range(world_size)]
        for batch in flat(of_rank):
            cells = sum(sizes[row] for _, row in batch)
            assert 1 <= len(batch) <= max_groups
            assert cells <= max_cells or len(batch) == 1
        drawn = flat(flat(of_rank))
        assert len(set(drawn)) == len(drawn)
        if not shuffle:
            assert drawn == rows_of(ranges)
        else:
            assert len({len(b) for b in of_rank}) == 1
            assert world_size > 1 or sorted(drawn) == rows_of(ranges)


def test_group_batches_hold_groups_of_like_size():
    sizes = np.random.default_rng(0).integers(5, 60, 2000)
    share = Share(seed=0, epoch=0, shuffle=True, rank=0, world_size=1)
    stream = BlockStream([np.array([[0, 2000]])], 10, share.rng(0))
    plan = GroupPlan(stream, [sizes], max_cells=500, max_groups=100, pool_cells=20_000, share=share)
    padded = sum(len(b) * max(sizes[row] for _, row in b) for b in batches(plan))
    assert padded < 1.15 * sizes.sum()  # in random order it is about 1.8


def test_repeats_follow_the_class_weights():
    rng = np.random.default_rng(0)
    codes = [np.array([0] * 900 + [1] * 90), np.array([1] * 10 + [-1] * 50)]
    repeats = balanced_repeats(codes, np.array([1.0, 3.0]), rng, max_repeats=20)
    of_class = [sum(int(k[c == code].sum()) for k, c in zip(repeats, codes, strict=True)) for code in (0, 1)]
    assert of_class[0] == pytest.approx(250, rel=0.15)
    assert of_class[1] == pytest.approx(750, rel=0.05)
    assert repeats[1][10:].sum() == 0
    capped = balanced_repeats(codes, np.array([1.0, 3.0]), rng, max_repeats=2)
    assert max(int(k.max()) for k in capped) == 2
    with pytest.raises(SettingsError, match="No cell to draw"):
        balanced_repeats([np.array([-1])], np.array([1.0]), rng, 2)


@given(st.lists(st.lists(st.integers(0, 4), max_size=40), min_size=1, max_size=3), st.integers(1, 10))
def test_repeat_stream_draws_each_row_as_often_as_wanted(repeats, block_rows):
    repeats = [np.array(k, np.int64) for k in repeats]
    stream = RepeatStream(repeats, block_rows, np.random.default_rng(0))
    drawn = pairs(stream.segment(0, len(stream)))
    wanted = [(s, row) for s, k in enumerate(repeats) for row, times in enumerate(k) for _ in range(times)]
    assert sorted(drawn) == wanted


def test_repeats_of_a_row_are_spread_over_the_epoch():
    stream = RepeatStream([np.full(1000, 4)], 50, np.random.default_rng(0))
    row = stream.segment(0, len(stream)).row
    gaps = [np.diff(np.flatnonzero(row == r)).min() for r in range(0, 1000, 50)]
    assert min(gaps) >= 50  # never twice within a block
