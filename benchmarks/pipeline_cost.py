"""What a pipeline costs: the time of each stage, the share that is not work, peak memory, a no-op.

    # In a clean clone, after installation. It prints rows for RESULTS.md.
    python benchmarks/pipeline_cost.py [PIPELINE]

Memory is the sum of PSS. PSS divides shared pages among the processes that share them, so the sum
over the processes of the run is what the machine had to provide.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
STAGE = re.compile(r"✓ (\w+) ([\d.]+) s \(work ([\d.]+) s\)")
# Name, seconds, seconds of work.
Row = tuple[str, float, float]


def pss(pids: set[int]) -> int:
    """Return the sum of PSS over processes, in bytes. Processes that have ended count nothing."""
    total = 0
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            match = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
            total += int(match[1]) * 1024  # type: ignore[index]
        except (OSError, TypeError):
            continue
    return total


def run_processes(pid: int) -> set[int]:
    """Return a process, its descendants, and every process of the Ray that it started.

    Ray leaves the process tree, because its supervisor has a session of its own.
    """
    pids = {pid}
    for process in psutil.process_iter(["pid", "cwd", "cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if (process.info["cwd"] or "").startswith(str(ROOT)) or str(ROOT) in words:
            pids.add(process.info["pid"])
    for parent in list(pids):
        try:
            children = psutil.Process(parent).children(recursive=True)
            pids |= {child.pid for child in children}
        except psutil.Error:
            continue
    return pids - {os.getpid()}


def run_pipeline(pipeline: str) -> tuple[str, float, int]:
    """Run a pipeline and print its output. Return the output, the seconds and the peak of PSS."""
    gristmill = str(Path(sys.executable).with_name("gristmill"))
    started = time.perf_counter()
    process = subprocess.Popen(
        [gristmill, "run", pipeline],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peak = 0

    def sample() -> None:
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, pss(run_processes(process.pid)))
            time.sleep(1)

    threading.Thread(target=sample, daemon=True).start()
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        print(line, end="")
        lines.append(line)
    if process.wait():
        raise SystemExit(process.returncode)
    return "".join(lines), time.perf_counter() - started, peak


def time_noop(pipeline: str) -> list[float]:
    """Return the seconds of five runs of DVC that have nothing to do."""
    dvc_file = "dvc.yaml" if pipeline == "default" else f"pipelines/{pipeline}/dvc.yaml"
    command = [sys.executable, "-m", "dvc", "repro", dvc_file]
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(
            command,
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Run a pipeline, measure it and print the tables."""
    pipeline = sys.argv[1] if len(sys.argv) > 1 else "default"
    output, whole, peak = run_pipeline(pipeline)
    rows = [(name, float(total), float(work)) for name, total, work in STAGE.findall(output)]
    noop = time_noop(pipeline)
    show_stages(pipeline, rows, whole)
    print(
        f"\npeak memory (sum of PSS) {peak / 2**30:.2f} GiB; no-op dvc repro, 5 runs: "
        f"median {sorted(noop)[2]:.2f} s, worst {max(noop):.2f} s; {os.cpu_count()} cores"
    )


def show_stages(pipeline: str, rows: Sequence[Row], whole: float) -> None:
    """Print the table of the stages."""
    print(f"\n| stage ({pipeline}) | s | share | of which not work, s |\n| --- | --- | --- | --- |")
    for name, total, work in rows:
        print(f"| {name} | {total:.1f} | {total / whole:.0%} | {total - work:.1f} |")
    between = whole - sum(total for _, total, _ in rows)
    not_work = between + sum(total - work for _, total, work in rows)
    print(
        f"| DVC and processes between stages | {between:.1f} | {between / whole:.0%} "
        f"| {between:.1f} |"
    )
    print(f"| whole run | {whole:.1f} | 100% | {not_work:.1f} |")


if __name__ == "__main__":
    main()
