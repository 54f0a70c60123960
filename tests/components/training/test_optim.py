"""Optimizers, schedules, penalties, averages, number formats: against formulas and against torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stage_runner import StageRunner

from components.core.errors import ParamsError
from components.training.ema import MovingAverage
from components.training.loop import fit
from components.training.lr_schedule import learning_rate_at
from components.training.optim import Optimizers
from components.training.params import FitParams
from components.training.precision import Precision, resolve


def knobs(**given: Any) -> FitParams:
    return FitParams.model_validate({"workers": 1, "learning_rate": 0.1} | given)


def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 3))


def trained(module: torch.nn.Module, step: Any, steps: int = 5) -> list[torch.Tensor]:
    torch.manual_seed(1)
    for x in torch.randn(steps, 10, 6):
        module.zero_grad()
        module(x).square().mean().backward()
        step()
    return [p.detach().clone() for p in module.parameters()]


REFERENCES: dict[str, Any] = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True),
    "adagrad": lambda groups: torch.optim.Adagrad(groups, lr=0.1),
    "rmsprop": lambda groups: torch.optim.RMSprop(groups, lr=0.1, momentum=0.9),
    "adam": lambda groups: torch.optim.Adam(groups, lr=0.1),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.1),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_optimisers_do_what_torchs_do_and_spare_biases_and_norms_from_decay(name: str) -> None:
    ours, theirs = net(), net()
    optimizers = Optimizers(ours, knobs(optimizer=name, weight_decay=0.05))
    reference = REFERENCES[name](
        [
            {"params": [p for p in theirs.parameters() if p.ndim > 1], "weight_decay": 0.05},
            {"params": [p for p in theirs.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ]
    )

    def step() -> None:
        optimizers.penalize()
        optimizers.step(0.1)

    for mine, other in zip(trained(ours, step), trained(theirs, reference.step), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-5)


USE_OPTIMIZERS = """
import sys
import torch
from components.training.optim import Optimizers
from components.training.params import FitParams

for name in ("sgd", "adagrad", "rmsprop", "adam", "adamw"):
    module = torch.nn.Linear(2, 1)
    params = FitParams.model_validate({"optimizer": name, "workers": 1, "learning_rate": 0.1})
    optimizers = Optimizers(module, params)
    module(torch.ones(3, 2)).sum().backward()
    optimizers.step(0.1)
    optimizers.zero()
    optimizers.restore(optimizers.state())
print("torch._dynamo" in sys.modules)
"""


def test_optimizers_do_not_import_the_compiler_of_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", USE_OPTIMIZERS], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_muon_takes_hidden_matrices_and_adam_the_rest() -> None:
    class Small(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.hidden, self.head = (
                torch.nn.Embedding(9, 6),
                torch.nn.Linear(6, 6),
                torch.nn.Linear(6, 2),
            )

    module = Small()
    optimizers = Optimizers(module, knobs(optimizer="muon", weight_decay=0.0))
    (hidden,) = optimizers.parts["hidden"].param_groups[0]["params"]
    assert hidden is module.hidden.weight
    assert sum(len(group["params"]) for group in optimizers.parts["rest"].param_groups) == 4
    before = hidden.detach().clone()
    hidden.grad = torch.randn(6, 6)
    optimizers.step(0.1)
    singular = torch.linalg.svdvals(before - hidden.detach())
    assert singular.max() / singular.min() < 3  # an orthogonal update: all directions alike


def test_l1_pulls_weights_by_their_sign() -> None:
    module = net()
    optimizers = Optimizers(module, knobs(optimizer="sgd", momentum=0.0, weight_decay=0.0, l1=0.5))
    for p in module.parameters():
        p.grad = torch.zeros_like(p)
    optimizers.penalize()
    torch.testing.assert_close(module[0].weight.grad, 0.5 * module[0].weight.sign())
    assert not module[0].bias.grad.any()  # type: ignore[operator,union-attr]


# -- schedules
def curve(**given: Any) -> list[float]:
    return [
        learning_rate_at(step, 100, knobs(**{"learning_rate": 1.0, "warmup_share": 0.1} | given))
        for step in range(100)
    ]


def test_warm_up_by_share_or_by_steps() -> None:
    assert curve()[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert curve(warmup_steps=4, schedule="constant")[:6] == pytest.approx(
        [0.25, 0.5, 0.75, 1, 1, 1]
    )
    assert curve(warmup_share=0.0)[0] == 1.0


@pytest.mark.parametrize(
    ("schedule", "at_half", "at_end"),
    [
        ("constant", 1.0, 1.0),
        ("linear", 0.5, 1 / 90),
        ("cosine", 0.5, 0.000305),
        ("exponential", 0.1**0.5, 0.1 ** (89 / 90)),
        ("step", 0.1, 0.01),
        ("one_cycle", 0.50005, 0.000405),
    ],
)
def test_schedules_end_where_they_should(schedule: str, at_half: float, at_end: float) -> None:
    values = curve(schedule=schedule)
    assert values[55] == pytest.approx(at_half, rel=1e-3)
    assert values[99] == pytest.approx(at_end, rel=1e-2)
    assert max(values) == pytest.approx(1.0)


def test_one_cycle_begins_at_a_25th() -> None:
    values = curve(schedule="one_cycle")
    assert values[0] == pytest.approx(1 / 25 + 0.024 * (1 - 1 / 25), abs=0.01)
    assert values[:10] == sorted(values[:10])


def test_a_plateau_lowers_the_rate_of_what_follows(reviews: StageRunner, tmp_path: Path) -> None:
    assert learning_rate_at(
        50, 100, knobs(schedule="plateau", schedule_factor=0.5), reductions=2
    ) == pytest.approx(0.025)
    same: dict[str, Any] = {
        "epochs": 4,
        "patience": 4,
        "learning_rate": 1e-9,
        "warmup_share": 0.0,
    }  # nothing is ever gained
    moved = {}
    for schedule, factor in (("constant", 0.1), ("plateau", 0.5)):
        given = reviews.spec(
            tmp_path / schedule,
            optimizer="sgd",
            momentum=0.0,
            weight_decay=0.0,
            schedule=schedule,
            schedule_factor=factor,
            **same,
        )
        moved[schedule] = fit(given).curve
    assert [row["validation_macro_f1"] for row in moved["constant"]] == [
        row["validation_macro_f1"] for row in moved["plateau"]
    ]


# -- averages
def test_an_average_follows_the_weights_and_is_swapped_in_and_out() -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(module.weight, 0.0)
    average, expected = MovingAverage(module, 0.5), 0.0
    for step in range(1, 6):
        torch.nn.init.constant_(module.weight, float(step))
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    with average.swapped():
        assert float(module.weight) == pytest.approx(expected)
    assert float(module.weight) == 5.0


def test_what_is_judged_and_kept_is_the_average(reviews: StageRunner, tmp_path: Path) -> None:
    given: dict[str, Any] = {"epochs": 2, "patience": 9, "learning_rate": 0.02}
    plain, averaged = (
        fit(reviews.spec(tmp_path / "plain", **given)),
        fit(reviews.spec(tmp_path / "ema", ema=0.9, **given)),
    )
    assert [row["train_loss"] for row in plain.curve] == pytest.approx(
        [row["train_loss"] for row in averaged.curve]
    )  # training itself is the same
    assert plain.curve != averaged.curve
    one, two = load_file(plain.weights), load_file(averaged.weights)
    assert any(not torch.equal(one[name], two[name]) for name in one)


# -- number formats
def test_auto_asks_the_hardware_and_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    wide, narrow = torch.nn.Linear(256, 8), torch.nn.Linear(16, 8)
    for has_amx, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has_amx=has_amx: has_amx)
        assert resolve("auto", wide) == expected
        assert resolve("auto", narrow) == "fp32"
        assert resolve("bf16", narrow) == "bf16"


def test_a_gpu_without_bf16_refuses_it_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from components.training import precision

    class Far(torch.nn.Linear):
        def parameters(self, recurse: bool = True) -> Any:
            class OnGpu:
                device = torch.device("cuda", 0)

            return iter([OnGpu()])

    monkeypatch.setattr(precision, "_bf16", lambda device: False)
    assert resolve("auto", Far(4, 4)) == "fp16"
    with pytest.raises(ParamsError, match=r"train\.precision: bf16 is not"):
        resolve("bf16", Far(4, 4))


def test_the_fp16_scale_shrinks_on_overflow_and_grows_again() -> None:
    precision = Precision("fp16", torch.device("cpu"))
    start = precision.scale
    assert precision.overflowed(finite=False)
    assert precision.scale == start / 2
    for _ in range(2000):
        assert not precision.overflowed(finite=True)
    assert precision.scale == start
    twin = Precision("fp16", torch.device("cpu"))
    twin.restore(precision.state())
    assert twin.state() == precision.state()
    precision.restore({"scale": 1.0, "finite": 0})
    assert not precision.overflowed(
        finite=False
    )  # no scale is left to blame: the learning itself has failed
    assert Precision("fp32", torch.device("cpu")).scale == 1.0


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_half_precision_learns_what_single_does(
    reviews: StageRunner, tmp_path: Path, name: str
) -> None:
    given: dict[str, Any] = {"epochs": 4, "patience": 4}
    single, half = (
        fit(reviews.spec(tmp_path / "fp32", "transformer", precision="fp32", **given)),
        fit(reviews.spec(tmp_path / name, "transformer", precision=name, **given)),
    )
    assert half.curve[-1]["train_loss"] == pytest.approx(single.curve[-1]["train_loss"], abs=0.05)
    assert half.curve[-1]["train_loss"] < half.curve[0]["train_loss"] * 0.9
    assert all(tensor.dtype == torch.float32 for tensor in load_file(half.weights).values())
