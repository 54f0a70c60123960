"""Run one training step: forward, backward, clip, update, over any number of workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from pydantic import BaseModel
from torch.nn.parallel import DistributedDataParallel

from components.core.errors import InputError
from components.models.base import AdapterModel
from components.tasks.base import Arrays, Batch, Learning, Loss
from components.training.ema import MovingAverage
from components.training.fsdp import gather_full, is_sharded, parts, shard_state
from components.training.optim import Optimizers
from components.training.params import FitParams
from components.training.precision import Precision, resolve

LossFunction = Callable[[torch.nn.Module, Batch], Loss]


def world() -> int:
    """Return the number of workers."""
    if not dist.is_available() or not dist.is_initialized():
        return 1
    return dist.get_world_size()


def rank() -> int:
    """Return the number of this worker, from 0."""
    return dist.get_rank() if world() > 1 else 0


def sum_over_workers(tensor: torch.Tensor) -> torch.Tensor:
    """Return the sum of a tensor over the workers, on all of them. It is changed in place."""
    if world() > 1:
        dist.all_reduce(tensor)
    return tensor


class TrainStep:
    """One network with its optimizer and the task's loss.

    Args:
        module: the network, on its device.
        learning: the task's facet.
        params: the fit's params.
        loss: loss of a micro-batch instead of the task's, for distillation.
        loss_params: params of the task's loss. None: their defaults.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        learning: Learning,
        params: FitParams,
        loss: LossFunction | None = None,
        loss_params: BaseModel | None = None,
    ) -> None:
        self.module = module
        self.learning = learning
        self.params = params
        self.device = next(module.parameters()).device
        self.frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
        self.optimizers = Optimizers(module, params)
        self.precision = Precision(resolve(params.precision, module), self.device)
        self.ema = MovingAverage(module, params.ema) if params.ema else None
        self._loss = loss or (lambda net, batch: learning.loss(net, batch, loss_params))
        self.sharded = is_sharded(module)
        forward: Any = torch.compile(module, dynamic=True) if params.compile else module
        if world() > 1 and not self.sharded:
            forward = DistributedDataParallel(forward, gradient_as_bucket_view=True)
        self._forward: torch.nn.Module = forward
        self._masks: list[torch.Tensor] = []

    def keep_zeros(self) -> None:
        """Keep the weights of two or more axes that are 0 now at 0.

        Raises:
            InputError: some weights are frozen, so that the others cannot make up for the zeros.
        """
        if self.frozen:
            raise InputError(
                f"{len(self.frozen)} weights do not learn, such as {min(self.frozen)}",
                where="compress.prune.method",
                remedy="set it to structured, or let all weights of the network learn",
            )
        weights = parts([weight.detach() for weight in self.optimizers.weights])
        self._masks = [weight != 0 for weight in weights]

    def put(self, arrays: Arrays) -> Batch:
        """Return arrays as tensors on the device."""
        return {
            name: torch.from_numpy(value).to(self.device, non_blocking=True)
            for name, value in arrays.items()
        }

    def step(self, micro: Sequence[Batch], rows: int, learning_rate: float) -> float:
        """Run one update from this worker's share of a batch.

        The gradients of all micro-batches are summed and divided once by the count of the
        whole batch, over all workers. So the division into micro-batches does not change
        the step.

        Args:
            micro: the micro-batches of this worker.
            rows: rows of the whole batch, over all workers.
            learning_rate: of this step.

        Returns:
            The mean loss over the rows of all workers.

        Raises:
            FloatingPointError: the loss or the gradient is not finite.
        """
        self.optimizers.zero()
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        for number, batch in enumerate(micro):
            is_last = number + 1 == len(micro)
            with self._gradient_sync(is_last):
                with self.precision.context():
                    loss = self._loss(self._forward, batch)
                # DDP averages over workers, so the loss is multiplied by their number.
                scaled = loss.total * (world() * self.precision.scale / rows)
                scaled.backward()  # type: ignore[no-untyped-call]
            sums += torch.stack([loss.total.detach().double(), loss.count.double()])
        total, count = sum_over_workers(sums).tolist()
        self._clip_and_update(rows / count / self.precision.scale, learning_rate, total / count)
        return float(total / count)

    def _gradient_sync(self, is_last: bool) -> AbstractContextManager[Any]:
        """Return the context of a backward pass.

        DDP workers sum their gradients with the last micro-batch only. Sharded workers do
        so with each, so that no FSDP rank holds a full gradient.
        """
        if not is_last and isinstance(self._forward, DistributedDataParallel):
            return self._forward.no_sync()
        return nullcontext()

    def _clip_and_update(self, factor: float, learning_rate: float, mean: float) -> None:
        """Scale and clip the gradients, then update the weights.

        Args:
            factor: turns the summed gradients into the gradient of the mean loss.
            learning_rate: of this step.
            mean: the mean loss.

        Raises:
            FloatingPointError: the loss or the gradient is not finite.
        """
        grads = parts([p.grad for p in self.optimizers.parameters if p.grad is not None])
        if factor != 1.0:
            torch._foreach_mul_(grads, factor)
        self.optimizers.penalize()
        norm = self._norm(grads)
        if self.precision.overflowed(finite=np.isfinite(norm)):
            return
        if not np.isfinite(mean) or not np.isfinite(norm):
            raise FloatingPointError(f"the loss is {mean}, the norm of its gradient {norm}")
        if norm > self.params.clip_norm:
            torch._foreach_mul_(grads, self.params.clip_norm / norm)
        self.optimizers.step(learning_rate)
        if self._masks:
            weights = parts([weight.detach() for weight in self.optimizers.weights])
            torch._foreach_mul_(weights, self._masks)
        if self.ema:
            self.ema.update()

    def _norm(self, grads: list[torch.Tensor]) -> float:
        """Return the norm of the whole gradient, of which a sharded worker has a part."""
        norm = torch.nn.utils.get_total_norm(grads, foreach=True)
        if self.sharded:
            norm = sum_over_workers(norm.double().to(self.device) ** 2).sqrt()
        return float(norm)

    def _averaged_weights(self) -> AbstractContextManager[Any]:
        """Return a context in which the module has the averaged weights, if there are any."""
        return self.ema.swapped() if self.ema else nullcontext()

    @torch.no_grad()
    def validate(self, batches: Iterator[Arrays]) -> Mapping[str, float]:
        """Return the task's metrics over the batches of all workers.

        The averaged weights are validated, where weights are averaged.
        """
        # Running statistics differ between workers. All validate with those of the first.
        if world() > 1:
            for buffer in self.module.buffers():
                dist.broadcast(buffer, 0)
        self.module.eval()
        totals: dict[str, torch.Tensor] = {}
        with self._averaged_weights(), self.precision.context():
            for arrays in batches:
                sums = self.learning.accumulate(self.module, self.put(arrays))
                for name, value in sums.items():
                    totals[name] = totals[name] + value if name in totals else value
        self.module.train()
        summed: Mapping[str, NDArray[np.float64]] = {
            name: sum_over_workers(value.to(self.device)).cpu().numpy()
            for name, value in sorted(totals.items())
        }
        return self.learning.compute(summed)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the weights that were validated. Sharded workers call it together."""
        with self._averaged_weights():
            if isinstance(self.module, AdapterModel):
                state = gather_full(self.module.saved_weights())
            else:
                state = gather_full(self.module.state_dict())
            return {
                name: value.detach().cpu().clone().contiguous() for name, value in state.items()
            }

    def state(self) -> dict[str, Any]:
        """Return the state as tensors and plain values.

        `torch.load(weights_only=True)` reads it back. Sharded workers call it together, and
        the first gets the whole state.
        """
        # Frozen weights are still the initial ones.
        module = {
            name: value
            for name, value in self.module.state_dict().items()
            if name not in self.frozen
        }
        state = {
            "module": module,
            "optimisers": self.optimizers.state(),
            "precision": self.precision.state(),
        }
        if self.ema:
            state["average"] = self.ema.state()
        return dict(gather_full(state)) if self.sharded else state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of any number of workers, sharded or not."""
        if self.sharded:
            state = shard_state(state, self.module, self.optimizers.parts)
        self.module.load_state_dict(state["module"], strict=not self.frozen)
        self.optimizers.restore(state["optimisers"])
        self.precision.restore(state["precision"])
        if self.ema:
            self.ema.restore(state["average"])
