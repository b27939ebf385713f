"""Gene models against independent implementations: transformers, or the formulas written out cell by cell."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from tests.unit.bench.published import by_hand, gene_folders
from tests.unit.bench.published.layouts import Tensors, write_json
from tests.unit.bench.published.toy import IDS, SYMBOLS, N, make_problem

from spatia.bench.methods.method import Problem
from spatia.bench.published import cellplm, scgpt, uce
from spatia.bench.published.registry import published_method
from spatia.errors import ModelError, SettingsError

CELLS = range(N - 1)  # the last has no molecule


def embedding(name: str, folder: Path, problem: Problem) -> torch.Tensor:
    embed = published_method(name, folder).embed
    assert embed is not None
    return torch.from_numpy(embed(problem))


def counts_by_name(problem: Problem, names: tuple[str, ...], cell: int) -> dict[str, int]:
    """Detected genes of a cell that a vocabulary knows: all but the last."""
    row = problem.cells.counts[cell].toarray()[0]
    return {name: int(row[at]) for at, name in enumerate(names[:-1]) if row[at]}


@pytest.mark.parametrize("special", [True, False], ids=["V2", "V1"])
def test_geneformer_is_the_bert_of_transformers_over_ranked_genes(
    special: bool, tmp_path: Path, problem: Problem
) -> None:
    transformers = pytest.importorskip("transformers")
    folder = gene_folders.write_geneformer(tmp_path, special=special)
    found = embedding("geneformer", folder, problem)
    bert = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    first_gene = 4 if special else 2
    token = {gene: first_gene + at for at, gene in enumerate(reversed(IDS[:-1]))}
    median = {gene: 1 + at for at, gene in enumerate(IDS[:-1])}
    for cell in CELLS:
        value = {gene: count / median[gene] for gene, count in counts_by_name(problem, IDS, cell).items()}
        ranked = sorted(value, key=lambda gene: (-value[gene], token[gene]))
        room = 10 - 2 * special
        ids = [token[gene] for gene in ranked[:room]]
        whole = [2, *ids, 3] if special else ids
        with torch.no_grad():
            states = bert(torch.tensor([whole]), output_hidden_states=True).hidden_states[-2][0]
        genes = states[1:-1] if special else states
        torch.testing.assert_close(found[cell], genes.mean(0), atol=1e-5, rtol=1e-5)
    assert not found[-1].any()


def test_geneformer_takes_the_state_of_cls_where_the_folder_asks_for_it(tmp_path: Path, problem: Problem) -> None:
    transformers = pytest.importorskip("transformers")
    folder = gene_folders.write_geneformer(tmp_path / "V2")
    mean = embedding("geneformer", folder, problem)
    write_json(folder / "spatia.json", {"emb_mode": "cls"})
    found = embedding("geneformer", folder, problem)
    bert = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    token = {gene: 4 + at for at, gene in enumerate(reversed(IDS[:-1]))}
    median = {gene: 1 + at for at, gene in enumerate(IDS[:-1])}
    value = {gene: count / median[gene] for gene, count in counts_by_name(problem, IDS, CELLS[0]).items()}
    ranked = sorted(value, key=lambda gene: (-value[gene], token[gene]))[:8]
    with torch.no_grad():
        states = bert(torch.tensor([[2, *(token[gene] for gene in ranked), 3]]), output_hidden_states=True)
    torch.testing.assert_close(found[CELLS[0]], states.hidden_states[-2][0, 0], atol=1e-5, rtol=1e-5)
    assert not torch.isclose(found[CELLS[0]], mean[CELLS[0]]).all()
    assert not found[-1].any()
    first = gene_folders.write_geneformer(tmp_path / "V1", special=False)
    write_json(first / "spatia.json", {"emb_mode": "cls"})
    with pytest.raises(ModelError, match=r"emb_mode is 'cls', but .* has no <cls>. Expected 'cell'"):
        embedding("geneformer", first, problem)
    write_json(first / "spatia.json", {"emb_mode": "gene"})
    with pytest.raises(SettingsError, match="emb_mode"):
        embedding("geneformer", first, problem)


def test_geneformer_refuses_the_dictionary_of_another_version(tmp_path: Path, problem: Problem) -> None:
    folder = gene_folders.write_geneformer(tmp_path)
    write_json(folder / "token_dictionary.json", {"<pad>": 0, "<mask>": 1, IDS[0]: 999})
    with pytest.raises(ModelError, match=r"token 999 for a vocabulary of 16"):
        embedding("geneformer", folder, problem)
    write_json(folder / "token_dictionary.json", {"<pad>": 0, "<cls>": 1})
    with pytest.raises(ModelError, match="both or neither"):
        embedding("geneformer", folder, problem)


def test_scgpt_is_its_formulas(tmp_path: Path, problem: Problem) -> None:
    kept: Tensors = {}
    folder = gene_folders.write_scgpt(tmp_path, kept.update)
    found = embedding("scgpt", folder, problem)
    token = {name: at for at, name in enumerate((*reversed(SYMBOLS[:-1]), "<pad>", "<cls>"))}
    for cell in range(N):
        counts = counts_by_name(problem, SYMBOLS, cell)
        names = sorted(counts, key=lambda name: token[name])
        rng = np.random.default_rng([problem.seed, cell])
        bins = scgpt.binned(np.array([counts[name] for name in names], float), 51, rng) if names else []
        ids = torch.tensor([token["<cls>"], *(token[name] for name in names)])
        values = torch.tensor([-2.0, *bins])[:, None]
        gene = by_hand.norm(kept, "encoder.enc_norm", kept["encoder.embedding.weight"][ids])
        hidden = by_hand.linear(kept, "value_encoder.linear1", values).relu()
        x = gene + by_hand.norm(kept, "value_encoder.norm", by_hand.linear(kept, "value_encoder.linear2", hidden))
        for layer in range(2):
            x = by_hand.torch_layer(kept, f"transformer_encoder.layers.{layer}", x, heads=2, joint="Wqkv.")
        torch.testing.assert_close(found[cell], x[0] / x[0].norm(), atol=1e-5, rtol=1e-5)


def test_scgpt_bins_by_quantiles_and_shares_out_equal_edges() -> None:
    spread = scgpt.binned(np.arange(1.0, 51.0), 51, np.random.default_rng(0))
    assert list(spread) == list(range(1, 51))
    ties = scgpt.binned(np.ones(5000), 51, np.random.default_rng(0))
    assert ties.min() == 1
    assert ties.max() == 50
    assert np.abs(np.bincount(ties, minlength=51)[1:] - 100).max() < 50
    rng = np.random.default_rng(1)
    counts = rng.poisson(1.0, 300) + 1.0
    bins = scgpt.binned(counts, 51, rng)
    assert all(bins[counts == low].max() <= bins[counts == low + 1].min() for low in (1, 2))


def test_scgpt_keeps_a_random_set_of_very_many_genes(
    tmp_path: Path, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = gene_folders.write_scgpt(tmp_path)
    whole = embedding("scgpt", folder, problem)
    monkeypatch.setattr(scgpt, "LONGEST", 4)
    few = embedding("scgpt", folder, problem)
    assert not torch.allclose(few, whole)
    assert not torch.allclose(few, embedding("scgpt", folder, replace(problem, seed=1)))


def uce_by_hand(kept: Tensors, ids: list[int]) -> torch.Tensor:
    protein = kept["pe_embedding.weight"][torch.tensor(ids)]
    protein = protein / protein.norm(dim=1, keepdim=True)
    x = torch.nn.functional.gelu(by_hand.linear(kept, "encoder.0", protein))
    x = by_hand.norm(kept, "encoder.2", x) * 8**0.5
    for layer in range(2):
        x = by_hand.torch_layer(kept, f"transformer_encoder.layers.{layer}", x, heads=2)
    out = x[0]
    for block in range(3):
        out = torch.nn.functional.gelu(
            by_hand.norm(kept, f"decoder.{block}.1", by_hand.linear(kept, f"decoder.{block}.0", out))
        )
    out = by_hand.linear(kept, "decoder.3", out)
    return out / out.norm()


def test_uce_is_its_formulas_over_drawn_genes(
    tmp_path: Path, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: Tensors = {}
    folder = gene_folders.write_uce(tmp_path, kept.update)
    sentences: list[list[int]] = []
    forward = uce.Uce.forward

    def listen(self: uce.Uce, tokens: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        sentences.extend(row[~out].tolist() for row, out in zip(tokens, padding, strict=True))
        return forward(self, tokens, padding)

    monkeypatch.setattr(uce.Uce, "forward", listen)
    found = embedding("uce", folder, problem)
    row = {name: gene_folders.UCE_OFFSET + at for at, name in enumerate(reversed(SYMBOLS[:-1]))}
    # categories are ordered as text over both species: human_1, human_2, human_3, mouse_X
    chromosome = {row[name]: 24 + at % 3 for at, name in enumerate(SYMBOLS[:-1])}
    start = {row[name]: 100 - at for at, name in enumerate(SYMBOLS[:-1])}
    detected = {cell: {row[name] for name in counts_by_name(problem, SYMBOLS, cell)} for cell in CELLS}
    seen = set()
    for ids in sentences:
        genes = [one for one in ids if one in chromosome]
        if not genes:
            continue
        assert ids[0] == 3
        assert len(genes) == 40
        # each chromosome once: its name, its genes by their start, the closing token
        bounds = [at for at, one in enumerate(ids) if one >= 24]
        assert len({ids[at] for at in bounds}) == len(bounds)
        for at, end in zip(bounds, [*bounds[1:], len(ids)], strict=True):
            inside = ids[at + 1 : end]
            assert inside[-1] == 2
            assert {chromosome[gene] for gene in inside[:-1]} == {ids[at]}
            assert [start[gene] for gene in inside[:-1]] == sorted(start[gene] for gene in inside[:-1])
        cells = [cell for cell in CELLS if set(genes) <= detected[cell]]
        near = min(cells, key=lambda cell: (found[cell] - uce_by_hand(kept, ids)).abs().max().item())
        torch.testing.assert_close(found[near], uce_by_hand(kept, ids), atol=1e-5, rtol=1e-5)
        seen.add(near)
    assert seen == set(CELLS)
    assert not found[-1].any()


def test_uce_draws_a_gene_by_the_log_of_its_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = gene_folders.write_uce(tmp_path)
    write_json(folder / "spatia.json", {"heads": 2, "sample_size": 20_000, "chromosome_offset": 24})
    counts = np.zeros((N, 12), np.int64)
    counts[:, :2] = [1, 7]
    drawn: list[torch.Tensor] = []
    monkeypatch.setattr(uce.Uce, "forward", lambda self, ids, out: drawn.append(ids) or torch.ones(len(ids), 6))
    embedding("uce", folder, make_problem(counts))
    share = (drawn[0] == 16).sum() / (
        (drawn[0] == 16).sum() + (drawn[0] == 15).sum()
    )  # GENE0 is the last but one protein
    assert share.item() == pytest.approx(1 / 4, abs=0.02)  # log 2 beside log 8


def test_cellplm_is_flow_attention_between_the_cells_of_a_section(tmp_path: Path, problem: Problem) -> None:
    kept: Tensors = {}
    folder = gene_folders.write_cellplm(tmp_path, kept.update)
    found = embedding("cellplm", folder, problem)
    order = np.arange(len(IDS) - 1)[::-1].copy()  # the vocabulary holds the genes in reverse
    values = torch.from_numpy(np.log1p(problem.cells.counts.toarray()[:, order])).float()
    for rows in (range(5), range(5, N)):
        x = by_hand.linear(kept, "embedder.extra_linear.0", values[list(rows)] @ kept["embedder.feat_enc.emb"]).relu()
        groups = x.view(len(rows), 4, 2)
        scaled = (groups - groups.mean(2, keepdim=True)) / (groups.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
        x = scaled.view(len(rows), 8) * kept["embedder.extra_linear.3.weight"] + kept["embedder.extra_linear.3.bias"]
        for layer in range(2):
            name = f"encoder.layers.{layer}"
            x = x + flow_by_hand(kept, f"{name}.self_attn", by_hand.norm(kept, f"{name}.norm1", x))
            hidden = by_hand.linear(kept, f"{name}._ff_block.0", by_hand.norm(kept, f"{name}.norm2", x))
            x = x + by_hand.linear(kept, f"{name}._ff_block.3", torch.nn.functional.gelu(hidden))
        x = by_hand.norm(kept, "pre_latent_norm.norm", x)
        cluster = torch.eye(3)[by_hand.linear(kept, f"{cellplm.LATENT}inference_qyx.0.logits", x).argmax(1)]
        hidden = by_hand.linear(kept, f"{cellplm.LATENT}inference_qzyx.0", torch.cat([x, cluster], 1)).relu()
        expected = by_hand.linear(kept, f"{cellplm.LATENT}inference_qzyx.2.mu", hidden)
        torch.testing.assert_close(found[list(rows)], expected, atol=1e-4, rtol=1e-4)


def flow_by_hand(kept: Tensors, name: str, x: torch.Tensor) -> torch.Tensor:
    """The sums of Flow attention, cell by cell."""
    eps, n, parts = 1e-6, len(x), []
    projected = [
        by_hand.linear(kept, f"{name}.{part}_projection", x).chunk(2, -1) for part in ("query", "key", "value")
    ]
    for q, k, v in zip(*projected, strict=True):
        q, k = q.sigmoid(), k.sigmoid()
        incoming = [1 / sum((q[i] + eps) @ (k[j] + eps / n) for j in range(n)) for i in range(n)]
        outgoing = [1 / sum((k[j] + eps) @ (q[i] + eps / n) for i in range(n)) for j in range(n)]
        sink = [(q[i] + eps) @ (sum(k[j] * outgoing[j] for j in range(n)) + eps) for i in range(n)]
        source = torch.stack([(k[j] + eps) @ (sum(q[i] * incoming[i] for i in range(n)) + eps) for j in range(n)])
        compete = source.clamp(-1, 1).softmax(0) * n
        mixed = sum(torch.outer(k[j], v[j] * compete[j]) for j in range(n))
        parts.append(torch.stack([(q[i] * incoming[i]) @ mixed * sink[i].sigmoid() for i in range(n)]))
    return by_hand.linear(kept, f"{name}.out_projection", torch.cat(parts, -1))


def test_cellplm_permutes_with_its_cells_and_cuts_large_sections(
    tmp_path: Path, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = gene_folders.write_cellplm(tmp_path)
    found = embedding("cellplm", folder, problem)
    order = np.array([3, 1, 4, 0, 2, *range(5, N)])
    turned = replace(problem, cells=replace(problem.cells, counts=sp.csr_matrix(problem.cells.counts[order])))
    torch.testing.assert_close(embedding("cellplm", folder, turned), found[order], atol=1e-5, rtol=1e-4)
    monkeypatch.setattr(cellplm, "AT_ONCE", 3)
    assert not torch.allclose(embedding("cellplm", folder, problem), found)
    write_json(folder / "20230926_85M.config.json", gene_folders.CELLPLM | {"enc_mod": "performer"})
    with pytest.raises(SettingsError, match="enc_mod is 'performer'"):
        published_method("cellplm", folder).embed(problem)  # type: ignore[misc]


def test_nicheformer_is_its_formulas(tmp_path: Path, problem: Problem) -> None:
    kept: Tensors = {}
    folder = gene_folders.write_nicheformer(tmp_path, kept.update)
    found = embedding("nicheformer", folder, problem)
    token = {gene: 30 + at for at, gene in enumerate(reversed(IDS[:-1]))}
    for cell in CELLS:
        mean = {gene: max(token[gene] - 30, 1) for gene in token}  # 0, 1, 2 … with 1 in place of 0
        value = {gene: count / mean[gene] for gene, count in counts_by_name(problem, IDS, cell).items()}
        ranked = sorted(value, key=lambda gene: (-value[gene], token[gene]))[:11]
        ids = torch.tensor(
            [5, 9, 4, *(token[gene] for gene in ranked)] + [1] * (11 - len(ranked))
        )  # human, Xenium, spatial
        x = kept["nicheformer.embeddings.weight"][ids] + kept["nicheformer.positional_embedding.weight"]
        for layer in range(2):
            x = by_hand.torch_layer(kept, f"nicheformer.encoder.layers.{layer}", x, heads=2, used=ids != 1, eps=1e-12)
        torch.testing.assert_close(found[cell], x[3:].mean(0), atol=1e-5, rtol=1e-5)
    assert not found[-1].any()


def test_nicheformer_reads_the_authors_checkpoint_and_names_what_it_cannot_know(
    tmp_path: Path, problem: Problem
) -> None:
    kept: Tensors = {}
    folder = gene_folders.write_nicheformer(tmp_path, kept.update)
    found = embedding("nicheformer", folder, problem)
    (folder / "model.safetensors").unlink()
    plain = {name.removeprefix("nicheformer."): value for name, value in kept.items() if name != "nicheformer.pos"}
    plain |= {"cls_head.weight": torch.ones(164, 8), "pooler_head.bias": torch.ones(8)}
    torch.save({"state_dict": plain, "hyper_parameters": {"lr": 7e-4}}, folder / "nicheformer.ckpt")
    torch.testing.assert_close(embedding("nicheformer", folder, problem), found)
    write_json(folder / "spatia.json", {"modality": "dissociated"})
    assert not torch.allclose(embedding("nicheformer", folder, problem), found)
    for section in problem.cells.corpus.sections.values():
        section.entry.platform = "stereo-seq"  # type: ignore[misc]
    with pytest.raises(ModelError, match=r"platform 'stereo-seq'; the model knows merfish, cosmx, xenium"):
        embedding("nicheformer", folder, problem)
    write_json(folder / "spatia.json", {"assay": "xenium"})
    torch.testing.assert_close(embedding("nicheformer", folder, problem), found)
    np.save(folder / "xenium_mean_script.npy", np.ones(3))
    with pytest.raises(ModelError, match=r"shape \(3,\), expected \(11,\)"):
        embedding("nicheformer", folder, problem)


def test_scfoundation_is_its_formulas(tmp_path: Path, problem: Problem) -> None:
    kept: Tensors = {}
    folder = gene_folders.write_scfoundation(tmp_path, kept.update)
    found = embedding("scfoundation", folder, problem)
    assert found.shape == (N, 4 * 8)
    kept = {name.removeprefix("model."): value for name, value in kept.items()}
    at = {name: place for place, name in enumerate(reversed(SYMBOLS[:-1]))}
    for cell in CELLS:
        counts = counts_by_name(problem, SYMBOLS, cell)
        names, total = sorted(counts, key=lambda name: at[name]), sum(counts.values())
        values = [np.log1p(counts[name] / total * 1e4) for name in names]
        value = torch.tensor([*values, 4.0, np.log10(total)], dtype=torch.float32)[:, None]
        hidden = by_hand.linear(kept, "token_emb.mlp", value)
        hidden = torch.where(hidden > 0, hidden, 0.1 * hidden)
        bins = (hidden + by_hand.linear(kept, "token_emb.mlp2", hidden)).softmax(-1)
        x = bins @ kept["token_emb.emb.weight"]
        x = x + kept["pos_emb.weight"][torch.tensor([*(at[name] for name in names), 11, 12])]
        for layer in range(2):
            x = by_hand.torch_layer(kept, f"encoder.transformer_encoder.{layer}", x, heads=2)
        x = by_hand.norm(kept, "encoder.norm", x)
        expected = torch.cat([x[-1], x[-2], x[:-2].max(0).values, x[:-2].mean(0)])
        torch.testing.assert_close(found[cell], expected, atol=1e-5, rtol=1e-5)
    assert not found[-1].any()


def test_scfoundation_says_which_part_it_misses(tmp_path: Path, problem: Problem) -> None:
    folder = gene_folders.write_scfoundation(tmp_path)
    torch.save({"gene": {}}, folder / "models.ckpt")
    with pytest.raises(ModelError, match=r"expected cell/config.*missing 'cell'"):
        embedding("scfoundation", folder, problem)
