"""What one step does: forward, backward, clip, update, over however many workers there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from components.engine.optimise import optimizer, rate, set_rate
from components.engine.params import FitParams
from components.tasks.base import Arrays, Batch, Learning, Loss

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


class Supervised:
    """One network, one optimiser, the task's loss.

    Args:
        module: on its device.
        learning: the task's facet.
        loss: of a micro-batch; distillation passes its own.
    """

    def __init__(self, module: torch.nn.Module, learning: Learning, knobs: FitParams, loss: LossOf | None = None) -> None:
        self.module, self.learning, self.knobs = module, learning, knobs
        self.device = next(module.parameters()).device
        self.optimizer = optimizer(module, knobs)
        self._loss = loss or (lambda net, batch: learning.loss(net, batch, knobs.label_smoothing))
        self._wrapped: torch.nn.Module = torch.nn.parallel.DistributedDataParallel(module) if world() > 1 else module

    def put(self, arrays: Arrays) -> Batch:
        """Arrays to tensors on the device."""
        return {name: torch.from_numpy(value).to(self.device, non_blocking=True) for name, value in arrays.items()}

    def step(self, batch: Batch, step: int, total: int) -> float:
        """One update from this worker's share of a batch. Returns the mean loss over all workers' rows.

        DDP averages gradients over workers; scaled by workers / rows of all, that is the gradient of the mean over the whole batch, however it was divided.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        set_rate([self.optimizer], rate(step, total, self.knobs))
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(self._wrapped, batch)
        sums = add_up(torch.stack([loss.total.detach().double().cpu(), loss.count.double().cpu()]))
        mean = float(sums[0] / sums[1])
        if not np.isfinite(mean):
            raise FloatingPointError(f"the loss is {mean} at step {step}")
        (loss.total * (world() / float(sums[1]))).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.knobs.clip_norm)
        self.optimizer.step()
        return mean

    @torch.no_grad()
    def validate(self, batches: Iterator[Arrays]) -> Mapping[str, float]:
        """The task's figures over all workers' batches."""
        if world() > 1:  # running statistics are each worker's own: all judge with the first's
            for buffer in self.module.buffers():
                dist.broadcast(buffer, 0)
        self.module.eval()
        tallies: dict[str, torch.Tensor] = {}
        for arrays in batches:
            for name, value in self.learning.tally(self.module, self.put(arrays)).items():
                tallies[name] = tallies[name] + value if name in tallies else value
        self.module.train()
        added: Mapping[str, NDArray[np.float64]] = {name: add_up(value.cpu()).numpy() for name, value in sorted(tallies.items())}
        return self.learning.summary(added)

    def state(self) -> dict[str, Any]:
        """Tensors and plain values; `torch.load(weights_only=True)` reads it back."""
        return {"module": self.module.state_dict(), "optimizer": self.optimizer.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
