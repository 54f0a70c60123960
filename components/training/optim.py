"""Build optimizers with weight decay and penalties."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import nn

from components.models.base import AdapterModel
from components.training.fsdp import parts
from components.training.params import FitParams

# id of a parameter -> factor of its learning rate. A parameter that is missing has 1.
Factors = Mapping[int, float]


class Optimizers:
    """Optimizers of a network's weights.

    Decay and penalties apply to weights of two or more axes. Biases, norms and other small
    parameters have none. Decay is decoupled in adamw and muon (Loshchilov and Hutter 2019,
    arXiv:1711.05101). For the other optimizers it is an L2 penalty.

    Args:
        module: the network whose parameters are updated.
        params: the fit's params.
    """

    def __init__(self, module: nn.Module, params: FitParams) -> None:
        _do_without_compiler()
        self.params = params
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.weights = [p for p in self.parameters if p.ndim >= 2]
        factors: Factors = {}
        if isinstance(module, AdapterModel):
            factors = {id(p): module.rates()[name] for name, p in module.named_parameters()}
        self.parts: Mapping[str, torch.optim.Optimizer]
        if params.optimizer == "muon":
            self.parts = _muon(module, self.parameters, factors, params)
        else:
            self.parts = {"all": _build(self.parameters, factors, params)}

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update the weights from averaged and clipped gradients.

        Args:
            learning_rate: of this step. Groups multiply it by their factors.
        """
        for part in self.parts.values():
            for group in part.param_groups:
                group["lr"] = learning_rate * group["factor"]
            # What torch wraps around it imports the compiler, see `_do_without_compiler`.
            inspect.unwrap(type(part).step)(part)

    @torch.no_grad()
    def penalize(self) -> None:
        """Add the gradient of l1 * sum |w|."""
        if not self.params.l1:
            return
        gradients = []
        signs = []
        for weight in self.weights:
            if weight.grad is not None:
                gradients.append(weight.grad)
                signs.append(weight.sign())
        torch._foreach_add_(parts(gradients), parts(signs), alpha=self.params.l1)

    def zero(self) -> None:
        """Clear the gradients."""
        for part in self.parts.values():
            part.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        """Return the state as tensors and plain values."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state, with the decay and momentum of the current params.

        The params may have changed since the state was saved.
        """
        for name, part in self.parts.items():
            current = []
            for group in part.param_groups:
                current.append({key: value for key, value in group.items() if key != "params"})
            part.load_state_dict(state[name])
            for group, values in zip(part.param_groups, current, strict=True):
                group.update(values)


@cache
def _do_without_compiler() -> None:
    """Let the methods of torch's optimizers run without `torch._dynamo`.

    At the first call they import it to exclude themselves from what is compiled. That takes 1.7 s
    of CPU in each process that trains. Here optimizers run outside of compiled code.
    """
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        method = inspect.unwrap(getattr(torch.optim.Optimizer, name))
        vars(method)["__dynamo_disable"] = method


def _groups(
    parameters: Sequence[nn.Parameter], factors: Factors, decay: float
) -> list[dict[str, Any]]:
    """Return parameter groups: weights before the others, divided by learning rate factor.

    Args:
        parameters: to update.
        factors: of their learning rates.
        decay: of the weights. Parameters of fewer than two axes have none.

    Returns:
        Groups as torch's optimizers take them, each with its "factor".
    """
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for parameter in sorted(parameters, key=lambda p: p.ndim < 2):
        factor = factors.get(id(parameter), 1.0)
        groups.setdefault((parameter.ndim < 2, factor), []).append(parameter)
    return [
        {"params": members, "weight_decay": 0.0 if without_decay else decay, "factor": factor}
        for (without_decay, factor), members in groups.items()
    ]


def _build(
    parameters: Sequence[nn.Parameter], factors: Factors, params: FitParams
) -> torch.optim.Optimizer:
    """Return one optimizer of all parameters.

    Args:
        parameters: to update.
        factors: of their learning rates.
        params: the fit's params, which name the optimizer.
    """
    groups = _groups(parameters, factors, params.weight_decay)
    lr = params.learning_rate
    momentum = params.momentum
    match params.optimizer:
        case "sgd":
            nesterov = momentum > 0
            return torch.optim.SGD(
                groups,
                lr=lr,
                momentum=momentum,
                nesterov=nesterov,
                fused=True,
            )
        case "adagrad":
            on_cpu = all(p.device.type == "cpu" for p in parameters)
            return torch.optim.Adagrad(groups, lr=lr, fused=on_cpu)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=lr, momentum=momentum, foreach=True)
        case "adam":
            return torch.optim.Adam(groups, lr=lr, fused=True)
        case _:
            return torch.optim.AdamW(groups, lr=lr, fused=True)


def _muon(
    module: nn.Module, parameters: Sequence[nn.Parameter], factors: Factors, params: FitParams
) -> Mapping[str, torch.optim.Optimizer]:
    """Return Muon for hidden matrices, and AdamW for the other parameters.

    The others are embeddings, the head, and all that is not a matrix. Muon: Jordan et al.
    2024. Learning rates are matched as in Liu et al. 2025 (arXiv:2502.16982).
    """
    embeddings = {id(layer.weight) for layer in module.modules() if isinstance(layer, nn.Embedding)}
    head = {id(p) for name, p in module.named_parameters() if name.startswith("head.")}
    hidden = [p for p in parameters if p.ndim == 2 and id(p) not in embeddings | head]
    hidden_ids = {id(p) for p in hidden}
    rest = [p for p in parameters if id(p) not in hidden_ids]
    optimizers: dict[str, torch.optim.Optimizer] = {}
    if rest:
        groups = _groups(rest, factors, params.weight_decay)
        optimizers["rest"] = torch.optim.AdamW(groups, lr=params.learning_rate, fused=True)
    if hidden:
        groups = _groups(hidden, factors, params.weight_decay)
        optimizers["hidden"] = torch.optim.Muon(
            groups,
            lr=params.learning_rate,
            weight_decay=params.weight_decay,
            momentum=params.momentum,
            adjust_lr_fn="match_rms_adamw",
        )
    return optimizers
