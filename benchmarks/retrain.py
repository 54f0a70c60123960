"""Row "retrain with nothing new".

The whole command, from its start to its exit, on a project whose last retrain had the same data,
params and code. The script writes the record of that last retrain, so no pipeline has to run first.

python benchmarks/retrain.py [times]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from components.orchestration.pipeline_params import load
from components.orchestration.retraining.pipeline_inputs import read_inputs
from components.orchestration.retraining.retrain_log import now
from components.registry.release.retrain_record import RetrainRecord, record


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
        last, source, _ = read_inputs(project.root, params, draft)
        record(project.root, "default", last)
        seconds = []
        for _ in range(times):
            began = time.monotonic()
            process = project.gristmill("retrain")
            seconds.append(time.monotonic() - began)
            assert process.code == 0, process.out + process.error
            assert "nothing new" in process.out, process.out + process.error
    shown = f"median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s of {times}"
    print(
        f"| retrain with nothing new ({source.rows:,} rows, {source.bytes / 1e6:.1f} MB) "
        f"| {shown} | exit 0 within 5 s |"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
