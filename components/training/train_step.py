"""What one step does: forward, backward, clip, update, over however many workers there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from components.models.base import AdapterModel
from components.tasks.base import Arrays, Batch, Learning, Loss, Objective
from components.training.ema import MovingAverage
from components.training.fsdp import into, is_sharded, parts, whole
from components.training.optim import Optimizers
from components.training.params import FitParams
from components.training.precision import Precision, resolve

LossOf = Callable[[torch.nn.Module, Batch], Loss]


def world() -> int:
    """How many workers there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of the workers this is."""
    return dist.get_rank() if world() > 1 else 0


def add_up(tensor: torch.Tensor) -> torch.Tensor:
    """The sum over workers, on all of them."""
    if world() > 1:
        dist.all_reduce(tensor)
    return tensor


class TrainStep:
    """One network, one optimizer, the task's loss.

    Args:
        module: on its device.
        learning: the task's facet.
        loss: of a micro-batch; distillation passes its own.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        learning: Learning,
        knobs: FitParams,
        loss: LossOf | None = None,
    ) -> None:
        self.module, self.learning, self.knobs = module, learning, knobs
        self.device = next(module.parameters()).device
        self.frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
        self.optimizers = Optimizers(module, knobs)
        self.precision = Precision(resolve(knobs.precision, module), self.device)
        self.average = MovingAverage(module, knobs.ema) if knobs.ema else None
        objective = Objective(knobs.label_smoothing, knobs.focal_gamma)
        self._loss = loss or (lambda net, batch: learning.loss(net, batch, objective))
        self.sharded = is_sharded(module)
        called: Any = torch.compile(module, dynamic=True) if knobs.compile else module
        self._called: torch.nn.Module = (
            torch.nn.parallel.DistributedDataParallel(called, gradient_as_bucket_view=True)
            if world() > 1 and not self.sharded
            else called
        )

    def put(self, arrays: Arrays) -> Batch:
        """Arrays to tensors on the device."""
        return {
            name: torch.from_numpy(value).to(self.device, non_blocking=True)
            for name, value in arrays.items()
        }

    def step(self, micro: Sequence[Batch], rows: int, rate: float) -> float:
        """One update from this worker's share of a batch, in parts that fit its memory. Returns the mean loss over all workers' rows.

        The gradients of all parts are summed and divided once by the count of the whole batch, over all workers: the step is that of the
        whole batch, however it was divided.

        Args:
            rows: of the whole batch, over all workers.
            rate: the learning rate.

        Raises:
            FloatingPointError: the loss or the gradient is not finite.
        """
        self.optimizers.zero()
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        for number, batch in enumerate(micro):
            with self._alone(number + 1 < len(micro)):
                with self.precision.context():
                    loss = self._loss(self._called, batch)
                (loss.total * (world() * self.precision.scale / rows)).backward()  # type: ignore[no-untyped-call]  # DDP averages over workers
            sums += torch.stack([loss.total.detach().double(), loss.count.double()])
        total, count = add_up(sums).tolist()
        self._update(rows / count / self.precision.scale, rate, total / count)
        return float(total / count)

    def _alone(self, more: bool) -> AbstractContextManager[Any]:
        """Workers add up their gradients with the last part only; sharded ones with each, so that none ever holds them whole."""
        return (
            self._called.no_sync()
            if more and isinstance(self._called, torch.nn.parallel.DistributedDataParallel)
            else nullcontext()
        )

    def _update(self, factor: float, rate: float, mean: float) -> None:
        """Clip and step; `factor` puts the summed gradients right."""
        grads = parts([p.grad for p in self.optimizers.parameters if p.grad is not None])
        if factor != 1.0:
            torch._foreach_mul_(grads, factor)
        self.optimizers.penalize()
        norm = self._norm(grads)
        if self.precision.overflowed(finite=np.isfinite(norm)):
            return
        if not np.isfinite(mean) or not np.isfinite(norm):
            raise FloatingPointError(f"the loss is {mean}, the norm of its gradient {norm}")
        if norm > self.knobs.clip_norm:
            torch._foreach_mul_(grads, self.knobs.clip_norm / norm)
        self.optimizers.step(rate)
        if self.average:
            self.average.update()

    def _norm(self, grads: list[torch.Tensor]) -> float:
        """Of the whole gradient, of which a sharded worker has a part."""
        norm = torch.nn.utils.get_total_norm(grads, foreach=True)
        return float(add_up(norm.double().to(self.device) ** 2).sqrt() if self.sharded else norm)

    @torch.no_grad()
    def validate(self, batches: Iterator[Arrays]) -> Mapping[str, float]:
        """The task's figures over all workers' batches, of the averaged weights where they are averaged."""
        if world() > 1:  # running statistics are each worker's own: all judge with the first's
            for buffer in self.module.buffers():
                dist.broadcast(buffer, 0)
        self.module.eval()
        tallies: dict[str, torch.Tensor] = {}
        with self.average.swapped() if self.average else nullcontext(), self.precision.context():
            for arrays in batches:
                for name, value in self.learning.accumulate(self.module, self.put(arrays)).items():
                    tallies[name] = tallies[name] + value if name in tallies else value
        self.module.train()
        added: Mapping[str, NDArray[np.float64]] = {
            name: add_up(value.to(self.device)).cpu().numpy()
            for name, value in sorted(tallies.items())
        }
        return self.learning.compute(added)

    def weights(self) -> dict[str, torch.Tensor]:
        """What is kept of the fit: the weights that were judged. Sharded workers ask together."""
        with self.average.swapped() if self.average else nullcontext():
            state = whole(
                self.module.kept()
                if isinstance(self.module, AdapterModel)
                else self.module.state_dict()
            )
            return {
                name: value.detach().cpu().clone().contiguous() for name, value in state.items()
            }

    def state(self) -> dict[str, Any]:
        """Tensors and plain values; `torch.load(weights_only=True)` reads it back. Sharded workers ask together, and it is the first that has it whole."""
        average = {"average": self.average.state()} if self.average else {}
        module = {
            name: value
            for name, value in self.module.state_dict().items()
            if name not in self.frozen
        }  # what is frozen is as the fit began
        state = {
            "module": module,
            "optimisers": self.optimizers.state(),
            "precision": self.precision.state(),
            **average,
        }
        return dict(whole(state)) if self.sharded else state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`, which may be of another number of workers, sharded or not."""
        if self.sharded:
            state = into(state, self.module, self.optimizers.parts)
        self.module.load_state_dict(state["module"], strict=not self.frozen)
        self.optimizers.restore(state["optimisers"])
        self.precision.restore(state["precision"])
        if self.average:
            self.average.restore(state["average"])
