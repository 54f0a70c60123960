"""Row "retrain with nothing new": the whole command, from its start to its exit, on a project whose last retrain saw the same data, params and code.

The record of that last retrain is written by hand, so no pipeline has to run first.

python benchmarks/retrain.py [times]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from components.orchestration.pipeline_params import load
from components.orchestration.retraining.pipeline_inputs import made_with
from components.orchestration.retraining.retrain_records import now
from components.registry.release.retrain_log import RetrainRecord, record


def main(times: int) -> None:
    """Print the row."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from tests.commands.project import Project

    with tempfile.TemporaryDirectory() as scratch:
        project = Project(Path(scratch) / "p")
        params = load(project.root / "params.yaml")
        draft = RetrainRecord(
            "benchmark", "by hand", "refused", "", now(), now(), {}, "", "", "", "", 0
        )
        made, found, _ = made_with(project.root, params, draft)
        record(project.root, "default", made)
        seconds = []
        for _ in range(times):
            began = time.monotonic()
            done = project.gristmill("retrain")
            seconds.append(time.monotonic() - began)
            assert done.code == 0 and "nothing new" in done.out, done.out + done.error
    told = f"median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s of {times}"
    print(
        f"| retrain with nothing new ({found.rows:,} rows, {found.bytes / 1e6:.1f} MB) | {told} | exit 0 within 5 s |"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
