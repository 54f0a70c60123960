"""Optimisers, and the penalties and decay that go with every one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from components.engine.params import FitParams


class Optimisers:
    """What updates a network's weights.

    Decay and penalties are of the weights proper: biases, norms and other parameters of fewer than two axes are spared. Decay is decoupled in adamw
    and muon (Loshchilov and Hutter 2019, arXiv:1711.05101); for the others it is the L2 penalty.

    Args:
        module: whose parameters are updated.
    """

    def __init__(self, module: nn.Module, knobs: FitParams) -> None:
        self.knobs, self.decoupled = knobs, knobs.optimizer in ("adamw", "muon")
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.weights = [p for p in self.parameters if p.ndim >= 2]
        self.parts: Mapping[str, torch.optim.Optimizer] = _muon(module, self.parameters, knobs) if knobs.optimizer == "muon" else {"all": _plain(self.parameters, knobs)}

    def step(self, rate: float) -> None:
        """Update with a learning rate; gradients are there, averaged and clipped."""
        if self.decoupled and self.knobs.weight_decay:
            torch._foreach_mul_([p.detach() for p in self.weights], 1 - rate * self.knobs.weight_decay)
        for part in self.parts.values():
            for group in part.param_groups:
                group["lr"] = rate
            part.step()

    @torch.no_grad()
    def penalise(self) -> None:
        """Add the gradients of l1 * sum |w|, and of weight_decay / 2 * sum w^2 where that is a penalty."""
        chosen: list[torch.Tensor] = [p for p in self.weights if p.grad is not None]
        grads: list[torch.Tensor] = [p.grad for p in chosen if p.grad is not None]
        if not self.decoupled and self.knobs.weight_decay:
            torch._foreach_add_(grads, chosen, alpha=self.knobs.weight_decay)
        if self.knobs.l1:
            torch._foreach_add_(grads, [p.sign() for p in chosen], alpha=self.knobs.l1)

    def zero(self) -> None:
        """Forget the gradients."""
        for part in self.parts.values():
            part.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        for name, part in self.parts.items():
            part.load_state_dict(state[name])


def _plain(parameters: Sequence[nn.Parameter], knobs: FitParams) -> torch.optim.Optimizer:
    rate, momentum = knobs.learning_rate, knobs.momentum
    match knobs.optimizer:
        case "sgd":
            return torch.optim.SGD(parameters, lr=rate, momentum=momentum, nesterov=momentum > 0, fused=True)
        case "adagrad":
            return torch.optim.Adagrad(parameters, lr=rate, fused=all(p.device.type == "cpu" for p in parameters))
        case "rmsprop":
            return torch.optim.RMSprop(parameters, lr=rate, momentum=momentum, foreach=True)
        case _:
            return torch.optim.Adam(parameters, lr=rate, fused=True)  # with decoupled decay, which `step` adds, it is AdamW


def _muon(module: nn.Module, parameters: Sequence[nn.Parameter], knobs: FitParams) -> Mapping[str, torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for hidden matrices; Adam for embeddings, the head and all that is no matrix. Rates are matched (Liu et al. 2025, arXiv:2502.16982)."""
    tables = {id(each.weight) for each in module.modules() if isinstance(each, nn.Embedding)}
    head = {id(p) for name, p in module.named_parameters() if name.startswith("head.")}
    hidden = [p for p in parameters if p.ndim == 2 and id(p) not in tables | head]
    chosen = {id(p) for p in hidden}
    rest = [p for p in parameters if id(p) not in chosen]
    parts: dict[str, torch.optim.Optimizer] = {"rest": torch.optim.Adam(rest, lr=knobs.learning_rate, fused=True)} if rest else {}
    if hidden:
        parts["hidden"] = torch.optim.Muon(hidden, lr=knobs.learning_rate, weight_decay=0.0, momentum=knobs.momentum, adjust_lr_fn="match_rms_adamw")
    return parts
