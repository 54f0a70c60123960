"""Rows "requests/s at p99 <= 50 ms".

Gristmill's data path, Ray Serve's default configuration, and uvicorn alone, with the same app,
bundle and batching. One review a request over keep-alive connections. Each arm is started anew in
each round and is alone then (an idle Ray beside it takes a tenth of a core). All its processes
are on one core, the client on the other one. It is asked at rising concurrency. Its figure is its
highest rate with a p99 of at most 50 ms. The rate at four connections is printed, too, with any
p99, because an arm may never be within the limit.

python benchmarks/serving_rate.py PROJECT [winner|transformer] [rounds]

PROJECT: one that has run
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import load
from benchmarks.served import CLIENT, Bare, Service, reviews, transformer

LEVELS = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64)
# Connections of the rate that is always printed.
FIXED = 4
SECONDS = 2.5
WARM_S = 0.5
LIMIT_MS = 50.0
DEFAULT = "Ray Serve, default"
OURS = "gristmill serve"
BARE = "uvicorn alone"
# Connections, requests/s, p99 in milliseconds.
Level = tuple[int, float, float]


def measure(url: str, questions: list[bytes]) -> list[Level]:
    """Return the rate and the p99 at each level.

    The last level is above the fixed one. At it, and at the level before, p99 is above the limit.
    """
    load.for_seconds(url, questions, FIXED, 2 * SECONDS)
    levels: list[Level] = []
    for connections in LEVELS:
        began = time.perf_counter()
        answers = [
            answer
            for answer in load.for_seconds(url, questions, connections, SECONDS + WARM_S)
            if answer.ended - began > WARM_S
        ]
        statuses = {answer.status for answer in answers}
        assert statuses == {200}, statuses
        levels.append((connections, len(answers) / SECONDS, load.percentile(answers, 0.99)))
        if connections > FIXED and all(p99 > LIMIT_MS for _, _, p99 in levels[-2:]):
            break
    return levels


def best(levels: Sequence[Level]) -> Level:
    """Return the level with the highest rate within the limit, or zeros if there is none."""
    within = [level for level in levels if level[2] <= LIMIT_MS]
    return max(within, key=lambda level: level[1], default=(0, 0.0, 0.0))


def at_fixed(levels: Sequence[Level]) -> Level:
    """Return the level with the fixed number of connections."""
    return next(level for level in levels if level[0] == FIXED)


def main(project: Path, which: str, rounds: int) -> None:
    """Print the rows."""
    scratch = Path(tempfile.mkdtemp(prefix="gm-rate-"))
    if which == "winner":
        bundle = project / "data" / "models" / "winner"
    else:
        bundle = transformer(project, Path(tempfile.gettempdir()) / "gm-transformer")
    examples = reviews(project, 200)
    os.sched_setaffinity(0, {CLIENT})
    results: dict[str, list[list[Level]]] = {DEFAULT: [], OURS: [], BARE: []}
    without_proxy = {"RAY_SERVE_ENABLE_HA_PROXY": "0"}
    for number in range(rounds):
        arms: dict[str, Service | Bare] = {
            DEFAULT: Service(scratch / f"default-{number}", [bundle], examples[:3], without_proxy),
            OURS: Service(scratch / f"ours-{number}", [bundle], examples[:3], {}),
            BARE: Bare(bundle),
        }
        names = list(arms)
        first = number % len(arms)
        for name in names[first:] + names[:first]:
            with arms[name] as arm:
                # A start leaves some work behind.
                time.sleep(3)
                levels = measure(arm.url, [load.post(arm.url, [query]) for query in examples])
            results[name].append(levels)
            shown = ", ".join(
                f"{connections}: {rate:.0f}/s, {p99:.0f} ms" for connections, rate, p99 in levels
            )
            print(f"round {number + 1}: {name}: {shown}", flush=True)
    show(which, results)


def show(which: str, results: dict[str, list[list[Level]]]) -> None:
    """Print the table."""
    print(
        f"\n| {which} | requests/s, median (range) | p99 ms | connections "
        f"| against {DEFAULT} | against {BARE} "
        f"| at {FIXED} connections: requests/s, p99 ms | against {DEFAULT} | against {BARE} |"
    )
    print("| --- |" + " --- |" * 8)
    within: dict[str, list[Level]] = {}
    fixed: dict[str, list[Level]] = {}
    for name, rounds in results.items():
        within[name] = [best(levels) for levels in rounds]
        fixed[name] = [at_fixed(levels) for levels in rounds]
    for name in results:
        connections, rates, p99s = zip(*within[name], strict=True)
        _, fixed_rates, fixed_p99s = zip(*fixed[name], strict=True)
        cells = [
            median_and_range(rates),
            f"{statistics.median(p99s):.0f}",
            f"{statistics.median(connections):.0f}",
            against(within, name, DEFAULT),
            against(within, name, BARE),
            f"{median_and_range(fixed_rates)}, {statistics.median(fixed_p99s):.0f}",
            against(fixed, name, DEFAULT),
            against(fixed, name, BARE),
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


def median_and_range(values: Sequence[float]) -> str:
    """Return the median and the range of some values."""
    return f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


def against(levels: dict[str, list[Level]], name: str, other: str) -> str:
    """Return the ratio of the rates, by round."""
    if name == other:
        return ""
    if not all(rate for _, rate, _ in levels[other]):
        return "never within"
    pairs = zip(levels[name], levels[other], strict=True)
    ratios = [mine[1] / theirs[1] for mine, theirs in pairs]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        sys.argv[2] if len(sys.argv) > 2 else "winner",
        int(sys.argv[3]) if len(sys.argv) > 3 else 4,
    )
