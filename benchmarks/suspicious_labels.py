"""Plant wrong labels in a cleaned table, and measure how many of them are found.

python benchmarks/suspicious_labels.py params.yaml data/clean
python benchmarks/suspicious_labels.py pipelines/digits/params.yaml data/digits/clean
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from components.core.tables import read_manifest, read_table
from components.orchestration.pipeline_params import load
from components.tasks import base


def main() -> None:
    """Print recall, precision and the precision of the first rows of the list."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("params", type=Path)
    parser.add_argument("clean", type=Path)
    parser.add_argument("--share", type=float, default=0.05, help="of the labels that are changed")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    params = load(options.params)
    manifest = read_manifest(options.clean)
    rules = base.schema(params.task).targets
    targets = rules.info(manifest)
    rows = pa.concat_tables([read_table(options.clean, name) for name in ("train", "validation")])
    rng = np.random.default_rng(options.seed)
    labels = rows["label"].to_pylist()
    count = round(options.share * len(labels))
    planted = set(rng.choice(len(labels), count, replace=False).tolist())
    for row in sorted(planted):
        others = [name for name in targets["classes"] if name != labels[row]]
        labels[row] = others[rng.integers(len(others))]
    position = rows.column_names.index("label")
    rows = rows.set_column(position, "label", pa.array(labels, rows["label"].type))
    facet = base.baselines(params.task)
    assert isinstance(facet, base.DoubtsTargets)
    start = time.perf_counter()
    doubtful = facet.doubtful_targets(
        rows,
        targets,
        params.sections["train"],
        params.sections["clean"],
        folds=5,
        seed=params.seed,
        inputs=base.chosen_inputs(manifest),
    )
    seconds = time.perf_counter() - start
    hits = [doubt.row in planted for doubt in doubtful]
    found = sum(hits)
    first = sum(hits[:count])
    print(f"{rows.num_rows:,} rows, {count:,} planted, {len(doubtful):,} listed in {seconds:.1f} s")
    print(f"recall {found / count:.1%}, precision {found / max(1, len(hits)):.1%}")
    print(f"of the first {count:,} listed {first / count:.1%} are planted")


if __name__ == "__main__":
    main()
