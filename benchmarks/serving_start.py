"""Row "start of serve to first answer on a warm cluster; memory per replica": `gristmill serve` again and again on the Ray of `gristmill up`, the champion being the review model.

python benchmarks/serving_start.py PROJECT [runs]     PROJECT: one that has run
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil
from served import Service, reviews

from components.orchestration.cluster.supervisor import load as cluster_of
from components.orchestration.processes import family


def replica_mib(root: Path) -> float:
    """The replica's proportional share of memory (PSS), in MiB."""
    record = cluster_of(root.resolve())
    assert record is not None
    replicas = [
        psutil.Process(each.pid)
        for each in family(record.node)
        if "ServeReplica" in " ".join(psutil.Process(each.pid).cmdline())
    ]
    return max(replica.memory_full_info().pss for replica in replicas) / 2**20


def main(project: Path, runs: int) -> None:
    """Print the row."""
    examples = reviews(project, 200)
    service = Service(
        Path(tempfile.mkdtemp(prefix="gm-start-")) / "p",
        [project / "data" / "models" / "winner"],
        examples[:3],
        {},
    )
    service.command = lambda *words: [sys.executable, "-m", "components.cli", *words]  # type: ignore[method-assign]  # both cores: nobody else asks for one
    subprocess.run(service.command("up"), cwd=service.root, env=service.environment, check=True)
    times, memory = [], []
    try:
        for _ in range(runs):
            began = time.perf_counter()
            with service:
                answer = httpx.post(
                    f"{service.url}/v1/predict",
                    json={"inputs": examples[:1]},
                    trust_env=False,
                    timeout=30,
                )
                times.append(time.perf_counter() - began)
                assert answer.status_code == 200
                for start in range(0, len(examples), 50):
                    httpx.post(
                        f"{service.url}/v1/predict",
                        json={"inputs": examples[start : start + 50]},
                        trust_env=False,
                        timeout=30,
                    )
                memory.append(replica_mib(service.root))
            print(f"{times[-1]:.2f} s, {memory[-1]:.0f} MiB", flush=True)
    finally:
        subprocess.run(
            service.command("down"), cwd=service.root, env=service.environment, check=True
        )
    print(
        f"| {runs} starts | first answer, s: median (range) | memory of a replica, MiB |\n| --- | --- | --- |"
    )
    print(
        f"| warm cluster | {statistics.median(times):.1f} ({min(times):.1f} to {max(times):.1f}) | {statistics.median(memory):.0f} |"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5)
