"""Compare the speed of networks: CPU time on one thread, in turn, round by round."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from components.inference.graph_module import load_network
from components.tasks.base import Batch
from components.training.batches import EncodedRows, load_encoder

_ROUNDS = 15
# Rows of validation that are drawn, and the least time of a round.
_ROWS = 256
_ROUND_S = 0.05


def sure_speedup(bundle: Path, other: Path, tokens: Path, task: str, batch: int) -> float:
    """Return by which factor a bundle's network is faster than another one in 9 of 10 rounds.

    Args:
        bundle: of the network.
        other: of the one that it is compared with.
        tokens: folder of encoded tables.
        task: name of the task.
        batch: rows at a time.
    """
    networks = {"bundle": load_network(bundle), "other": load_network(other)}
    seconds = round_seconds(networks, speed_batches(tokens, task, batch))
    ratios = np.array(seconds["other"]) / np.array(seconds["bundle"])
    return float(np.percentile(ratios, 10))


def speed_batches(tokens: Path, task: str, batch: int) -> list[Batch]:
    """Return batches of validation rows, drawn in the same way each time.

    Args:
        tokens: folder of encoded tables.
        task: name of the task.
        batch: rows at a time.
    """
    rows = EncodedRows(tokens, "validation", load_encoder(tokens, task))
    drawn = np.random.default_rng(0).permutation(len(rows))[: max(_ROWS, batch)]
    count = max(1, len(drawn) // batch)
    batches: list[Batch] = []
    for part in np.array_split(drawn[: count * batch], count):
        arrays = rows.batch(part)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        del tensors["target"]
        batches.append(tensors)
    return batches


def seconds_per_row(
    networks: Mapping[str, torch.nn.Module], batches: Sequence[Batch], rounds: int = _ROUNDS
) -> dict[str, float]:
    """Return the seconds that each network takes for a row: the median of the rounds.

    Args:
        networks: name -> network in evaluation mode.
        batches: inputs, without targets.
        rounds: how often all are measured.
    """
    seconds = round_seconds(networks, batches, rounds)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def round_seconds(
    networks: Mapping[str, torch.nn.Module], batches: Sequence[Batch], rounds: int = _ROUNDS
) -> dict[str, list[float]]:
    """Return the CPU-seconds that each network takes for a row, in each round.

    All networks compute the same batches in a round, so that a busy moment slows all of them.

    Args:
        networks: name -> network in evaluation mode.
        batches: inputs, without targets.
        rounds: how often all are measured.
    """
    threads = torch.get_num_threads()
    # A replica that serves has one thread too.
    torch.set_num_threads(1)
    times: dict[str, list[float]] = {name: [] for name in networks}
    try:
        with torch.inference_mode():
            count = _batches_of_a_round(networks, batches)
            for number in range(rounds):
                first = number * count
                chosen = [batches[(first + index) % len(batches)] for index in range(count)]
                rows = sum(len(next(iter(batch.values()))) for batch in chosen)
                for name, network in networks.items():
                    start = time.process_time()
                    for batch in chosen:
                        network(**batch)
                    times[name].append((time.process_time() - start) / rows)
    finally:
        torch.set_num_threads(threads)
    return times


def _batches_of_a_round(networks: Mapping[str, torch.nn.Module], batches: Sequence[Batch]) -> int:
    """Return how many batches take the least time of a round, after a warm-up of each network."""
    slowest = 0.0
    for network in networks.values():
        network(**batches[0])
        start = time.process_time()
        network(**batches[-1])
        slowest = max(slowest, time.process_time() - start)
    return min(len(batches), max(1, round(_ROUND_S / max(slowest, 1e-6))))
