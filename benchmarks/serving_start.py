"""Row "start of serve to first answer on a warm cluster; memory per replica".

`gristmill serve` is started again and again on the Ray of `gristmill up`. The champion is the
review model.

python benchmarks/serving_start.py PROJECT [runs]

PROJECT: one that has run
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.served import Service, reviews
from components.orchestration.cluster.supervisor import load as cluster_of
from components.orchestration.processes import family


def replica_mib(root: Path) -> float:
    """Return the proportional share of memory (PSS) of the replica, in MiB."""
    record = cluster_of(root.resolve())
    assert record is not None
    processes = [psutil.Process(identity.pid) for identity in family(record.node)]
    return (
        max(
            process.memory_full_info().pss
            for process in processes
            if "ServeReplica" in " ".join(process.cmdline())
        )
        / 2**20
    )


def command(*words: str) -> list[str]:
    """Return a gristmill command on both cores. No other program needs one."""
    return [sys.executable, "-m", "components.cli", *words]


def ask(service: Service, items: list[dict[str, Any]]) -> httpx.Response:
    """Send some items to the service."""
    return httpx.post(
        f"{service.url}/v1/predict",
        json={"inputs": items},
        trust_env=False,
        timeout=30,
    )


def main(project: Path, runs: int) -> None:
    """Print the row."""
    examples = reviews(project, 200)
    service = Service(
        Path(tempfile.mkdtemp(prefix="gm-start-")) / "p",
        [project / "data" / "models" / "winner"],
        examples[:3],
        {},
    )
    service.command = command  # type: ignore[method-assign]
    subprocess.run(
        command("up"),
        cwd=service.root,
        env=service.environment,
        check=True,
    )
    times = []
    memory = []
    try:
        for _ in range(runs):
            began = time.perf_counter()
            with service:
                answer = ask(service, examples[:1])
                times.append(time.perf_counter() - began)
                assert answer.status_code == 200
                for start in range(0, len(examples), 50):
                    ask(service, examples[start : start + 50])
                memory.append(replica_mib(service.root))
            print(f"{times[-1]:.2f} s, {memory[-1]:.0f} MiB", flush=True)
    finally:
        subprocess.run(
            command("down"),
            cwd=service.root,
            env=service.environment,
            check=True,
        )
    print(
        f"| {runs} starts | first answer, s: median (range) | memory of a replica, MiB |\n"
        "| --- | --- | --- |"
    )
    first = f"{statistics.median(times):.1f} ({min(times):.1f} to {max(times):.1f})"
    print(f"| warm cluster | {first} | {statistics.median(memory):.0f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5)
