"""Row "epochs to target, 20 seeds on tables recorded from real runs": searchers and schedulers replayed on learning curves of real fits.

python benchmarks/epochs_to_target.py record data/tokens   # 96 fits of nine epochs on 1,500 reviews, about 20 minutes on one core; writes learning_curves.json
python benchmarks/epochs_to_target.py                      # replay
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from components.orchestration.pipeline_params import section_model
from components.stages.tune.params import TuneParams
from components.stages.tune.schedulers import make_scheduler
from components.stages.tune.searchers import asker
from components.stages.tune.study import Trial, Watched

TABLE, TASK = Path(__file__).resolve().parent / "learning_curves.json", "text_classification"
EPOCHS, ROWS, SEED = 9, {"train": 1500, "validation": 1000}, 7
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
    **{
        f"nets.{net}.{knob}": {"choice": GRID[f"nets.*.{knob}"]}
        for net in NETS
        for knob in ("dropout", "width")
    },
}
TRAIN = section_model("train", TASK).model_validate({"architecture": "textcnn"})
WATCHED, SEEDS, SHARES = Watched("validation_macro_f1", "max"), 20, (0.005, 0.001)
TRIALS = {
    "random": 200,
    "optuna": 50,
}  # at most; a TPE that has not got there by then rarely does, and each of its draws looks at all trials before
ARMS = [("random", "none", 2), ("random", "asha", 2), ("random", "asha", 3), ("optuna", "asha", 2)]


def record(tokens: Path) -> None:
    """Fit every configuration and write down its curve; a second call goes on after the last one."""
    import torch

    from components.core.tables import read_manifest, read_table, write_table
    from components.training.fit_config import FitConfig
    from components.training.loop import fit
    from components.training.params import FitParams

    torch.set_num_threads(1)
    known: list[dict[str, Any]] = json.loads(TABLE.read_text()) if TABLE.exists() else []
    with tempfile.TemporaryDirectory() as scratch:
        small = Path(scratch) / "tokens"
        write_table(
            small,
            {split: _some(read_table(tokens, split), rows) for split, rows in ROWS.items()},
            {"encoder": read_manifest(tokens)["encoder"]},
        )
        (small / "encoder").symlink_to(tokens.resolve() / "encoder")
        for number, values in enumerate(itertools.product(*GRID.values())):
            architecture, batch_size, rate, dropout, width = values
            if number < len(known):
                continue
            knobs = FitParams(
                workers=1,
                epochs=EPOCHS,
                patience=EPOCHS,
                batch_size=batch_size,
                learning_rate=rate,
                label_smoothing=0.05,
                checkpoint_steps=10**6,
            )
            config = {**NETS[architecture], "dropout": dropout, "width": width}
            fitted = fit(
                FitConfig(
                    TASK, small, architecture, config, knobs, {}, SEED, Path(scratch) / str(number)
                )
            )
            known.append(
                {
                    "values": dict(zip(GRID, values, strict=True)),
                    "curve": [round(row["validation_macro_f1"], 5) for row in fitted.curve],
                }
            )
            TABLE.write_text("[\n" + ",\n".join(map(json.dumps, known)) + "\n]\n")
            print(known[-1], flush=True)


def _some(table: Any, rows: int) -> Any:
    """Rows from all over a table, which lies in the order of its classes."""
    return table.take([place * table.num_rows // rows for place in range(rows)])


def replay() -> None:
    """Print a row per target and arm. A trial costs its epochs as the scheduler lets it run, one trial after the other; a configuration that is asked for again costs them again."""
    table = {
        json.dumps([row["values"][key] for key in GRID]): row["curve"]
        for row in json.loads(TABLE.read_text())
    }
    best = max(max(curve) for curve in table.values())
    targets = [best * (1 - share) for share in SHARES]
    counts: dict[tuple[str, str, int], list[list[int]]] = {}
    for arm in ARMS:
        counts[arm] = [epochs_to(targets, table, *arm, seed) for seed in range(SEEDS)]
        print(arm, counts[arm], flush=True)
    for place, share in enumerate(SHARES):
        good = sum(max(curve) >= best * (1 - share) for curve in table.values())
        print(
            f"target {best * (1 - share):.4f} ({share:.1%} below the best of {len(table)}; {good} configurations reach it)"
        )
        for arm in ARMS:
            found = [each[place] for each in counts[arm]]
            low, middle, high = (statistics.quantiles(found, n=20)[cut] for cut in (0, 9, 18))
            against = " | ".join(
                _ratio([each[place] for each in counts[other]], found) for other in ARMS[:2]
            )
            print(
                f"| {arm[0]}, {arm[1]} (factor {arm[2]}) | {middle:.0f} epochs ({low:.0f}-{high:.0f}) | {against} |",
                flush=True,
            )


def epochs_to(
    targets: list[float],
    table: dict[str, list[float]],
    searcher: str,
    scheduler: str,
    factor: int,
    seed: int,
) -> list[int]:
    """Epochs of all trials until one has a figure of each target, or of all trials if none has."""
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
    taken: list[int] = []
    epochs = 0
    for number in range(params.trials):
        values = ask(number, trials)
        assert values is not None
        trials.append(Trial(number, values))
        for epoch, figure in enumerate(table[_nearest(values)], 1):
            trials[-1].rows.append({"epoch": float(epoch), WATCHED.name: figure})
            epochs += 1
            while len(taken) < len(targets) and figure >= targets[len(taken)]:
                taken.append(epochs)
            if len(taken) == len(targets):
                return taken
            if (
                brackets
                and epoch < EPOCHS
                and brackets[0].on_result(SimpleNamespace(trial_id=str(number)), epoch, figure)
                == "STOP"
            ):
                break
        trials[-1].outcome = "finished" if len(trials[-1].rows) == EPOCHS else "stopped"
    return taken + [epochs] * (len(targets) - len(taken))


def _nearest(values: dict[str, Any]) -> str:
    """The configuration of the table that is nearest to what was asked for: learning rates are asked for between the recorded ones."""
    net = values["architecture"]
    rate = min(
        GRID["learning_rate"], key=lambda each: abs(math.log(each / values["learning_rate"]))
    )
    return json.dumps(
        [
            net,
            values["batch_size"],
            rate,
            values[f"nets.{net}.dropout"],
            values[f"nets.{net}.width"],
        ]
    )


def _ratio(others: list[int], ours: list[int]) -> str:
    """Ratio of medians, with a 90% interval over resampled seeds."""
    rng = np.random.default_rng(0)
    picks = rng.integers(0, SEEDS, (2, 2000, SEEDS))
    ratios = np.median(np.array(others)[picks[0]], axis=1) / np.median(
        np.array(ours)[picks[1]], axis=1
    )
    low, high = np.percentile(ratios, [5, 95])
    return f"{np.median(others) / np.median(ours):.2f}x ({low:.2f}-{high:.2f})"


if __name__ == "__main__":
    if sys.argv[1:2] == ["record"]:
        record(Path(sys.argv[2]))
    else:
        replay()
