"""Rows "requests/s at p99 <= 50 ms": gristmill's data path, Ray Serve's default configuration, and uvicorn alone, with the same app, bundle and batching.

One review a request over keep-alive connections; every arm has all its processes on one core, the client the other one. Each round asks every arm at
rising concurrency until its p99 passes 50 ms; an arm's figure is its highest rate before that. Arms take turns within a round.

python benchmarks/serving_rate.py PROJECT [winner|transformer] [rounds]     PROJECT: one that has run
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import load
from served import CLIENT, Bare, Service, reviews, transformer

LEVELS = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64)
SECONDS, WARM_S, LIMIT_MS = 2.5, 0.4, 50.0
DEFAULT, OURS, BARE = "Ray Serve, default", "gristmill serve", "uvicorn alone"


def measure(url: str, questions: list[bytes]) -> tuple[float, float, int]:
    """The highest rate within the limit, with its p99 (milliseconds) and the connections that gave it."""
    best = (0.0, 0.0, 0)
    for connections in LEVELS:
        began = time.perf_counter()
        answers = [answer for answer in load.for_seconds(url, questions, connections, SECONDS + WARM_S) if answer.ended - began > WARM_S]
        assert {answer.status for answer in answers} == {200}, {answer.status for answer in answers}
        rate, p99 = len(answers) / SECONDS, load.percentile(answers, 0.99)
        if p99 > LIMIT_MS:
            break
        best = max(best, (rate, p99, connections))
    return best


def main(project: Path, which: str, rounds: int) -> None:
    """Print the rows."""
    scratch = Path(tempfile.mkdtemp(prefix="gm-rate-"))
    bundle = project / "data" / "models" / "winner" if which == "winner" else transformer(project, Path(tempfile.gettempdir()) / "gm-transformer")
    examples = reviews(project, 200)
    os.sched_setaffinity(0, {CLIENT})
    found: dict[str, list[tuple[float, float, int]]] = {DEFAULT: [], OURS: [], BARE: []}
    with Service(scratch / "default", [bundle], examples[:3], {"RAY_SERVE_ENABLE_HA_PROXY": "0"}) as default, Service(scratch / "ours", [bundle], examples[:3], {}) as ours, Bare(bundle) as bare:
        for number in range(rounds):
            for name, arm in ((DEFAULT, default), (OURS, ours), (BARE, bare)):
                found[name].append(measure(arm.url, [load.post(arm.url, [query]) for query in examples]))
                print(f"round {number + 1}: {name}: {found[name][-1][0]:.0f}/s, p99 {found[name][-1][1]:.1f} ms, {found[name][-1][2]} connections", flush=True)
    print(f"\n| {which}, {rounds} rounds | requests/s, median (range) | p99 ms | connections | against {DEFAULT} | against {BARE} |\n| --- | --- | --- | --- | --- | --- |")
    for name, rows in found.items():
        rates, p99s, connections = zip(*rows, strict=True)
        against = [statistics.median(mine[0] / other[0] if other[0] else float("inf") for mine, other in zip(rows, found[arm], strict=True)) for arm in (DEFAULT, BARE)]
        shown = f"{statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f}) | {statistics.median(p99s):.1f} | {statistics.median(connections):.0f}"
        print(f"| {name} | {shown} | {against[0]:.2f} | {against[1]:.2f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "winner", int(sys.argv[3]) if len(sys.argv) > 3 else 4)
