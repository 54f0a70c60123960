"""What a pipeline costs: time of each stage, share that is not work, peak memory (sum of PSS), and a no-op.

    python benchmarks/pipeline_cost.py [PIPELINE]     # in a clean clone, after installation; prints rows for RESULTS.md

PSS divides shared pages among the processes that share them, so the sum over the run's processes is what the machine had to give.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
STAGE = re.compile(r"✓ (\w+) ([\d.]+) s \(work ([\d.]+) s\)")


def pss(pids: set[int]) -> int:
    """Sum of PSS over processes, bytes; those that ended meanwhile count nothing."""
    total = 0
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)[1]) * 1024  # type: ignore[index]
        except (OSError, TypeError):
            continue
    return total


def ours(pid: int) -> set[int]:
    """A process, its descendants, and every process of the Ray that it started (Ray leaves our tree: its supervisor has a session of its own)."""
    found: set[int] = set()
    for each in psutil.process_iter(["pid", "cwd", "cmdline"]):
        words = " ".join(each.info["cmdline"] or [])
        if (each.info["cwd"] or "").startswith(str(ROOT)) or str(ROOT) in words:
            found.add(each.info["pid"])
    with_children = set(found) | {pid}
    for parent in list(with_children):
        try:
            with_children |= {
                child.pid for child in psutil.Process(parent).children(recursive=True)
            }
        except psutil.Error:
            continue
    return with_children - {os.getpid()}


def main() -> None:
    """Run, sample, print."""
    pipeline = sys.argv[1] if len(sys.argv) > 1 else "default"
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
            peak = max(peak, pss(ours(process.pid)))
            time.sleep(1)

    threading.Thread(target=sample, daemon=True).start()
    assert process.stdout is not None
    lines = [print(line, end="") or line for line in process.stdout]
    if process.wait():
        raise SystemExit(process.returncode)
    whole = time.perf_counter() - started
    rows = [
        (name, float(total), float(work)) for name, total, work in STAGE.findall("".join(lines))
    ]
    dvc = [
        sys.executable,
        "-m",
        "dvc",
        "repro",
        "dvc.yaml" if pipeline == "default" else f"pipelines/{pipeline}/dvc.yaml",
    ]
    noop = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(dvc, cwd=ROOT, check=True, capture_output=True)
        noop.append(time.perf_counter() - start)
    print(f"\n| stage ({pipeline}) | s | share | of which not work, s |\n| --- | --- | --- | --- |")
    for name, total, work in rows:
        print(f"| {name} | {total:.1f} | {total / whole:.0%} | {total - work:.1f} |")
    between = whole - sum(total for _, total, _ in rows)
    print(
        f"| DVC and processes between stages | {between:.1f} | {between / whole:.0%} | {between:.1f} |"
    )
    print(
        f"| whole run | {whole:.1f} | 100% | {between + sum(total - work for _, total, work in rows):.1f} |"
    )
    print(
        f"\npeak memory (sum of PSS) {peak / 2**30:.2f} GiB; no-op dvc repro, 5 runs: median {sorted(noop)[2]:.2f} s, worst {max(noop):.2f} s; {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
