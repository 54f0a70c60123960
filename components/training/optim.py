"""Optimizers, with the decay and the penalties that go with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from components.models.base import AdapterModel
from components.training.fsdp import parts
from components.training.params import FitParams

Factors = Mapping[int, float]  # id of a parameter -> of its learning rate; 1 where it is not told


class Optimizers:
    """What updates a network's weights.

    Decay and penalties are of the weights proper: biases, norms and other parameters of fewer than two axes are spared. Decay is decoupled in adamw
    and muon (Loshchilov and Hutter 2019, arXiv:1711.05101); for the others it is an L2 penalty.

    Args:
        module: whose parameters are updated.
    """

    def __init__(self, module: nn.Module, knobs: FitParams) -> None:
        self.knobs = knobs
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.weights = [p for p in self.parameters if p.ndim >= 2]
        factors = (
            {id(p): module.rates()[name] for name, p in module.named_parameters()}
            if isinstance(module, AdapterModel)
            else {}
        )
        self.parts: Mapping[str, torch.optim.Optimizer] = (
            _muon(module, self.parameters, factors, knobs)
            if knobs.optimizer == "muon"
            else {"all": _plain(self.parameters, factors, knobs)}
        )

    def step(self, rate: float) -> None:
        """Update with a learning rate; gradients are there, averaged and clipped."""
        for part in self.parts.values():
            for group in part.param_groups:
                group["lr"] = rate * group["factor"]
            part.step()

    @torch.no_grad()
    def penalize(self) -> None:
        """Add the gradient of l1 * sum |w|."""
        if self.knobs.l1:
            chosen = [(p.grad, p.sign()) for p in self.weights if p.grad is not None]
            torch._foreach_add_(
                parts([grad for grad, _ in chosen]),
                parts([sign for _, sign in chosen]),
                alpha=self.knobs.l1,
            )

    def zero(self) -> None:
        """Forget the gradients."""
        for part in self.parts.values():
            part.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`, with the decay and momentum of the knobs: they may be others by now."""
        for name, part in self.parts.items():
            own = [
                {key: value for key, value in group.items() if key != "params"}
                for group in part.param_groups
            ]
            part.load_state_dict(state[name])
            for group, told in zip(part.param_groups, own, strict=True):
                group.update(told)


def _groups(
    parameters: Sequence[nn.Parameter], factors: Factors, decay: float
) -> list[dict[str, Any]]:
    """Weights proper before the rest, and each by the factor of its learning rate."""
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for p in sorted(parameters, key=lambda p: p.ndim < 2):
        groups.setdefault((p.ndim < 2, factors.get(id(p), 1.0)), []).append(p)
    return [
        {"params": members, "weight_decay": 0.0 if spared else decay, "factor": factor}
        for (spared, factor), members in groups.items()
    ]


def _plain(
    parameters: Sequence[nn.Parameter], factors: Factors, knobs: FitParams
) -> torch.optim.Optimizer:
    groups, rate, momentum = (
        _groups(parameters, factors, knobs.weight_decay),
        knobs.learning_rate,
        knobs.momentum,
    )
    match knobs.optimizer:
        case "sgd":
            return torch.optim.SGD(
                groups, lr=rate, momentum=momentum, nesterov=momentum > 0, fused=True
            )
        case "adagrad":
            return torch.optim.Adagrad(
                groups, lr=rate, fused=all(p.device.type == "cpu" for p in parameters)
            )
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=rate, momentum=momentum, foreach=True)
        case "adam":
            return torch.optim.Adam(groups, lr=rate, fused=True)
        case _:
            return torch.optim.AdamW(groups, lr=rate, fused=True)


def _muon(
    module: nn.Module, parameters: Sequence[nn.Parameter], factors: Factors, knobs: FitParams
) -> Mapping[str, torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for hidden matrices; AdamW for embeddings, the head and all that is no matrix. Rates are matched (Liu et al. 2025, arXiv:2502.16982)."""
    tables = {id(each.weight) for each in module.modules() if isinstance(each, nn.Embedding)}
    head = {id(p) for name, p in module.named_parameters() if name.startswith("head.")}
    hidden = [p for p in parameters if p.ndim == 2 and id(p) not in tables | head]
    chosen = {id(p) for p in hidden}
    rest = [p for p in parameters if id(p) not in chosen]
    parts: dict[str, torch.optim.Optimizer] = (
        {
            "rest": torch.optim.AdamW(
                _groups(rest, factors, knobs.weight_decay), lr=knobs.learning_rate, fused=True
            )
        }
        if rest
        else {}
    )
    if hidden:
        groups = _groups(hidden, factors, knobs.weight_decay)
        parts["hidden"] = torch.optim.Muon(
            groups,
            lr=knobs.learning_rate,
            weight_decay=knobs.weight_decay,
            momentum=knobs.momentum,
            adjust_lr_fn="match_rms_adamw",
        )
    return parts
