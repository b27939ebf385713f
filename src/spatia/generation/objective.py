"""What a generator is trained to do: follow the path, and what else is asked of the images it means on the way."""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn import functional as F

from spatia.errors import SettingsError
from spatia.generation.batch import GenerationBatch
from spatia.generation.condition import drop_conditions
from spatia.generation.coupling import Coupled, Ends, couple
from spatia.generation.discriminator import PatchCritic
from spatia.generation.generator import CellGenerator
from spatia.generation.noise import NOISE, TIME, draw_times, gaussian
from spatia.generation.proxy import MorphologyProxy
from spatia.generation.samples import Reshaped, distorted, reshaped
from spatia.generation.settings import STRICT, DropSettings
from spatia.models.losses import Term, masked_term
from spatia.nn.gradient_reversal import reverse_gradient

LATE: Final = 0.4  # images that the network means before this time are blurs of many cells: nothing is asked of them
LEAST_CHANGE: Final = 0.01  # movements that change less than this squared error hardly count


class GeneratorWeights(BaseModel):
    """Weight of each term of the loss; 0 leaves a term out. All are means over rows of values of about 1."""

    model_config = STRICT

    flow: float = Field(1.0, ge=0, description="the path: error of velocity, or of what is predicted in a diffusion")
    contrastive: float = Field(0.0, ge=0, description="away from the path of another row (same scale as flow)")
    morphology: float = Field(0.05, ge=0, description="measured features of the image, read by a validated proxy")
    displacement: float = Field(
        0.01,
        ge=0,
        description="of an edit: what was moved lies where it did; its 20 numbers learn by it alone, so its size hardly matters",
    )
    adversarial: float = Field(0.0, ge=0, description="patches cannot be told from real ones")


@dataclass(frozen=True)
class Walked:
    """A batch on its way: times, points, and what the network said."""

    x_1: Float[Tensor, "rows channels y x"]
    t: Float[Tensor, "rows"]
    x_t: Float[Tensor, "rows channels y x"]
    output: Float[Tensor, "rows channels y x"]
    coupled: Coupled


class GeneratorObjective(nn.Module):
    r"""Losses of a batch.

    .. math:: L = L_\mathrm{flow}^w - \rho\,L_\mathrm{flow}(\text{path of another row}) + \lambda\,L_\mathrm{morphology}
              + \alpha\,L_\mathrm{adversarial}

    Parameters
    ----------
    generator
        Trained in place.
    weights
        A term of weight 0 is not computed.
    drop
        Which conditions are hidden, row by row.
    seed
        Every random choice is a hash of it, the epoch and the row.
    proxy
        Trained before; needed where morphology has a weight.
    mean_weight
        Mean of confidence^γ over the training pairs.
    inside_weight
        A pixel inside the cell's outline counts as so many outside; the mean weight of a row's pixels is 1.

    Raises
    ------
    SettingsError
        If weights contradict each other.

    Notes
    -----
    With a contrast of weight ρ the least loss is not at the path itself but at :math:`(u - \rho\bar u)/(1 - \rho)`, beyond it as seen
    from the mean: images come out that much too contrasty. So ρ is 0 unless asked for (the paper's is 0.1).
    """

    def __init__(
        self,
        generator: CellGenerator,
        weights: GeneratorWeights,
        drop: DropSettings,
        seed: int,
        *,
        proxy: MorphologyProxy | None = None,
        mean_weight: float = 1.0,
        inside_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if weights.contrastive >= max(weights.flow, 1e-12) and weights.contrastive > 0:
            raise SettingsError(
                f"weights.contrastive={weights.contrastive:g} is not below weights.flow={weights.flow:g}: being far from other "
                "paths would be worth more than being near one's own, and the loss has no least value."
            )
        if weights.morphology and proxy is None:
            raise SettingsError("weights.morphology is above 0, but there is no proxy that reads morphology.")
        self.generator, self.weights, self.drop, self.seed = generator, weights, drop, seed
        self.proxy = proxy if weights.morphology else None
        self.critic = PatchCritic(len(generator.space.channels)) if weights.adversarial else None
        self.mean_weight, self.inside_weight = mean_weight, inside_weight

    def forward(self, batch: GenerationBatch, epoch: int) -> dict[str, Term]:
        """Return the terms by name."""
        walked, weights, generator = self.walk(batch, epoch), self.weights, self.generator
        present = batch.channels_present[:, :, None, None] * self._pixels(batch)
        complete = batch.has_all(generator.learnt)
        row_weight = walked.coupled.weight
        terms: dict[str, Term] = {}
        seen = batch.channels_present.any(dim=1)
        counted = seen if bool(seen.any()) else ~seen  # without any image: an error of 0, rather than no loss at all
        if weights.flow:
            terms["flow"] = masked_term(self._error(walked, walked.x_1, present) * row_weight, counted)
        if weights.contrastive and len(batch) > 1:
            # the path from the same source to the target of another row; minus, as it is to be far
            other = self._error(walked, walked.x_1.roll(1, 0), present * (present.roll(1, 0) > 0))
            terms["contrastive"] = masked_term(-other * row_weight, counted)
        image = generator.path.image(walked.output, walked.x_t, walked.t) * generator.learnt[:, None, None]
        late = (walked.t >= LATE) | generator.path.in_one_step
        moves = generator.displacement is not None and weights.displacement > 0
        if moves and (there := reshaped(generator, batch, self.seed, epoch)) is not None:
            terms["displacement"] = self._displacement(there, walked.x_1, present)
        if self.proxy is not None:
            terms["morphology"] = self._morphology(batch, image, late & complete)
        if self.critic is not None:
            terms["adversarial"] = self._adversarial(image, walked.x_1, late & complete)
        return terms

    def walk(self, batch: GenerationBatch, epoch: int) -> Walked:
        """Put every row somewhere on its path and ask the network."""
        generator, config = self.generator, self.generator.config
        present = batch.channels_present[:, :, None, None]
        x_1 = generator.scale(batch.target) * present
        noise = gaussian(batch.key, x_1.shape[1:], self.seed, epoch, NOISE)
        source = self._source(batch, epoch)
        coupled = couple(
            config.coupled,
            Ends(
                noise=noise,
                source=source,
                confidence=batch.confidence,
                gamma=config.gamma,
                mean_weight=self.mean_weight,
            ),
        )
        t = draw_times(batch.key, config.path, self.seed, epoch, TIME)
        t = torch.zeros_like(t) if generator.path.in_one_step else t
        x_t = generator.path.point(coupled.x_0, x_1, t)
        told = drop_conditions(batch.known, batch.key, self.drop, self.seed, epoch)
        output = generator(x_t, t, batch.conditions, told, batch.channels_present)
        return Walked(x_1, t, x_t, output, coupled)

    def _source(self, batch: GenerationBatch, epoch: int) -> Tensor | None:
        """Return the images that paths begin at, where they begin at images."""
        if self.generator.config.is_edit:
            return distorted(self.generator, batch, self.seed, epoch)
        return None if batch.source is None else self.generator.scale(batch.source)

    def _displacement(self, there: Reshaped, x_1: Tensor, weight: Tensor) -> Term:
        """The share of a movement that is left: a small one must not vanish beside a large one."""
        back = self.generator.move(there.images, there.growth, there.place)
        left, was = (self._mean((images - x_1).square(), weight) for images in (back, there.images))
        return masked_term(left / (was + LEAST_CHANGE), was > 0)

    def _pixels(self, batch: GenerationBatch) -> Float[Tensor, "rows 1 y x"]:
        """Weights of pixels: most of a crop lies outside the cell, and what is told is mostly about the cell."""
        if batch.inside is None or self.inside_weight == 1:
            return batch.target.new_ones((len(batch), 1, 1, 1), dtype=torch.float32)
        weight = 1 + (self.inside_weight - 1) * batch.inside.float()
        return (weight / weight.mean(dim=(1, 2), keepdim=True))[:, None]

    def _error(self, walked: Walked, x_1: Tensor, weight: Tensor) -> Float[Tensor, "rows"]:
        return self._mean(
            self.generator.path.error(walked.output, walked.coupled.x_0, x_1, walked.x_t, walked.t), weight
        )

    @staticmethod
    def _mean(error: Tensor, weight: Tensor) -> Float[Tensor, "rows"]:
        """Mean over the pixels of the channels that are there; a channel that is not has weight 0."""
        pixels = weight.expand_as(error).to(error.dtype)
        return (error * pixels).flatten(1).sum(dim=1) / pixels.flatten(1).sum(dim=1).clamp(min=1)

    def _morphology(self, batch: GenerationBatch, image: Tensor, asked: Tensor) -> Term:
        assert self.proxy is not None
        if batch.morphology is None or batch.morphology_measured is None:
            raise SettingsError("weights.morphology is above 0, but the corpus has no measured morphology.")
        error = (self.proxy(image) - self.proxy.standardise(batch.morphology)).square()
        counted = batch.morphology_measured & self.proxy.accepted & asked[:, None]
        return masked_term(error, counted)

    def _adversarial(self, image: Tensor, real: Tensor, counted: Tensor) -> Term:
        """The critic learns to tell, and what it is shown learns against it: one loss, a gradient turned round."""
        assert self.critic is not None
        drawn, true = self.critic(reverse_gradient(image)), self.critic(real)
        loss = (F.softplus(drawn) + F.softplus(-true)).flatten(1).mean(dim=1) / 2
        return masked_term(loss, counted)
