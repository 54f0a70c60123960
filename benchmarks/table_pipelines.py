"""Tables of textbooks: `gristmill new` and its defaults against LightGBM, linear models and FLAML.

    python -m pip install --no-deps --target FOLDER/peers flaml==2.7.0 xgboost-cpu
    python benchmarks/table_pipelines.py run --folder FOLDER      # an hour; continues when cut
    python benchmarks/table_pipelines.py run --folder FOLDER --only credit --seeds 1
    python benchmarks/table_pipelines.py peers --folder FOLDER    # half an hour; continues when cut
    python benchmarks/table_pipelines.py table --folder FOLDER    # Markdown for RESULTS.md

The CSV files are in the package ISLP of PyPI, which is read as an archive, and in scikit-learn. No
choice of the tasks on tables was made on those of ISLP. Columns that state the target are cut.
Each table goes through `gristmill new NAME --data FILE` in a clone of the last commit. Only if
that takes another target than meant is `--target` added; the results say so. Then `gristmill run`.

All methods get the rows of the pipeline's clean splits. The others are fitted on train; the tuned
LightGBM is the best of 50 random settings on validation. FLAML chooses on validation and has 60
seconds on one thread: a run of a small table takes 65 seconds on two. Numbers are compared by
squared errors, classes by cross-entropy. Intervals are from a paired bootstrap of the test rows of
all seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
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
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tables import FLOOR, Floats, paired, random_settings
from components.core.files import to_json, write_atomic
from components.core.params import read_yaml
from components.core.tables import read_table

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "ISLP==0.6.0"
FOREIGN = ("RAY_", "GRISTMILL_", "DVC_", "MLFLOW_")
SPLITS = ("train", "validation", "test")
MOST_ROUNDS = 1000
FLAML_SECONDS = 60


@dataclass(frozen=True)
class Source:
    """Describe one table.

    Args:
        file: name of the CSV file, or of the set of scikit-learn.
        target: name of the column.
        cut: columns that state the target.
    """

    file: str
    target: str
    cut: tuple[str, ...] = ()


SOURCES: Mapping[str, Source] = {
    "auto": Source("Auto.csv", "mpg"),
    "bikeshare": Source("Bikeshare.csv", "bikers", ("casual", "registered")),
    "carseats": Source("Carseats.csv", "Sales"),
    "credit": Source("Credit.csv", "Balance"),
    "hitters": Source("Hitters.csv", "Salary"),
    "wage": Source("Wage.csv", "wage", ("logwage",)),
    "diabetes": Source("diabetes", "target"),
    "juice": Source("OJ.csv", "Purchase"),
    "default": Source("Default.csv", "default"),
    "cancer": Source("breast_cancer", "target"),
}


def fetch(folder: Path) -> None:
    """Write the tables as CSV files, once."""
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("*.whl")):
        words = ["pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
        subprocess.run([sys.executable, "-m", *words], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name, source in SOURCES.items():
            if source.file.endswith(".csv"):
                with archive.open(f"ISLP/data/{source.file}") as stream:
                    frame = pd.read_csv(stream)
            else:
                frame = getattr(datasets, f"load_{source.file}")(as_frame=True).frame
            frame = frame.drop(columns=list(source.cut))
            frame.to_csv(folder / f"{name}.csv", index=False)


# --- the pipeline -------------------------------------------------------------------------------


class Project:
    """A clone of the repository, in which tables go through the pipeline."""

    def __init__(self, root: Path) -> None:
        self.root = root
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        self.environment = {**kept, "PYTHONPATH": str(root), "PATH": path}

    def clone(self) -> None:
        """Clone the repository."""
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self.root)], check=True)

    def commit(self) -> str:
        """Return the commit of the clone."""
        words = ["git", "-C", str(self.root), "rev-parse", "--short", "HEAD"]
        return subprocess.check_output(words, text=True).strip()

    def gristmill(self, *words: str) -> str:
        """Run a command in the clone without a terminal, and return what it printed.

        Raises:
            RuntimeError: it failed.
        """
        done = subprocess.run(
            [sys.executable, "-m", "components.cli", *words],
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        # A gate that waits for a person ends with 3.
        if done.returncode not in (0, 3):
            raise RuntimeError(f"gristmill {words[0]}: {done.stdout.strip()[-3000:]}")
        return done.stdout

    def new(
        self,
        pipeline: str,
        data: Path,
        target: str,
        seed: int,
    ) -> dict[str, Any]:
        """Make a pipeline, with `--target` only if another target is guessed.

        Args:
            pipeline: its name.
            data: the CSV file.
            target: name of the column that is meant.
            seed: of the split and of all fits.

        Returns:
            What `new` printed, the target that it guessed (None: it refused), and the task.
        """
        words = ["new", pipeline, "--data", str(data), "--set", f"seed={seed}"]
        folder = self.root / "pipelines" / pipeline
        shutil.rmtree(folder, ignore_errors=True)
        try:
            printed = self.gristmill(*words)
            guessed = read_yaml(folder / "params.yaml")["ingest"]["columns"].get("target")
        except RuntimeError as error:
            printed = str(error)
            guessed = None
        if guessed != target:
            shutil.rmtree(folder, ignore_errors=True)
            printed = self.gristmill(*words, "--target", target)
        task = read_yaml(folder / "params.yaml")["task"]
        return {"printed": printed, "guessed": guessed, "task": task}

    def run(self, pipeline: str) -> dict[str, Any]:
        """Run a pipeline; return its seconds and its last lines."""
        start = time.monotonic()
        printed = self.gristmill("run", pipeline)
        return {"seconds": time.monotonic() - start, "printed": printed[-3000:]}

    def table(self, pipeline: str, folder: str, name: str) -> pd.DataFrame:
        """Return a table of a pipeline's outputs.

        Args:
            pipeline: its name.
            folder: of the tables, below the pipeline's data.
            name: of the table.
        """
        frame: pd.DataFrame = read_table(self.root / "data" / pipeline / folder, name).to_pandas()
        return frame

    def report(self, pipeline: str, name: str) -> Any:
        """Return a report of a pipeline."""
        path = self.root / "data" / pipeline / "reports" / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8"))


# --- methods ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """Hold the rows of one split.

    Args:
        inputs: numbers, and categories of pandas.
        target: numbers, or indices of classes.
    """

    inputs: pd.DataFrame
    target: NDArray[Any]


@dataclass(frozen=True)
class Case:
    """Hold a table with its splits.

    Args:
        parts: rows by split.
        classes: their names; empty for numbers.
        seed: of the split and of all methods.
    """

    parts: Mapping[str, Part]
    classes: Sequence[str]
    seed: int


def read_case(project: Project, pipeline: str, seed: int) -> Case:
    """Return the clean rows of a pipeline.

    Categories that train does not have count as missing.

    Args:
        project: the clone.
        pipeline: its name.
        seed: of the peers.
    """
    kinds = read_yaml(project.root / "pipelines" / pipeline / "params.yaml")["ingest"]["inputs"]
    tables = {split: project.table(pipeline, "clean", split) for split in SPLITS}
    target = "label" if "label" in tables["train"] else "target"
    classes: list[str] = []
    if target == "label":
        classes = sorted(set(tables["train"][target]))
    for name, kind in kinds.items():
        known = sorted(set(tables["train"][name].dropna().astype(str)))
        for table in tables.values():
            if kind == "number":
                table[name] = table[name].astype(np.float64)
            else:
                values = table[name].astype(str).where(table[name].notna())
                table[name] = pd.Categorical(values.where(values.isin(known)), known)
    parts = {}
    for split, table in tables.items():
        truth = table[target].to_numpy()
        if classes:
            truth = np.array([classes.index(name) for name in truth])
        parts[split] = Part(table[list(kinds)], truth)
    return Case(parts, classes, seed)


def boosted(case: Case, settings: Mapping[str, Any]) -> Any:
    """Return a LightGBM fitted on train.

    Args:
        case: the table.
        settings: other than the defaults.
    """
    train = case.parts["train"]
    model_class = lightgbm.LGBMClassifier if case.classes else lightgbm.LGBMRegressor
    model = model_class(n_jobs=1, verbose=-1, random_state=case.seed, **settings)
    model.fit(train.inputs, train.target)
    return model


def defaults(case: Case) -> Any:
    """Return LightGBM with its defaults."""
    return boosted(case, {})


def tuned(case: Case) -> Any:
    """Return the LightGBM that is best on validation, of 50 random settings."""
    rng = np.random.default_rng(case.seed)
    train = case.parts["train"]
    held_out = case.parts["validation"]
    best_loss = np.inf
    best: Any = None
    for _ in range(50):
        model_class = lightgbm.LGBMClassifier if case.classes else lightgbm.LGBMRegressor
        model = model_class(
            n_jobs=1,
            verbose=-1,
            random_state=case.seed,
            n_estimators=MOST_ROUNDS,
            **random_settings(rng),
        )
        model.fit(
            train.inputs,
            train.target,
            eval_X=held_out.inputs,
            eval_y=held_out.target,
            callbacks=[lightgbm.early_stopping(30, verbose=False)],
        )
        (loss,) = list(model.best_score_["valid_0"].values())[:1]
        if loss < best_loss:
            best_loss = loss
            best = model
    return best


def linear(case: Case) -> Any:
    """Return ridge or logistic regression, its penalty chosen by folds of train."""
    train = case.parts["train"]
    numbers = list(train.inputs.select_dtypes("number"))
    others = [name for name in train.inputs if name not in numbers]
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore"), others),
    )
    if case.classes:
        model = make_pipeline(columns, LogisticRegressionCV(Cs=10, max_iter=2000))
    else:
        model = make_pipeline(columns, RidgeCV(np.logspace(-3, 4, 15)))
    model.fit(train.inputs, train.target)
    return model


def flaml(case: Case) -> Any:
    """Return what FLAML finds in its time."""
    from flaml import AutoML

    train = case.parts["train"]
    held_out = case.parts["validation"]
    model = AutoML()
    model.fit(
        X_train=train.inputs,
        y_train=train.target,
        X_val=held_out.inputs,
        y_val=held_out.target,
        task="classification" if case.classes else "regression",
        metric="log_loss" if case.classes else "rmse",
        time_budget=FLAML_SECONDS,
        estimator_list=["lgbm", "xgboost", "rf", "extra_tree", *(["lrl1"] if case.classes else [])],
        n_jobs=1,
        seed=case.seed,
        verbose=0,
    )
    return model


METHODS: Mapping[str, Callable[[Case], Any]] = {
    "defaults": defaults,
    "tuned": tuned,
    "linear": linear,
    "flaml": flaml,
}


def losses(case: Case, answers: Floats) -> Floats:
    """Return (n,) squared errors, or cross-entropies in nats.

    Args:
        case: with the true values of test.
        answers: numbers (n,), or shares (n, classes).
    """
    truth = case.parts["test"].target
    if not case.classes:
        return np.asarray((answers - truth) ** 2)
    return np.asarray(-np.log(answers[np.arange(len(truth)), truth].clip(FLOOR, None)))


def peer_answers(case: Case, model: Any) -> Floats:
    """Return what a fitted peer answers to the test rows.

    Args:
        case: the table.
        model: with the interface of scikit-learn.

    Returns:
        Numbers (n,), or shares (n, classes).
    """
    inputs = case.parts["test"].inputs
    answer = model.predict_proba if case.classes else model.predict
    return np.asarray(answer(inputs))


def own_answers(case: Case, table: pd.DataFrame) -> Floats:
    """Return the winner's answers to the test rows.

    Args:
        case: the table.
        table: of answers, in the order of the clean table.

    Returns:
        Numbers (n,), or shares (n, classes).
    """
    answers = [json.loads(text) for text in table["answer"]]
    if not case.classes:
        return np.array([answer["value"] for answer in answers])
    shares = pd.DataFrame([answer["probabilities"] for answer in answers])
    return np.asarray(shares[list(case.classes)])


# --- results ------------------------------------------------------------------------------------


def measure_pipeline(
    project: Project,
    folder: Path,
    name: str,
    seed: int,
) -> dict[str, Any]:
    """Return the losses of the winner of a pipeline.

    Args:
        project: the clone in which it runs.
        folder: of the CSV files.
        name: of the table.
        seed: of the split and of all fits.

    Raises:
        RuntimeError: a command failed, or the answers have another order.
    """
    pipeline = f"{name}-{seed}"
    source = SOURCES[name]
    new = project.new(pipeline, folder / f"{name}.csv", source.target, seed)
    run = project.run(pipeline)
    case = read_case(project, pipeline, seed)
    rows = project.report(pipeline, "leaderboard")["candidates"]
    winner = next(row for row in rows if row["winner"])
    answers = project.table(pipeline, "reports/answers", "test")
    if answers["id"].tolist() != project.table(pipeline, "clean", "test")["id"].tolist():
        raise RuntimeError("the answers are not in the order of the test rows")
    result: dict[str, Any] = {
        "commit": project.commit(),
        "rows": {split: len(part.target) for split, part in case.parts.items()},
        "classes": len(case.classes),
        "new": new,
        "run": run,
        "winner": f"{winner['name']}: {winner['title']}",
        "test": winner["test"],
        "losses": {"ours": losses(case, own_answers(case, answers)).tolist()},
    }
    if not case.classes:
        result["covered"] = covered(case, answers).tolist()
    return result


def measure_peers(case: Case) -> dict[str, Any]:
    """Return the losses and the CPU-seconds of the other methods."""
    found: dict[str, Any] = {"losses": {}, "cpu": {}}
    for method, fit in METHODS.items():
        start = time.process_time()
        model = fit(case)
        found["cpu"][method] = time.process_time() - start
        found["losses"][method] = losses(case, peer_answers(case, model)).tolist()
    return found


def covered(case: Case, table: pd.DataFrame) -> NDArray[np.bool_]:
    """Return (n,) whether the answer's interval holds the true number.

    Args:
        case: the table.
        table: of answers, in the order of the clean table.
    """
    answers = [json.loads(text) for text in table["answer"]]
    low = np.array([answer["low"] for answer in answers], dtype=np.float64)
    high = np.array([answer["high"] for answer in answers], dtype=np.float64)
    truth = case.parts["test"].target
    return np.asarray((low <= truth) & (truth <= high))


def table(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the results as Markdown, with the seeds of a table joined.

    Args:
        results: name of a table -> results of its seeds.
    """
    peers = list(METHODS)
    titles = [
        "table",
        "rows",
        "ours",
        *peers,
        *(f"to {name}" for name in peers),
        "90% hold",
        "winners",
    ]
    lines = ["| " + " | ".join(titles) + " |", "| --- " * len(titles) + "|"]
    for name, runs in results.items():
        joined = {}
        for method in ("ours", *peers):
            joined[method] = np.concatenate([run["losses"][method] for run in runs])
        is_number = not runs[0]["classes"]
        cells = [name, f"{sum(runs[0]['rows'].values()):,}"]
        for values in joined.values():
            mean = float(values.mean())
            cells.append(f"{np.sqrt(mean):.4g}" if is_number else f"{mean:.3f}")
        pattern = "{:+.1%} to {:+.1%}" if is_number else "{:+.3f} to {:+.3f}"
        for method in peers:
            cells.append(pattern.format(*paired(joined["ours"], joined[method], is_number)))
        cells.append(coverage(runs) if is_number else "")
        cells.append(", ".join(sorted({run["winner"].partition(":")[0] for run in runs})))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def coverage(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the share of test rows in their intervals, with its 95% interval (Wilson 1927).

    Args:
        runs: results of one table, or of several.
    """
    hits = np.concatenate([run["covered"] for run in runs]).astype(float)
    share = hits.mean()
    z = 1.96
    half = z * np.sqrt(share * (1 - share) / len(hits) + z**2 / (4 * len(hits) ** 2))
    center = share + z**2 / (2 * len(hits))
    low, high = [(center + side) / (1 + z**2 / len(hits)) for side in (-half, half)]
    return f"{share:.1%} ({low:.1%} to {high:.1%})"


def kept_results(folder: Path) -> dict[str, list[Any]]:
    """Return the results that have those of the peers, by table."""
    results: dict[str, list[Any]] = {}
    for name in SOURCES:
        for path in sorted((folder / "results").glob(f"{name}-*.json")):
            result = json.loads(path.read_text(encoding="utf-8"))
            if "cpu" in result:
                results.setdefault(name, []).append(result)
    return results


def main(words: Sequence[str] | None = None) -> None:
    """Measure tables, keep each result as JSON, and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("run", "peers", "table"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=101)
    options = parser.parse_args(words)
    folder = options.folder.resolve()
    sys.path.append(str(folder / "peers"))
    project = Project(folder / "project")
    (folder / "results").mkdir(parents=True, exist_ok=True)
    if options.action == "run":
        fetch(folder)
        if not project.root.exists():
            project.clone()
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for name in options.only:
            path = folder / "results" / f"{name}-{seed}.json"
            result = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            if options.action == "run" and not result:
                result = measure_pipeline(project, folder, name, seed)
            elif options.action == "peers" and result and "cpu" not in result:
                found = measure_peers(read_case(project, f"{name}-{seed}", seed))
                result["cpu"] = found["cpu"]
                result["losses"] |= found["losses"]
            else:
                continue
            write_atomic(path, to_json(result).encode())
            print(path.stem, result["winner"], result["test"], flush=True)
    print(table(kept_results(folder)))


if __name__ == "__main__":
    main()
