"""Rows "smaller and faster": the candidates of compress against the network that they come from.

    python benchmarks/compression.py digits          # pipelines/digits, after gristmill run digits
    python benchmarks/compression.py default

All candidates compute the same batches of validation rows in turn, on one thread, in one process.
The parent runs in eager fp32 PyTorch. Speeds are medians of rounds, with the range of half of them.
The metric on test is that of the leaderboard. Test rows choose nothing here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.processor import processor_name
from components.core.bundles import CARD, bundle_bytes, read_card, shown_size
from components.inference.graph_module import load_network
from components.stages.compress.model_speed import round_seconds, speed_batches

ROOT = Path(__file__).resolve().parent.parent
BATCHES = (1, 32)


def main() -> None:
    """Print a table of one pipeline."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pipeline", help="its name, or default")
    data = ROOT / "data"
    name = parser.parse_args().pipeline
    if name != "default":
        data /= name
    rows = candidates(data)
    leaderboard = json.loads((data / "reports" / "leaderboard.json").read_text(encoding="utf-8"))
    metric = leaderboard["deciding_metric"]
    test = {row["name"]: row["test"][metric] for row in leaderboard["candidates"]}
    print(f"{name}, {processor_name()}; parent: {rows['parent'].parent.name}")
    task = read_card(rows["parent"]).card.task
    networks = {name: load_network(bundle) for name, bundle in rows.items()}
    tokens = data / "tokens"
    speeds = {batch: speedups(networks, "parent", tokens, task, batch) for batch in BATCHES}
    print(f"| candidate | size | smaller | batch 1 | batch 32 | test {metric} |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    whole = bundle_bytes(rows["parent"])
    for candidate, bundle in rows.items():
        size = bundle_bytes(bundle)
        shown = [shown_size(size), f"{whole / size:.1f}x"]
        shown += [speeds[batch][candidate] for batch in BATCHES]
        value = test.get(rows["parent"].parent.name if candidate == "parent" else candidate)
        print(f"| {candidate} | {' | '.join(shown)} | {value:.4f} |")


def candidates(data: Path) -> dict[str, Path]:
    """Return the parent and the compressed candidates of a pipeline.

    Args:
        data: its folder.
    """
    compressed = sorted(card.parent for card in (data / "models" / "compressed").glob(f"*/{CARD}"))
    origin = read_card(compressed[0]).card.origin[0]
    networks = [data / "models" / name / "network" for name in ("trained", "tuned")]
    fitted = [network for network in networks if (network / CARD).is_file()]
    parents = [network for network in fitted if read_card(network).card.origin == [origin]]
    return {"parent": parents[0], **{path.name: path for path in compressed}}


def speedups(
    networks: Mapping[str, torch.nn.Module], first: str, tokens: Path, task: str, batch: int
) -> dict[str, str]:
    """Return how much faster each network is than one, with the range of half of the rounds.

    Args:
        networks: name -> network in evaluation mode.
        first: name of the one that they are compared with.
        tokens: folder of encoded tables.
        task: name of the task.
        batch: rows at a time.
    """
    batches = speed_batches(tokens, task, batch)
    seconds: dict[str, Any] = round_seconds(networks, batches, rounds=45)
    shown = {}
    for name, values in seconds.items():
        ratios = np.array(seconds[first]) / np.array(values)
        low, middle, high = np.percentile(ratios, [25, 50, 75])
        shown[name] = f"{middle:.2f}x ({low:.2f} to {high:.2f})"
    return shown


if __name__ == "__main__":
    main()
