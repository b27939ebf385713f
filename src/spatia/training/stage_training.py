"""One stage while it is trained: its module on the devices, optimiser, averaged weights, loaders and best epoch."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any, Final

import torch
from lightning_fabric import Fabric
from torch import Tensor

from spatia.errors import TrainingError
from spatia.metrics.collapse import Spread, measure_spread
from spatia.training.checkpoint import generator_states, set_generator_states
from spatia.training.evaluation import Best, Validation
from spatia.training.journal import LoggedStep, mean_terms, weighted
from spatia.training.optimiser import AveragedWeights, learning_rate, make_optimiser
from spatia.training.parallel import (
    Held,
    Parallel,
    clip_gradients,
    cut_like,
    gather_objects,
    padded,
    sum_over_ranks,
    whole,
)
from spatia.training.settings import LoopSettings
from spatia.training.stage import ADVERSARIAL, Batches, Stage

SPREAD_BATCHES: Final = 4  # the embedding of about a thousand cells says whether it has collapsed
EVALUATION_EPOCH: Final = 0  # masks of the validation are those of one epoch, so that its losses can be compared


class StageTraining:
    """Trains one stage step by step.

    Attributes
    ----------
    epoch
        Finished epochs.
    batch
        Finished batches of the epoch after these.
    best
        The best epoch, where there is validation data.
    """

    def __init__(self, stage: Stage, settings: LoopSettings, fabric: Fabric) -> None:
        self.stage, self._settings, self._fabric = stage, settings, fabric
        rank, world_size = fabric.global_rank, fabric.world_size
        self.weights = dict(stage.weights)
        self.loader = stage.loader(rank, world_size)
        self._validation = stage.validation(rank, world_size)
        self._watched: Batches | None = self._validation
        sharded = settings.strategy == "fsdp"
        self._parallel = Parallel(stage.module, self.weights, fabric, sharded=sharded)
        if not self._parallel.trained:
            raise TrainingError(f"Stage {stage.name!r}: no parameter has requires_grad; there is nothing to train.")
        self._optimiser = make_optimiser(self._parallel.module, self._parallel.trained, settings)
        self._average = AveragedWeights(self._parallel.trained, settings.ema_decay)
        self._best_weights: dict[str, Tensor] | None = None
        self.best = Best()
        self.epoch = self.batch = 0

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the validation loss has not improved for long enough."""
        patience = self._settings.patience
        return self.epoch >= self.stage.epochs or (patience is not None and self.best.stale >= patience)

    @property
    def parameters(self) -> dict[str, int]:
        """Numbers of parameters: of the module, and trained."""
        every = sum(value.numel() for value in self._parallel.module.parameters())
        return {"parameters": every, "trained": sum(value.numel() for value in self._parallel.trained.values())}

    def batches(self) -> Iterator[Any]:
        """Yield what is left of the epoch, on this rank's device."""
        self._parallel.module.train()
        for batch in self.loader:
            yield self._moved(batch)

    def step(self, batch: Any, number: int, wishes: Sequence[bool]) -> tuple[LoggedStep, list[bool]]:
        r"""Compute the loss, its gradient, and change the weights.

        .. math:: L = \sum_k w_k \frac{\mathrm{total}_k}{\sum_\mathrm{ranks} \mathrm{count}_k} \cdot \mathrm{ranks}

        Gradients are averaged over ranks, so this is the loss of one process with all ranks' batches as one.

        Parameters
        ----------
        number
            Of the step, for messages.
        wishes
            What this rank wants all ranks to do after the step; they travel with the counts.

        Returns
        -------
        The step, and what any rank wanted.
        """
        self._optimiser.zero_grad(set_to_none=True)
        own = self._parallel(Held(batch, self.epoch))
        rows = len(getattr(batch, "cells", batch))
        totals, counts, (all_rows, *wanted) = self._sum_over_ranks(own, [rows, *wishes])
        self._require_finite(totals, own, batch, number)
        weights = [weight if count else 0.0 for weight, count in zip(self.weights.values(), counts, strict=True)]
        if not any(weights):
            raise TrainingError(f"{self._place(number)}: no term of the loss has anything to learn from in this batch.")
        factors = torch.tensor(
            [w / max(count, 1e-12) * self._fabric.world_size for w, count in zip(weights, counts, strict=True)],
            device=own.device,
            dtype=own.dtype,
        )
        self._parallel.backward((own[0] * factors).sum())
        norm = clip_gradients(self._parallel.trained.values(), self._settings.clip)
        if not math.isfinite(norm):
            raise TrainingError(f"{self._place(number)}: the gradient is {norm} ({self._sections(batch)}). {_LOWER}")
        rate = learning_rate((self.epoch + (self.batch + 1) / len(self.loader)) / self.stage.epochs, self._settings)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.step()
        self._average.update()
        self.batch += 1
        return LoggedStep(totals, counts, int(all_rows), rate, norm), [want > 0 for want in wanted]

    def finish_epoch(self, number: int) -> Validation:
        """Validate the averaged weights, and keep them if they are the best so far."""
        self._parallel.module.eval()
        generators = generator_states(self._fabric.device)
        with self._average.applied():
            result = self._validate(number)
            ended: Any = getattr(self.stage, "epoch_ended", None)
            if ended is not None and self._fabric.is_global_zero and not self._parallel.sharded:
                ended(self.epoch + 1)
        set_generator_states(generators, self._fabric.device)
        self.epoch, self.batch = self.epoch + 1, 0
        if result.loss is not None:
            if self.best.loss is None or result.loss < self.best.loss:
                self.best = Best(result.loss, self.epoch)
                self._best_weights = {name: value.clone() for name, value in self._average.average.items()}
            else:
                self.best.stale += 1
        return result

    def finish(self) -> None:
        """Leave the stage's module with the weights of the best epoch, or the averaged ones where nothing is validated."""
        self._average.put(self._best_weights or self._average.average)
        self._parallel.return_weights()
        ended: Any = getattr(self.stage, "ended", None)
        if ended is not None:
            ended()

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return everything a checkpoint needs; every rank must call this, each gets the same."""
        names = {id(value): name for name, value in self._parallel.trained.items()}
        moments = {
            f"{kind}/{names[id(parameter)]}": whole(value)
            for parameter, values in self._optimiser.state.items()
            for kind, value in values.items()
        }
        of_ranks = gather_objects(generator_states(self._fabric.device), self._fabric)
        tensors = {
            "weights": {name: whole(value) for name, value in self._parallel.module.state_dict().items()},
            "average": {name: whole(value) for name, value in self._average.average.items()},
            "optimiser": moments,
            "generators": {f"{rank}/{k}": value for rank, states in enumerate(of_ranks) for k, value in states.items()},
        }
        if self._best_weights is not None:
            tensors["best"] = {name: whole(value) for name, value in self._best_weights.items()}
        return tensors

    def state(self) -> dict[str, Any]:
        """Return where the stage stands, beside its tensors."""
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "average_updates": self._average.updates,
            "best": asdict(self.best),
            "loader": self.loader.state_dict(),
        }

    def load(self, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`tensors` and :meth:`state` returned."""
        own = self._parallel.module.state_dict()
        if set(own) != set(tensors["weights"]) or set(self._parallel.trained) != set(tensors["average"]):
            odd = sorted({*own} ^ {*tensors["weights"]}) or sorted({*self._parallel.trained} ^ {*tensors["average"]})
            raise TrainingError(
                f"Stage {self.stage.name!r}: the checkpoint holds other weights than the model has; first: {odd[0]!r}. "
                "Resume with the version of spatia that wrote it, or train anew."
            )
        with torch.no_grad():
            for name, value in tensors["weights"].items():
                own[name].copy_(cut_like(value, own[name]))
        self._average.average = self._like_trained(tensors["average"])
        self._best_weights = self._like_trained(tensors["best"]) if "best" in tensors else None
        for key, value in tensors["optimiser"].items():
            kind, _, name = key.partition("/")
            parameter = self._parallel.trained[name]
            # AdamW keeps its count of steps on the host
            self._optimiser.state[parameter][kind] = value if kind == "step" else cut_like(value, parameter)
        self._average.updates = state["average_updates"]
        self.epoch, self.batch, self.best = state["epoch"], state["batch"], Best(**state["best"])
        self.loader.load_state_dict(state["loader"])
        prefix = f"{self._fabric.global_rank}/"
        own_states = {k.removeprefix(prefix): v for k, v in tensors["generators"].items() if k.startswith(prefix)}
        set_generator_states(own_states, self._fabric.device)

    def _validate(self, number: int) -> Validation:
        totals = torch.zeros(2, len(self.weights), device=self._fabric.device)
        if self._validation is not None:
            for batch, counts_in in self._same_number(self._validation):
                part = self._parallel.evaluate(Held(self._moved(batch), EVALUATION_EPOCH))
                totals += part if counts_in else 0.0
        sums, counts, _ = self._sum_over_ranks(totals, [])
        self._require_finite(sums, totals, None, number)
        terms = mean_terms(self.weights, sums, counts)
        judged = {name: value for name, value in terms.items() if name != ADVERSARIAL and value is not None}
        return Validation(weighted(judged, self.weights) if judged else None, terms, self._measure_spread())

    def _measure_spread(self) -> Spread | None:
        """Measure the embedding of the first batches, of the validation data or else of the first training epoch."""
        if not self._parallel.has_embedding:
            return None
        if self._watched is None:
            self._watched = self.stage.loader(self._fabric.global_rank, self._fabric.world_size)
        self._watched.set_epoch(EVALUATION_EPOCH)
        found = []
        for batch, counts_in in islice(self._same_number(self._watched), SPREAD_BATCHES):
            embedding = self._parallel.embedding(Held(self._moved(batch), EVALUATION_EPOCH))
            if counts_in:
                found.append(embedding.float().cpu())
        every = [part for of_rank in gather_objects(found, self._fabric) for part in of_rank]  # a rank may have none
        n_rows = sum(map(len, every))
        return measure_spread(torch.cat(every).numpy()) if n_rows > 1 else None

    def _same_number(self, loader: Batches) -> Iterator[tuple[Any, bool]]:
        """Yield the batches of a loader; where parameters are sharded, as many on every rank."""
        loader.set_epoch(EVALUATION_EPOCH)
        if not self._parallel.sharded:
            return ((batch, True) for batch in loader)
        most = max(gather_objects(len(loader), self._fabric))
        return padded(loader, most, lambda: next(iter(self.stage.validation(0, 1) or self.stage.loader(0, 1))))

    def _sum_over_ranks(self, own: Tensor, extra: Sequence[float]) -> tuple[list[float], list[float], list[float]]:
        """Sum (2, terms) and further numbers over ranks, in one exchange."""
        # counts beyond 2^24 need more than float32, which is all that mps has
        kind = torch.float32 if own.device.type == "mps" else torch.float64
        vector = torch.cat([own.detach().to(kind).flatten(), torch.tensor(extra, device=own.device, dtype=kind)])
        sums = sum_over_ranks(vector, self._fabric).tolist()
        n = own.shape[1]
        return sums[:n], sums[n : 2 * n], sums[2 * n :]

    def _require_finite(self, totals: Sequence[float], own: Tensor, batch: Any, number: int) -> None:
        for column, (name, total) in enumerate(zip(self.weights, totals, strict=True)):
            if math.isfinite(total):
                continue
            here = not math.isfinite(own[0, column].item())
            where = (self._sections(batch) if batch is not None else "validation data") if here else "another process"
            raise TrainingError(f"{self._place(number)}: the loss term {name!r} is {total} ({where}). {_LOWER}")

    def _place(self, number: int) -> str:
        return f"Stage {self.stage.name!r}, epoch {self.epoch + 1}, step {number:,}"

    def _sections(self, batch: Any) -> str:
        """Name the sections of a batch, for messages."""
        section = getattr(batch, "section", None)
        if section is None or not hasattr(self.loader, "sources"):
            return "sections unknown"
        sources: Any = self.loader.sources
        names = [sources[index].section.sample for index in section.unique().tolist()]
        return f"batch of section {', '.join(names)}"

    def _moved(self, batch: Any) -> Any:
        if self._fabric.device.type == "cuda":
            return batch.pin_memory().to(self._fabric.device, non_blocking=True)
        return batch.to(self._fabric.device)

    def _like_trained(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: cut_like(values[name], parameter) for name, parameter in self._parallel.trained.items()}


_LOWER: Final = (
    "The last checkpoint is as it was. Lower lr or clip, or take precision 32-true; if a section is at fault, look at it "
    "with `spatia check`."
)
