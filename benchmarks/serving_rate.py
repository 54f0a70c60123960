"""Rows "requests/s at p99 <= 50 ms": gristmill's data path, Ray Serve's default configuration, and uvicorn alone, with the same app, bundle and batching.

One review a request over keep-alive connections. Each arm is started anew in each round and is alone then (an idle Ray beside it takes a tenth of a core); all its
processes are on one core, the client on the other one. It is asked at rising concurrency; its figure is its highest rate with a p99 of at most 50 ms. The rate at
four connections is given besides, whatever its p99, because an arm may never be within the limit.

python benchmarks/serving_rate.py PROJECT [winner|transformer] [rounds]     PROJECT: one that has run
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import load
from served import CLIENT, Bare, Service, reviews, transformer

LEVELS = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64)
FIXED, SECONDS, WARM_S, LIMIT_MS = 4, 2.5, 0.5, 50.0
DEFAULT, OURS, BARE = "Ray Serve, default", "gristmill serve", "uvicorn alone"
Level = tuple[int, float, float]  # connections, requests/s, p99 in milliseconds


def measure(url: str, questions: list[bytes]) -> list[Level]:
    """Rate and p99 at each level, up to the first beyond the fixed one whose p99 is more than the limit twice running."""
    load.for_seconds(url, questions, FIXED, 2 * SECONDS)
    found: list[Level] = []
    for connections in LEVELS:
        began = time.perf_counter()
        answers = [
            answer
            for answer in load.for_seconds(url, questions, connections, SECONDS + WARM_S)
            if answer.ended - began > WARM_S
        ]
        assert {answer.status for answer in answers} == {200}, {answer.status for answer in answers}
        found.append((connections, len(answers) / SECONDS, load.percentile(answers, 0.99)))
        if connections > FIXED and all(p99 > LIMIT_MS for _, _, p99 in found[-2:]):
            break
    return found


def best(levels: Sequence[Level]) -> Level:
    """The highest rate within the limit; zeros where there is none."""
    return max(
        (level for level in levels if level[2] <= LIMIT_MS),
        key=lambda level: level[1],
        default=(0, 0.0, 0.0),
    )


def main(project: Path, which: str, rounds: int) -> None:
    """Print the rows."""
    scratch = Path(tempfile.mkdtemp(prefix="gm-rate-"))
    bundle = (
        project / "data" / "models" / "winner"
        if which == "winner"
        else transformer(project, Path(tempfile.gettempdir()) / "gm-transformer")
    )
    examples = reviews(project, 200)
    os.sched_setaffinity(0, {CLIENT})
    found: dict[str, list[list[Level]]] = {DEFAULT: [], OURS: [], BARE: []}
    for number in range(rounds):
        arms = {
            DEFAULT: Service(
                scratch / f"default-{number}",
                [bundle],
                examples[:3],
                {"RAY_SERVE_ENABLE_HA_PROXY": "0"},
            ),
            OURS: Service(scratch / f"ours-{number}", [bundle], examples[:3], {}),
            BARE: Bare(bundle),
        }
        for name in list(arms)[number % len(arms) :] + list(arms)[: number % len(arms)]:
            with arms[name] as arm:
                time.sleep(3)  # what a start leaves to do
                found[name].append(
                    measure(arm.url, [load.post(arm.url, [query]) for query in examples])
                )
            print(
                f"round {number + 1}: {name}: "
                + ", ".join(
                    f"{connections}: {rate:.0f}/s, {p99:.0f} ms"
                    for connections, rate, p99 in found[name][-1]
                ),
                flush=True,
            )
    tell(which, found)


def tell(which: str, found: dict[str, list[list[Level]]]) -> None:
    """The table."""
    print(
        f"\n| {which} | requests/s, median (range) | p99 ms | connections | against {DEFAULT} | against {BARE} | at {FIXED} connections: requests/s, p99 ms | against {DEFAULT} | against {BARE} |"
    )
    print("| --- |" + " --- |" * 8)
    within = {name: [best(levels) for levels in rounds] for name, rounds in found.items()}
    fixed = {
        name: [next(level for level in levels if level[0] == FIXED) for levels in rounds]
        for name, rounds in found.items()
    }
    for name in found:
        connections, rates, p99s = zip(*within[name], strict=True)
        cells = [
            f"{statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})",
            f"{statistics.median(p99s):.0f}",
            f"{statistics.median(connections):.0f}",
            against(within, name, DEFAULT),
            against(within, name, BARE),
        ]
        _, rates, p99s = zip(*fixed[name], strict=True)
        cells += [
            f"{statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f}), {statistics.median(p99s):.0f}",
            against(fixed, name, DEFAULT),
            against(fixed, name, BARE),
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


def against(figures: dict[str, list[Level]], name: str, other: str) -> str:
    """Ratio of the rates, round by round."""
    if name == other or not all(rate for _, rate, _ in figures[other]):
        return "" if name == other else "never within"
    ratios = [
        mine[1] / theirs[1] for mine, theirs in zip(figures[name], figures[other], strict=True)
    ]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        sys.argv[2] if len(sys.argv) > 2 else "winner",
        int(sys.argv[3]) if len(sys.argv) > 3 else 4,
    )
