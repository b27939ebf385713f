"""The parts of a generator together: what it is told, what it is trained on, what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from spatia.errors import ModelError, SettingsError, TrainingError
from spatia.generation.batch import GenerationBatch
from spatia.generation.checkpoint import MODEL_FOLDER, load_generator, save_generator
from spatia.generation.condition import ConditionEncoder, drop_conditions
from spatia.generation.coupling import COUPLINGS, Ends, couple
from spatia.generation.generator import NETWORKS, CellGenerator, ImageSpace
from spatia.generation.intensities import Intensities
from spatia.generation.noise import draw_times, gaussian
from spatia.generation.objective import GeneratorObjective, GeneratorWeights
from spatia.generation.proxy import MorphologyProxy, ProxyObjective
from spatia.generation.settings import (
    SELF,
    DropSettings,
    GeneratorConfig,
    NetworkSettings,
    PathSettings,
    SolverSettings,
)

SPACE = ImageSpace(("DAPI", "RNA"), 16, 0.425, (0.2, 0.3), (0.2, 0.1))
SMALL = {"kind": "transformer", "width": 16, "layers": 2, "heads": 2, "patch_px": 4, "stem": 8, "levels": 3}
ROWS = 6
NOTHING_DROPPED = DropSettings(each=0.0, all=0.0)


def make_batch(*, pairs: bool = False, seed: int = 0) -> GenerationBatch:
    generator = torch.Generator().manual_seed(seed)
    conditions = {
        "genes": torch.randn(ROWS, 5, generator=generator),
        "niche": torch.randn(ROWS, 3, generator=generator),
    }
    if pairs:
        conditions = {
            "control": torch.randn(ROWS, 5, generator=generator),
            "transition": torch.eye(2)[torch.arange(ROWS) % 2],
        }

    def pixels() -> torch.Tensor:
        return torch.randint(0, 256, (ROWS, 2, 16, 16), generator=generator, dtype=torch.uint8)

    return GenerationBatch(
        section=torch.zeros(ROWS, dtype=torch.int64),
        row=torch.arange(ROWS),
        key=torch.arange(ROWS),
        target=pixels(),
        channels_present=torch.ones(ROWS, 2, dtype=torch.bool),
        conditions=conditions,
        known={name: torch.ones(ROWS, dtype=torch.bool) for name in conditions},
        source=pixels() if pairs else None,
        confidence=torch.linspace(0.1, 1, ROWS) if pairs else None,
        morphology=torch.randn(ROWS, 3, generator=generator),
        morphology_measured=torch.ones(ROWS, 3, dtype=torch.bool),
    )


def make_generator(
    batch: GenerationBatch, *, awake: bool = True, channels: tuple[str, ...] | None = None, **settings: Any
) -> CellGenerator:
    values = {"network": SMALL, "conditions": tuple(batch.conditions), **settings}
    config = GeneratorConfig.model_validate(values)
    torch.manual_seed(0)
    widths = {name: value.shape[1] for name, value in batch.conditions.items()}
    generator = CellGenerator(config, SPACE, widths, channels)
    if awake:  # layers that start at zero would hide what stands before them
        with torch.no_grad():
            for parameter in generator.parameters():
                parameter += 0.1 * torch.randn(parameter.shape)
    return generator.eval()


def objective(generator: CellGenerator, weights: dict[str, float], **more: Any) -> GeneratorObjective:
    values = {"flow": 1.0, "contrastive": 0.0, "morphology": 0.0, "adversarial": 0.0} | weights
    return GeneratorObjective(generator, GeneratorWeights(**values), NOTHING_DROPPED, 0, **more)


# --- every combination that makes sense runs; the others say why not


@pytest.mark.parametrize("network", list(NETWORKS))
@pytest.mark.parametrize(
    "path",
    [
        {"kind": "linear", "prediction": "image"},
        {"kind": "linear", "prediction": "velocity"},
        {"kind": "diffusion", "prediction": "velocity"},
        {"kind": "diffusion", "prediction": "noise"},
    ],
)
@pytest.mark.parametrize("coupling", [name for name in COUPLINGS if name != SELF])
def test_every_combination_that_makes_sense_learns_and_draws(network: str, path: dict[str, str], coupling: str) -> None:
    batch = make_batch(pairs=True)
    settings = {"task": "transition", "coupling": coupling, "path": path, "network": {**SMALL, "kind": network}}
    if path["kind"] == "diffusion" and coupling != "noise":
        with pytest.raises(SettingsError, match=f"path.kind=diffusion with coupling={coupling}"):
            make_generator(batch, **settings)
        return
    generator = make_generator(batch, **settings)
    terms = objective(generator, {"contrastive": 0.1})(batch, 0)
    (terms["flow"].total + 0.1 * terms["contrastive"].total).backward()
    assert all(parameter.grad is not None for parameter in generator.network.parameters())
    start = generator.scale(batch.source) if coupling != "noise" else gaussian(batch.key, (2, 16, 16), 1)
    for kind in ("euler", "midpoint", "heun", "adaptive"):
        solver = SolverSettings(kind=kind, evaluations=7)
        drawn = generator.unscale(generator.sample(start, batch.conditions, batch.known, solver=solver).x)
        assert drawn.dtype == torch.uint8
        assert drawn.shape == batch.target.shape


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"coupling": "ot"}, "coupling=ot with task=expression-to-image: there is no source cell"),
        ({"conditions": ("control",)}, "conditions: control is not known to task=expression-to-image"),
        ({"task": "transition", "level": "niche"}, "level=niche with task=transition"),
        ({"network": {"width": 20}}, "multiple of 8"),
        ({"network": {"width": 24, "heads": 5}}, "network.width 24 is not a multiple of network.heads 5"),
        ({"network": {"kind": "unet", "merge": 0.5}}, "a U-Net has no tokens to merge"),
        ({"network": {"kind": "transformer", "merge": 0.9}}, "expected shares from 0 to 0.75"),
        ({"network": {"kind": "transformer", "merge": (0.5, 0.5), "layers": 3}}, "names 2 layers, network.layers 3"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises((SettingsError, ValueError), match=reason):
        GeneratorConfig.model_validate(settings)


def test_unfit_sizes_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"even number of patches of network.patch_px=8"):
        NETWORKS["transformer"](NetworkSettings(kind="transformer", patch_px=8, merge=0.5), 1, 24)
    with pytest.raises(SettingsError, match="cannot be folded by 2 and halved 5 times"):
        NETWORKS["unet"](NetworkSettings(kind="unet", levels=6), 1, 48)


@pytest.mark.parametrize("px", [64, 128])
@pytest.mark.parametrize("channels", [1, 5])
def test_any_channels_and_sizes(px: int, channels: int) -> None:
    for kind, make in NETWORKS.items():
        network = make(NetworkSettings(kind=kind, width=16, layers=1, heads=2, stem=4), channels, px)
        images = torch.zeros(1, channels, px, px)
        assert network(images, torch.zeros(1, 16)).shape == images.shape


# --- merging inside the network


def test_merging_nothing_changes_nothing_and_merging_changes_something() -> None:
    batch = make_batch()
    generator = make_generator(batch)
    x, t = gaussian(batch.key, (2, 16, 16), 1), torch.full((ROWS,), 0.5)
    before = generator(x, t, batch.conditions, batch.known)
    generator.network.set_merging(0.5)
    assert not torch.allclose(generator(x, t, batch.conditions, batch.known), before)
    generator.network.set_merging((0.0, 0.0))
    assert torch.equal(generator(x, t, batch.conditions, batch.known), before)


def test_a_merged_network_learns() -> None:
    batch = make_batch()
    generator = make_generator(batch, network={**SMALL, "merge": (0.5, 0.25)})
    objective(generator, {})(batch, 0)["flow"].total.backward()
    assert all(parameter.grad is not None for parameter in generator.network.parameters())


# --- conditions


def test_what_is_not_told_cannot_change_the_output() -> None:
    batch = make_batch()
    generator = make_generator(batch)
    x, t = gaussian(batch.key, (2, 16, 16), 1), torch.full((ROWS,), 0.5)
    told = {**batch.known, "genes": torch.zeros(ROWS, dtype=torch.bool)}
    other = {**batch.conditions, "genes": batch.conditions["genes"] + 5}
    assert torch.equal(generator(x, t, batch.conditions, told), generator(x, t, other, told))
    assert not torch.allclose(generator(x, t, batch.conditions, batch.known), generator(x, t, other, batch.known))
    without = {name: value for name, value in batch.conditions.items() if name != "genes"}
    assert torch.equal(generator(x, t, without, told), generator(x, t, batch.conditions, told))


def test_dropout_is_of_each_row_by_itself_and_the_same_in_any_batch() -> None:
    keys = torch.arange(4000)
    known = {"genes": torch.ones(4000, dtype=torch.bool), "niche": torch.arange(4000) % 2 == 0}
    told = drop_conditions(known, keys, DropSettings(each=0.2, all=0.1), 1, 2)
    share = told["genes"].float().mean().item()
    assert share == pytest.approx(0.9 * 0.8, abs=0.03)
    assert not bool((told["niche"] & ~known["niche"]).any())
    some = drop_conditions(
        {name: value[7:9] for name, value in known.items()}, keys[7:9], DropSettings(each=0.2, all=0.1), 1, 2
    )
    assert torch.equal(some["genes"], told["genes"][7:9])


def test_a_condition_without_spread_is_harmless() -> None:
    encoder = ConditionEncoder({"genes": 3}, 16)
    encoder.measure("genes", torch.tensor([[1.0, 2.0, 0.0], [3.0, 2.0, 0.0]]))
    out = encoder(torch.zeros(1), {"genes": torch.tensor([[2.0, 9.0, 0.0]])}, {"genes": torch.tensor([True])})
    same = encoder(torch.zeros(1), {"genes": torch.tensor([[2.0, 2.0, 7.0]])}, {"genes": torch.tensor([True])})
    assert torch.equal(out, same)


def test_guidance_uses_the_unconditioned_network() -> None:
    batch = make_batch()
    generator = make_generator(batch)
    x, solver = gaussian(batch.key, (2, 16, 16), 1), SolverSettings(kind="euler", evaluations=1)
    nothing = {name: torch.zeros_like(value) for name, value in batch.known.items()}

    def step(guidance: float, known: Any = batch.known) -> torch.Tensor:
        return generator.sample(x, batch.conditions, known, solver=solver, guidance=guidance).x

    assert torch.allclose(step(3.0), step(0.0) + 3 * (step(1.0) - step(0.0)), atol=1e-4)
    assert torch.equal(step(0.0), step(1.0, nothing))


# --- couplings


def test_couplings() -> None:
    noise, source = torch.zeros(3, 1, 2, 2), torch.ones(3, 1, 2, 2)
    confidence = torch.tensor([0.1, 0.2, 0.6])
    ends = Ends(noise=noise, source=source, confidence=confidence, gamma=2.0, mean_weight=float((confidence**2).mean()))
    assert torch.equal(couple("noise", ends).x_0, noise)
    for kind in ("control", "ot", "ot-confidence"):
        assert torch.equal(couple(kind, ends).x_0, source)
    assert couple("ot", ends).weight.tolist() == [1.0, 1.0, 1.0]
    weight = couple("ot-confidence", ends).weight
    assert weight.mean().item() == pytest.approx(1.0)
    assert (weight[2] / weight[1]).item() == pytest.approx(9.0)


def test_couplings_say_what_they_lack() -> None:
    noise = torch.zeros(1, 1, 2, 2)
    with pytest.raises(SettingsError, match="needs source images: give pairs"):
        couple("control", Ends(noise=noise))
    with pytest.raises(SettingsError, match="needs the confidence of every pair"):
        couple("ot-confidence", Ends(noise=noise, source=noise))
    with pytest.raises(SettingsError, match=r"Unknown coupling 'near'. There are: noise"):
        couple("near", Ends(noise=noise))


def test_confidence_weighs_the_loss() -> None:
    batch = make_batch(pairs=True)
    generator = make_generator(batch, task="transition", coupling="ot-confidence")
    only_first = replace(batch, confidence=torch.tensor([1.0, 0, 0, 0, 0, 0]))
    learn = objective(generator, {}, mean_weight=1 / ROWS)
    row = learn(only_first.take(torch.tensor([0])), 0)["flow"]
    whole = learn(only_first, 0)["flow"]
    assert (whole.total / whole.count).item() == pytest.approx((row.total / ROWS).item(), rel=1e-5)


# --- noise and times


def test_noise_and_times_belong_to_the_row() -> None:
    keys = torch.arange(500)
    noise = gaussian(keys, (1, 8, 8), 3, 4)
    assert torch.equal(gaussian(keys[40:42], (1, 8, 8), 3, 4), noise[40:42])
    assert not torch.equal(gaussian(keys, (1, 8, 8), 3, 5), noise)
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.std().item() == pytest.approx(1, abs=0.02)
    drawn = (
        (PathSettings(time="uniform"), 0.5),
        (PathSettings(time_mean=0.0), 0.5),
        (PathSettings(time_mean=-0.8), 0.34),
    )
    for settings, mean in drawn:
        t = draw_times(keys, settings, 1)
        assert 0 < t.min() < t.max() < 1
        assert t.mean().item() == pytest.approx(mean, abs=0.05)


# --- losses


def test_each_term_can_be_left_out() -> None:
    batch = make_batch()
    generator, proxy = make_generator(batch), trained_proxy()
    everything = {"contrastive": 0.1, "morphology": 0.1, "adversarial": 0.1}
    assert set(objective(generator, everything, proxy=proxy)(batch, 0)) == {"flow", *everything}
    for name in everything:
        rest = {**everything, name: 0.0}
        learn = objective(generator, rest, proxy=proxy)
        assert set(learn(batch, 0)) == {"flow", *everything} - {name}
    parts = dict(objective(generator, {}, proxy=proxy).named_children())
    assert set(parts) == {"generator"}  # neither proxy nor critic is carried along


def test_the_flow_loss_is_that_of_the_path_and_skips_absent_channels() -> None:
    batch = make_batch()
    generator = make_generator(batch)
    half = batch.channels_present.clone()
    half[:, 1] = False
    learn = objective(generator, {})
    walked = learn.walk(batch, 0)
    error = generator.path.error(walked.output, walked.coupled.x_0, walked.x_1, walked.x_t, walked.t)
    term = learn(batch, 0)["flow"]
    assert (term.total / term.count).item() == pytest.approx(error.mean().item(), rel=1e-5)
    hidden = replace(batch, channels_present=half)
    painted = replace(hidden, target=torch.cat([batch.target[:, :1], 255 - batch.target[:, 1:]], dim=1))
    assert torch.equal(learn(hidden, 0)["flow"].total, learn(painted, 0)["flow"].total)


# --- channels that are not there are seen as 0, in training as in drawing


@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun", "adaptive"])
def test_drawing_does_not_see_channels_that_are_not_learnt(solver: str) -> None:
    batch = make_batch()
    generator = make_generator(batch, channels=("DAPI",))
    start = gaussian(batch.key, (2, 16, 16), 1)
    other = torch.cat([start[:, :1], start[:, 1:] - 4], dim=1)
    settings = SolverSettings(kind=solver, evaluations=7)
    drawn, again = (generator.sample(x, batch.conditions, batch.known, solver=settings).x for x in (start, other))
    assert torch.equal(drawn[:, 0], again[:, 0])
    assert torch.equal(again[:, 1], other[:, 1])
    assert not torch.equal(drawn[:, 0], start[:, 0])
    everything = make_generator(batch)
    drawn, again = (everything.sample(x, batch.conditions, batch.known, solver=settings).x for x in (start, other))
    assert not torch.equal(drawn[:, 0], again[:, 0])


@pytest.mark.parametrize("solver", ["heun", "adaptive"])
def test_drawing_does_not_see_channels_that_a_source_lacks(solver: str) -> None:
    batch = make_batch()
    generator = make_generator(batch)
    present = batch.channels_present.clone()
    present[2, 1] = False
    start = gaussian(batch.key, (2, 16, 16), 1)
    other = torch.cat([start[:, :1], start[:, 1:] - 4], dim=1)
    settings = SolverSettings(kind=solver, evaluations=7)
    drawn, again = (
        generator.sample(x, batch.conditions, batch.known, present=present, solver=settings).x for x in (start, other)
    )
    same = [torch.equal(a, b) for a, b in zip(drawn[:, 0], again[:, 0], strict=True)]
    assert same == [False, False, True, False, False, False]


def test_training_and_drawing_see_the_same() -> None:
    batch = make_batch()
    generator = make_generator(batch, channels=("DAPI",))
    present = torch.tensor([[True, False]]).expand(ROWS, 2)
    walked = objective(generator, {}).walk(replace(batch, channels_present=present), 0)
    shown = torch.cat([walked.x_t[:, :1], torch.full_like(walked.x_t[:, 1:], 7.0)], dim=1)
    assert torch.equal(generator(shown, walked.t, batch.conditions, batch.known), walked.output)


def test_a_folder_says_which_channels_are_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spatia.generation.checkpoint.model_id", lambda _: "model")
    generator = make_generator(make_batch(), channels=("DAPI",))
    save_generator(tmp_path, generator, {"channels": ["DAPI"]})
    assert load_generator(tmp_path).generator.learnt.tolist() == [True, False]
    save_generator(tmp_path, generator, {})  # of before
    assert load_generator(tmp_path).generator.learnt.tolist() == [True, True]


def test_contrast_is_the_same_loss_against_another_row() -> None:
    batch = make_batch()
    generator = make_generator(batch)
    terms = objective(generator, {"contrastive": 0.1})(batch, 0)
    walked = objective(generator, {}).walk(batch, 0)
    other = generator.path.error(walked.output, walked.coupled.x_0, walked.x_1.roll(1, 0), walked.x_t, walked.t)
    assert (terms["contrastive"].total / ROWS).item() == pytest.approx(-other.mean().item(), rel=1e-5)


def test_weights_that_contradict_are_refused() -> None:
    generator = make_generator(make_batch())
    with pytest.raises(SettingsError, match=r"weights.contrastive=1 is not below weights.flow=1"):
        objective(generator, {"contrastive": 1.0})
    with pytest.raises(SettingsError, match="there is no proxy that reads morphology"):
        objective(generator, {"morphology": 1.0})


def test_the_critic_learns_against_the_generator() -> None:
    batch = make_batch()
    generator = make_generator(batch)
    learn = objective(generator, {"adversarial": 1.0})
    term = learn(batch, 0)["adversarial"]
    term.total.backward()
    critic = learn.critic
    assert critic is not None
    walked = learn.walk(batch, 0)
    image = generator.path.image(walked.output, walked.x_t, walked.t).detach().requires_grad_()
    late = walked.t >= 0.4
    torch.nn.functional.softplus(critic(image[late])).flatten(1).mean(dim=1).sum().backward()
    # the generator's gradient points the other way than the critic's loss
    grad = generator.network.head.bias.grad
    assert grad is not None
    assert torch.sign(grad).tolist() == torch.sign(-image.grad.sum(dim=(0, 2, 3))).tolist()  # type: ignore[union-attr]


# --- the proxy


def trained_proxy() -> MorphologyProxy:
    torch.manual_seed(0)
    proxy = MorphologyProxy(2, ("area", "brightness", "noise")).eval()
    proxy.accepted.copy_(torch.tensor([True, True, False]))
    return proxy


def test_a_proxy_that_reads_nothing_is_refused() -> None:
    proxy, batch = trained_proxy(), make_batch()
    assert batch.morphology is not None
    assert batch.morphology_measured is not None
    with pytest.raises(
        TrainingError, match=r"reads no feature with R² ≥ 0.5 on 6 held-out cells; best: .*presentations.proxy"
    ):
        proxy.judge(torch.zeros(ROWS, 3), batch.morphology, batch.morphology_measured, 0.5)


def test_a_proxy_is_accepted_feature_by_feature() -> None:
    proxy, batch = trained_proxy(), make_batch()
    assert batch.morphology is not None
    assert batch.morphology_measured is not None
    predicted = proxy.standardise(batch.morphology).clone()
    predicted[:, 2] = 0
    proxy.judge(predicted, batch.morphology, batch.morphology_measured, 0.5)
    assert proxy.accepted.tolist() == [True, True, False]
    assert proxy.r2[:2].tolist() == [1.0, 1.0]


def test_features_that_were_not_accepted_take_no_part() -> None:
    batch = make_batch()
    generator, proxy = make_generator(batch), trained_proxy()
    assert batch.morphology is not None
    other = batch.morphology.clone()
    other[:, 2] += 3
    learn = objective(generator, {"morphology": 1.0}, proxy=proxy)
    assert torch.equal(
        learn(batch, 0)["morphology"].total, learn(replace(batch, morphology=other), 0)["morphology"].total
    )


def test_channels_that_only_the_model_knows_do_not_stop_what_reads_the_others() -> None:
    batch = make_batch()
    only_dapi = torch.tensor([True, False])
    lacking = replace(
        batch, channels_present=only_dapi.expand(ROWS, -1), target=batch.target * only_dapi[:, None, None]
    )
    reader = MorphologyProxy(2, ("a", "b", "c"))
    intensities = Intensities(SPACE.mean, SPACE.sd)
    assert ProxyObjective(reader, intensities)(lacking, 0)["proxy"].total == 0  # cells lack a channel of their corpus
    term = ProxyObjective(reader, intensities, channels=only_dapi)(lacking, 0)["proxy"]
    assert term.count == ROWS * 3
    painted = replace(lacking, target=batch.target)
    assert ProxyObjective(reader, intensities, channels=only_dapi)(painted, 0)["proxy"].total == term.total

    reader.accepted[:] = True
    weights = {"morphology": 1.0, "adversarial": 1.0}
    for channels, asked in ((None, 0), (("DAPI",), ROWS)):
        late = {"time_mean": 3.0}  # images that the term reads
        generator = make_generator(batch, channels=channels, path=late)
        terms = objective(generator, weights, proxy=reader)(lacking, 0)
        assert terms["adversarial"].count == asked
        assert terms["morphology"].count == 3 * asked


@pytest.mark.parametrize("lacks", ["channels_present", "morphology_measured"])
def test_a_batch_that_the_proxy_cannot_use_is_counted_without_error(lacks: str) -> None:
    """A step of it then changes nothing, rather than to stop the training."""
    batch = make_batch()
    learn = ProxyObjective(MorphologyProxy(2, ("a", "b", "c")), Intensities(SPACE.mean, SPACE.sd))
    nothing = torch.zeros_like(getattr(batch, lacks))
    term = learn(replace(batch, **{lacks: nothing}), 0)["proxy"]
    assert (term.total.item(), term.count.item()) == (0, ROWS * 3)
    term.total.backward()
    assert all((parameter.grad == 0).all() for parameter in learn.parameters())
    first = nothing.clone()
    first[0] = True  # beside a row that can be read the others do not count
    assert learn(replace(batch, **{lacks: first}), 0)["proxy"].count == 3


def test_a_proxy_learns_to_read() -> None:
    torch.manual_seed(0)
    batch = make_batch()
    brightness = batch.target.float().mean(dim=(2, 3))
    brightness = (brightness - brightness.mean(dim=0)) / brightness.std(dim=0)
    batch = replace(batch, morphology=brightness, morphology_measured=torch.ones(ROWS, 2, dtype=torch.bool))
    learn = ProxyObjective(MorphologyProxy(2, ("a", "b")), Intensities(SPACE.mean, SPACE.sd))
    optimiser = torch.optim.Adam(learn.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        term = learn(batch, 0)["proxy"]
        loss = term.total / term.count
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


# --- learning, and the folder


def test_the_loss_falls_on_a_few_cells() -> None:
    batch = make_batch()
    batch = replace(batch, target=batch.target[:, :, :1, :1].expand(-1, -1, 16, 16).contiguous())
    generator = make_generator(batch, awake=False).train()
    learn = objective(generator, {})
    optimiser = torch.optim.Adam(learn.parameters(), 5e-3)
    losses = []
    for epoch in range(60):
        optimiser.zero_grad()
        term = learn(batch, epoch)["flow"]
        loss = term.total / term.count
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])


def write(folder: Path, generator: CellGenerator) -> None:
    (folder / MODEL_FOLDER).mkdir(parents=True, exist_ok=True)
    (folder / MODEL_FOLDER / "model.json").write_text("{}")
    save_generator(folder, generator, {"seed": 0})


def test_a_generator_comes_back_from_its_folder(tmp_path: Path) -> None:
    batch = make_batch()
    generator = make_generator(batch)
    generator.condition.measure("genes", batch.conditions["genes"])
    write(tmp_path, generator)
    saved = load_generator(tmp_path)
    x, t = gaussian(batch.key, (2, 16, 16), 1), torch.full((ROWS,), 0.5)
    assert torch.equal(
        saved.generator(x, t, batch.conditions, batch.known), generator(x, t, batch.conditions, batch.known)
    )
    assert saved.facts == {"seed": 0}
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pt", ".pkl", ".ckpt")]


def test_a_damaged_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"generator.json: no such file. Expected a generator folder"):
        load_generator(tmp_path)
    write(tmp_path, make_generator(make_batch()))
    weights = tmp_path / "generator.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match=r"generator.safetensors: digest .* copy the folder again"):
        load_generator(tmp_path)
    write(tmp_path, make_generator(make_batch()))
    (tmp_path / MODEL_FOLDER / "model.json").write_text('{"other": 1}')
    with pytest.raises(ModelError, match="but the generator was trained with"):
        load_generator(tmp_path)


def test_pixels_inside_the_outline_count_more() -> None:
    """The gradient at a pixel is in proportion to its weight, and rows without an outline count as before."""
    batch = make_batch()
    inside = torch.zeros(ROWS, 16, 16, dtype=torch.bool)
    inside[0, 4:8, 4:12] = True
    generator = make_generator(batch)
    gradients = []
    for weighed in (objective(generator, {}), objective(generator, {}, inside_weight=4.0)):
        walked = weighed.walk(replace(batch, inside=inside), 0)
        walked.output.retain_grad()
        weighed._error(walked, walked.x_1, weighed._pixels(replace(batch, inside=inside))).sum().backward()
        assert walked.output.grad is not None
        gradients.append(walked.output.grad)
    plain, weighted = gradients
    share = inside[0].float().mean().item()
    mean = 1 + 3 * share
    torch.testing.assert_close(weighted[1:], plain[1:])
    torch.testing.assert_close(weighted[0][:, inside[0]], plain[0][:, inside[0]] * 4 / mean)
    torch.testing.assert_close(weighted[0][:, ~inside[0]], plain[0][:, ~inside[0]] / mean)
