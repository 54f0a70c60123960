"""A trial of several workers: the trial's own process is the first, Ray actors in its placement group are the others, and all take each step together (DDP)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from components.core import escaping
from components.training.fit_config import FitConfig
from components.training.process_group import meet, place

_FAREWELL = 20.0  # seconds in which the others must have left a fit that the first has left
_peers: list[
    Any
] = []  # kept for the trials that this process runs next: their start would cost more than a short trial


class _Over(Exception):
    """The first worker has said that the trial ends."""


def fit_together(spec: FitConfig, report: Callable[[Mapping[str, float]], None]) -> None:
    """Run `fit` on `spec.params.workers` workers, of which this process is the first. Only its rows are reported.

    Raises:
        RayActorError: another worker was lost.
    """
    global _peers
    _peers = _peers or _started(spec.params.workers)
    meeting = place()
    fits = [peer.fit.remote(spec, rank, meeting) for rank, peer in enumerate(_peers, 1)]

    def tell(row: Mapping[str, float]) -> None:
        try:
            report(row)  # raises when the scheduler stops the trial
        except BaseException:
            with suppress(RuntimeError):  # the others are gone already
                _agree(False)
            raise
        _agree(True)

    try:
        _work(spec, 0, meeting, tell)
    finally:
        left = ray.wait(fits, num_returns=len(fits), timeout=_FAREWELL)[1]
        lost = [each for each in fits if each not in left and not _ended_well(each)]
        if left or lost:
            for peer in _peers:
                ray.kill(peer)
            _peers = []
        if lost:
            ray.get(lost[0])  # raises


def _started(workers: int) -> list[Any]:
    """An actor in each bundle of the trial's placement group but the first, which this process holds."""
    group = ray.util.get_current_placement_group()
    actors = []
    for number in range(1, workers):
        bundle = group.bundle_specs[number]
        where = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=number)
        actors.append(
            ray.remote(_Peer)
            .options(
                num_cpus=bundle.get("CPU", 0),
                num_gpus=bundle.get("GPU", 0),
                scheduling_strategy=where,
            )
            .remote()
        )
    return actors


class _Peer:
    """A worker that is not the first."""

    def fit(self, spec: FitConfig, rank: int, meeting: str) -> None:
        """Take part; whatever goes wrong in a step goes wrong in the first worker too, which tells it."""
        try:
            _work(spec, rank, meeting, lambda _: _agree(True))
        except Exception as error:
            what = escaping.log_line(f"{type(error).__name__}: {error}")
            print(f"worker {rank} of {spec.state.name}: {what}")


def _work(
    spec: FitConfig, rank: int, meeting: str, report: Callable[[Mapping[str, float]], None]
) -> None:
    import torch

    from components.training.loop import fit

    torch.set_num_threads(1)
    meet(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        meeting,
        rank,
        spec.params.workers,
    )
    try:
        fit(spec, report=report)
    finally:
        torch.distributed.destroy_process_group()


def _agree(goes_on: bool) -> None:
    """The first worker's word on whether the trial goes on, heard by all."""
    import torch

    flag = torch.tensor([float(goes_on)], device="cuda" if torch.cuda.is_available() else "cpu")
    torch.distributed.broadcast(flag, src=0)
    if not flag.item() and torch.distributed.get_rank():
        raise _Over


def _ended_well(fit: Any) -> bool:
    try:
        ray.get(fit)
    except ray.exceptions.RayError:
        return False
    return True
