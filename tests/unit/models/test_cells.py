"""The cell level: what is not measured or not shown cannot change an embedding; company and order cannot either."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from spatia.errors import ModelError


def test_order_and_company_do_not_change_an_embedding(setup: Any) -> None:
    with torch.inference_mode():
        together = setup.model.encode_cells(setup.batch(0, [0, 1, 2, 3, 4, 5])).cell
        turned = setup.model.encode_cells(setup.batch(0, [5, 3, 1, 0, 2, 4])).cell
        alone = torch.cat([setup.model.encode_cells(setup.batch(0, [row])).cell for row in range(6)])
    torch.testing.assert_close(turned, together[[5, 3, 1, 0, 2, 4]], rtol=0, atol=1e-5)
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)


def test_inference_is_deterministic(setup: Any) -> None:
    batch = setup.batch(0, [0, 1, 2])
    assert torch.equal(setup.model.encode_cells(batch).cell, setup.model.encode_cells(batch).cell)


def test_a_gene_that_is_not_measured_cannot_change_an_embedding(setup: Any) -> None:
    batch = setup.batch(0, [0, 1, 2])
    measured = batch.measured[0]
    assert not measured.all()
    planted = replace(batch)
    object.__setattr__(planted, "counts", batch.counts + 7 * ~measured)  # past the batch's own check
    assert torch.equal(setup.model.encode_cells(planted).cell, setup.model.encode_cells(batch).cell)


def test_a_hidden_gene_cannot_change_an_embedding(setup: Any) -> None:
    batch = setup.batch(0, [0, 1, 2])
    visible = torch.ones(batch.counts.shape[1], dtype=torch.bool)
    visible[0] = False
    changed = batch.counts.clone()
    changed[:, 0] += 9
    one = setup.model.encode_cells(batch, visible_genes=visible).cell
    two = setup.model.encode_cells(replace(batch, counts=changed), visible_genes=visible).cell
    assert torch.equal(one, two)
    assert not torch.equal(one, setup.model.encode_cells(batch).cell)


def test_each_modality_changes_the_fused_embedding_and_not_the_others_own(setup: Any) -> None:
    batch = setup.batch(0, [0, 1, 2])
    other = replace(batch, images=(255 - batch.images) * batch.channels_present[:, :, None, None])
    one, two = setup.model.encode_cells(batch), setup.model.encode_cells(other)
    assert not torch.allclose(one.cell, two.cell)
    assert torch.equal(one.genes, two.genes)
    assert not torch.allclose(one.image, two.image)


def test_a_modality_that_is_not_used_cannot_change_an_embedding(setup: Any) -> None:
    batch = setup.batch(0, [0, 1, 2])
    image_only = setup.model.encode_cells(batch, use=("image",))
    changed = replace(batch, counts=(batch.counts + 1) * batch.measured)
    assert torch.equal(image_only.cell, setup.model.encode_cells(changed, use=("image",)).cell)
    assert not image_only.genes_used.any()


def test_cells_without_an_image_are_as_if_the_image_was_not_used(setup: Any) -> None:
    bare = setup.batch(2, [0, 1, 2])  # a section without image
    assert not bare.image_present.any()
    both, genes = setup.model.encode_cells(bare), setup.model.encode_cells(bare, use=("genes",))
    torch.testing.assert_close(both.cell, genes.cell, rtol=0, atol=1e-6)
    assert not both.image_used.any()


def test_an_absent_channel_cannot_change_an_embedding(setup: Any) -> None:
    batch = setup.batch(1, [0, 1, 2])  # has not all channels of the vocabulary
    absent = ~batch.channels_present
    assert absent.any()
    planted = replace(batch)
    object.__setattr__(planted, "images", batch.images + 50 * absent.to(torch.uint8)[:, :, None, None])
    assert torch.equal(setup.model.encode_cells(planted).cell, setup.model.encode_cells(batch).cell)


def test_crops_of_another_size_are_refused(setup: Any) -> None:
    batch = setup.batch(0, [0])
    small = replace(batch, images=batch.images[..., :4, :4])
    with pytest.raises(ModelError, match="4 px; the model expects"):
        setup.model.encode_cells(small)


def test_a_drawing_has_the_shape_and_range_of_a_crop(setup: Any) -> None:
    batch = setup.batch(0, [0, 1])
    drawn = setup.model.draw(setup.model.encode_cells(batch, use=("genes",)))
    assert drawn.shape == batch.images.shape
    assert drawn.min() >= 0
    assert drawn.max() <= 255


def test_at_step_0_the_embedding_is_the_linear_summary(setup: Any) -> None:
    fresh = type(setup.model)(setup.model.config, setup.model.vocabulary, setup.statistics).eval()
    batch = setup.batch(0, [0, 1, 2, 3])
    cell = fresh.encode_cells(batch, use=("genes",)).cell
    k = min(setup.statistics.gene_directions.shape[1], fresh.config.summary_width - 1)
    expression, depth = fresh.gene_encoder.expression(
        type("Genes", (), {"counts": batch.counts, "visible": batch.measured})()
    )
    expected = fresh.gene_encoder.summarise(expression, batch.measured, depth)
    torch.testing.assert_close(cell[:, : fresh.config.summary_width], expected)
    assert cell[:, :k].std(dim=0).max() > 0
    assert cell[:, fresh.config.summary_width :].abs().max() == 0  # no image was used
