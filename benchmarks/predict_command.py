"""Row "gristmill predict": the whole command, from the shell to the answer.

    python benchmarks/predict_command.py quick "Broken after two days."

PIPELINE: one with a champion, such as `gristmill new quick --data docs/examples/reviews.csv
--preset fast -y; gristmill run quick`, whose champion is the baseline.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.processor import processor_name

ROOT = Path(__file__).resolve().parents[1]
RUNS = 15


def seconds(pipeline: str, query: str) -> float:
    """Return the seconds of one command."""
    began = time.perf_counter()
    command = str(Path(sys.executable).with_name("gristmill"))
    done = subprocess.run(
        [command, "predict", pipeline, query], cwd=ROOT, check=True, capture_output=True
    )
    assert done.stdout
    return time.perf_counter() - began


def main() -> None:
    """Print the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pipeline", help="its name")
    parser.add_argument("query", help="what it is asked")
    asked = parser.parse_args()
    # The first one reads its files from the disk.
    times = [seconds(asked.pipeline, asked.query) for _ in range(RUNS + 1)][1:]
    low, high = min(times), max(times)
    median = statistics.median(times)
    print(f"{processor_name()}; {RUNS} runs: {median:.2f} s ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
