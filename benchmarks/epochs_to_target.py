"""Row "epochs to target, 20 seeds on tables recorded from real runs".

Searchers and schedulers are replayed on learning curves of real fits. The record is of 96 fits of
nine epochs on 1,500 reviews. It takes about 20 minutes on one core and writes
learning_curves.json.

python benchmarks/epochs_to_target.py record data/tokens
python benchmarks/epochs_to_target.py                      # replay
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from components.orchestration.pipeline_params import section_model
from components.stages.tune.params import TuneParams
from components.stages.tune.schedulers import make_scheduler
from components.stages.tune.searchers import asker
from components.stages.tune.study import MonitoredMetric, Trial

TABLE = Path(__file__).resolve().parent / "learning_curves.json"
TASK = "text_classification"
EPOCHS = 9
ROWS = {"train": 1500, "validation": 1000}
SEED = 7
GRID: dict[str, list[Any]] = {
    "architecture": ["ngrams", "textcnn"],
    "batch_size": [16, 64],
    "learning_rate": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2],
    "nets.*.dropout": [0.1, 0.5],
    "nets.*.width": [32, 128],
}
NETS: dict[str, dict[str, Any]] = {
    "ngrams": {"n": 2, "buckets": 5000},
    "textcnn": {"channels": 64, "kernels": [1, 2, 3]},
}

SPACE: dict[str, Any] = {
    "architecture": {"choice": GRID["architecture"]},
    "batch_size": {"choice": GRID["batch_size"]},
    "learning_rate": {"loguniform": [1e-4, 3e-2]},
}
for _net in NETS:
    for _param in ("dropout", "width"):
        SPACE[f"nets.{_net}.{_param}"] = {"choice": GRID[f"nets.*.{_param}"]}
TRAIN = section_model("train", TASK).model_validate({"architecture": "textcnn"})
WATCHED = MonitoredMetric("validation_macro_f1", "max")
SEEDS = 20
# Targets: below the best value of the table by these shares.
SHARES = (0.005, 0.001)
# The most trials of a search. A TPE that has not reached the target by then rarely does, and each
# of its draws reads all trials before.
TRIALS = {"random": 200, "optuna": 50}
# Searcher, scheduler, reduction factor.
Arm = tuple[str, str, int]
ARMS: list[Arm] = [
    ("random", "none", 2),
    ("random", "asha", 2),
    ("random", "asha", 3),
    ("optuna", "asha", 2),
]
# Configuration as JSON -> metric after each epoch.
Curves = dict[str, list[float]]


def record(tokens: Path) -> None:
    """Fit every configuration and write its curve. A second call continues after the last one."""
    import torch

    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = json.loads(TABLE.read_text()) if TABLE.exists() else []
    with tempfile.TemporaryDirectory() as scratch:
        small = _small_tokens(tokens, Path(scratch) / "tokens")
        for number, values in enumerate(itertools.product(*GRID.values())):
            if number < len(rows):
                continue
            curve = _fit_curve(small, values, Path(scratch) / str(number))
            rows.append({"values": dict(zip(GRID, values, strict=True)), "curve": curve})
            TABLE.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
            print(rows[-1], flush=True)


def _small_tokens(tokens: Path, folder: Path) -> Path:
    """Write some rows of the tokens to a folder, and return it."""
    from components.core.tables import read_manifest, read_table, write_table

    parts = {split: _sample(read_table(tokens, split), rows) for split, rows in ROWS.items()}
    write_table(folder, parts, {"encoder": read_manifest(tokens)["encoder"]})
    (folder / "encoder").symlink_to(tokens.resolve() / "encoder")
    return folder


def _fit_curve(tokens: Path, values: Sequence[Any], state: Path) -> list[float]:
    """Return the metric after each epoch of one configuration."""
    from components.tasks import base
    from components.training.fit_config import FitConfig
    from components.training.loop import fit
    from components.training.params import FitParams

    architecture, batch_size, rate, dropout, width = values
    params = FitParams(
        workers=1,
        epochs=EPOCHS,
        patience=EPOCHS,
        batch_size=batch_size,
        learning_rate=rate,
        checkpoint_steps=10**6,
    )
    config = {**NETS[architecture], "dropout": dropout, "width": width}
    spec = FitConfig(
        TASK,
        tokens,
        architecture,
        config,
        params,
        {},
        SEED,
        state,
        loss_params=base.models(TASK).loss_params(label_smoothing=0.05),
    )
    result = fit(spec)
    return [round(row["validation_macro_f1"], 5) for row in result.curve]


def _sample(table: Any, rows: int) -> Any:
    """Return rows at equal distances from a table, which has the order of its classes."""
    return table.take([number * table.num_rows // rows for number in range(rows)])


def replay() -> None:
    """Print a row for each target and arm.

    A trial costs the epochs that the scheduler lets it run. Trials run one after the other. A
    configuration that a searcher draws again costs its epochs again.
    """
    curves: Curves = {}
    for row in json.loads(TABLE.read_text()):
        curves[json.dumps([row["values"][key] for key in GRID])] = row["curve"]
    best = max(max(curve) for curve in curves.values())
    targets = [best * (1 - share) for share in SHARES]
    counts: dict[Arm, list[list[int]]] = {}
    for arm in ARMS:
        counts[arm] = [epochs_to(targets, curves, *arm, seed) for seed in range(SEEDS)]
        print(arm, counts[arm], flush=True)
    for number, share in enumerate(SHARES):
        target = best * (1 - share)
        good = sum(max(curve) >= target for curve in curves.values())
        print(
            f"target {target:.4f} ({share:.1%} below the best of {len(curves)}; "
            f"{good} configurations reach it)"
        )
        epochs: dict[Arm, list[int]] = {}
        for arm in ARMS:
            epochs[arm] = [by_target[number] for by_target in counts[arm]]
        for arm in ARMS:
            _show_arm(arm, epochs)


def _show_arm(arm: Arm, epochs: Mapping[Arm, list[int]]) -> None:
    quantiles = statistics.quantiles(epochs[arm], n=20)
    low, middle, high = (quantiles[cut] for cut in (0, 9, 18))
    ratios = " | ".join(_ratio(epochs[other], epochs[arm]) for other in ARMS[:2])
    print(
        f"| {arm[0]}, {arm[1]} (factor {arm[2]}) | {middle:.0f} epochs ({low:.0f}-{high:.0f}) "
        f"| {ratios} |",
        flush=True,
    )


def epochs_to(
    targets: list[float],
    curves: Curves,
    searcher: str,
    scheduler: str,
    factor: int,
    seed: int,
) -> list[int]:
    """Return the epochs of all trials until one reaches each target.

    If none reaches a target, it is the epochs of the whole search.
    """
    params = TuneParams.model_validate(
        {
            "space": SPACE,
            "trials": TRIALS[searcher],
            "epochs": EPOCHS,
            "searcher": searcher,
            "scheduler": scheduler,
            "reduction_factor": factor,
        }
    )
    ask = asker(params, TRAIN, seed, WATCHED)
    brackets = getattr(make_scheduler(params, WATCHED), "_brackets", None)
    trials: list[Trial] = []
    reached: list[int] = []
    epochs = 0
    for number in range(params.trials):
        values = ask(number, trials)
        assert values is not None
        trial = Trial(number, values)
        trials.append(trial)
        for epoch, metric in enumerate(curves[_nearest(values)], 1):
            trial.rows.append({"epoch": float(epoch), WATCHED.name: metric})
            epochs += 1
            while len(reached) < len(targets) and metric >= targets[len(reached)]:
                reached.append(epochs)
            if len(reached) == len(targets):
                return reached
            if brackets and epoch < EPOCHS and _stops(brackets[0], number, epoch, metric):
                break
        trial.outcome = "finished" if len(trial.rows) == EPOCHS else "stopped"
    return reached + [epochs] * (len(targets) - len(reached))


def _stops(
    bracket: Any,
    number: int,
    epoch: int,
    metric: float,
) -> bool:
    """Return whether a bracket of ASHA stops a trial."""
    trial = SimpleNamespace(trial_id=str(number))
    return bool(bracket.on_result(trial, epoch, metric) == "STOP")


def _nearest(values: dict[str, Any]) -> str:
    """Return the configuration of the table that is nearest to a draw.

    A searcher draws learning rates between those of the table.
    """
    net = values["architecture"]
    drawn = values["learning_rate"]
    rate = min(GRID["learning_rate"], key=lambda candidate: abs(math.log(candidate / drawn)))
    dropout = values[f"nets.{net}.dropout"]
    width = values[f"nets.{net}.width"]
    return json.dumps([net, values["batch_size"], rate, dropout, width])


def _ratio(others: list[int], ours: list[int]) -> str:
    """Return the ratio of medians, with a 90% interval over resampled seeds."""
    rng = np.random.default_rng(0)
    picks = rng.integers(0, SEEDS, (2, 2000, SEEDS))
    other_medians = np.median(np.array(others)[picks[0]], axis=1)
    our_medians = np.median(np.array(ours)[picks[1]], axis=1)
    low, high = np.percentile(other_medians / our_medians, [5, 95])
    return f"{np.median(others) / np.median(ours):.2f}x ({low:.2f}-{high:.2f})"


if __name__ == "__main__":
    if sys.argv[1:2] == ["record"]:
        record(Path(sys.argv[2]))
    else:
        replay()
