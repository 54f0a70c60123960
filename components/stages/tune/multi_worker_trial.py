"""A trial of several workers, which take each step together (DDP).

The process of the trial is the first worker. Ray actors in its placement group are the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from components.core import escaping
from components.training.fit_config import FitConfig
from components.training.process_group import free_address, meet

# Seconds in which the other workers must end a fit after the first has ended it.
_FAREWELL = 20.0
# Actors that the next trials of this process use too: starting them would take longer than a short
# trial.
_peers: list[Any] = []


class _Over(Exception):
    """Signal of the first worker that the trial ends."""


def fit_together(spec: FitConfig, report: Callable[[Mapping[str, float]], None]) -> None:
    """Run `fit` on several workers, of which this process is the first.

    Only the rows of this process are reported.

    Args:
        spec: of the fit; `spec.params.workers` is the number of workers.
        report: takes the metrics of an epoch.

    Raises:
        RayActorError: another worker was lost.
    """
    global _peers
    _peers = _peers or _start_peers(spec.params.workers)
    meeting = free_address()
    fits = [peer.fit.remote(spec, rank, meeting) for rank, peer in enumerate(_peers, 1)]

    def report_and_agree(row: Mapping[str, float]) -> None:
        """Report a row, and let all workers go on or end together."""
        try:
            # Raises when the scheduler stops the trial.
            report(row)
        except BaseException:
            # The other workers may have ended already.
            with suppress(RuntimeError):
                _agree(False)
            raise
        _agree(True)

    try:
        _work(spec, 0, meeting, report_and_agree)
    finally:
        ready, running = ray.wait(fits, num_returns=len(fits), timeout=_FAREWELL)
        lost = [fit for fit in fits if fit in ready and not _ended_well(fit)]
        if running or lost:
            for peer in _peers:
                ray.kill(peer)
            _peers = []
        if lost:
            # Raises the error of the lost worker.
            ray.get(lost[0])


def _start_peers(workers: int) -> list[Any]:
    """Return an actor for each bundle of the trial's placement group but the first.

    This process runs in the first.
    """
    group = ray.util.get_current_placement_group()
    actor = ray.remote(_Peer)
    actors = []
    for number in range(1, workers):
        bundle = group.bundle_specs[number]
        strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=number)
        placed = actor.options(
            num_cpus=bundle.get("CPU", 0),
            num_gpus=bundle.get("GPU", 0),
            scheduling_strategy=strategy,
        )
        actors.append(placed.remote())
    return actors


class _Peer:
    """A worker that is not the first."""

    def fit(self, spec: FitConfig, rank: int, meeting: str) -> None:
        """Take part in a fit.

        An error in a step is an error in the first worker too, which reports it.

        Args:
            spec: of the fit.
            rank: of this worker.
            meeting: address of the process group.
        """
        try:
            _work(spec, rank, meeting, lambda _: _agree(True))
        except Exception as error:
            message = escaping.log_line(f"{type(error).__name__}: {error}")
            print(f"worker {rank} of {spec.state.name}: {message}")


def _work(
    spec: FitConfig,
    rank: int,
    meeting: str,
    report: Callable[[Mapping[str, float]], None],
) -> None:
    """Join the process group and fit."""
    import torch

    from components.training.loop import fit

    torch.set_num_threads(1)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    meet(backend, meeting, rank, spec.params.workers)
    try:
        fit(spec, report=report)
    finally:
        torch.distributed.destroy_process_group()


def _agree(goes_on: bool) -> None:
    """Send the first worker's decision whether the trial goes on to all workers.

    Raises:
        _Over: this is another worker, and the trial ends.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    flag = torch.tensor([float(goes_on)], device=device)
    torch.distributed.broadcast(flag, src=0)
    if not flag.item() and torch.distributed.get_rank():
        raise _Over


def _ended_well(fit: Any) -> bool:
    """Return whether the call of an actor ended without an error of Ray."""
    try:
        ray.get(fit)
    except ray.exceptions.RayError:
        return False
    return True
