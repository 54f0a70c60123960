"""Concurrency: how many trials run at once on this cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from components.core.errors import EnvironmentFault
from components.stages.tune.params import TuneParams


def at_once(params: TuneParams, nodes: Sequence[Mapping[str, float]]) -> int:
    """Return how many trials fit the cluster.

    Args:
        params: of tune.
        nodes: resources of each living node, as Ray names them. A worker of a trial runs on one
            node.

    Raises:
        EnvironmentFault: none fits: the search would wait for ever.
    """
    demands = {"CPU": params.cpus_per_trial, "GPU": params.gpus_per_trial}
    workers = sum(_workers(node, demands) for node in nodes)
    if workers >= params.workers_per_trial:
        return workers // params.workers_per_trial
    if workers:
        raise EnvironmentFault(
            f"a trial asks for {params.workers_per_trial} workers, "
            f"the cluster has room for {workers}: it would wait for ever",
            where="tune.workers_per_trial",
            remedy="lower it, or use a larger cluster",
        )
    largest = {}
    for unit in demands:
        largest[unit] = max((node.get(unit, 0) for node in nodes), default=0)
    short = [unit for unit, demand in demands.items() if demand > largest[unit]] or ["CPU"]
    shortages = []
    for unit in short:
        shortages.append(f"{demands[unit]:g} {unit}s, the largest node has {largest[unit]:g}")
    raise EnvironmentFault(
        f"a trial asks for {' and '.join(shortages)}: it would wait for ever",
        where=f"tune.{short[0].lower()}s_per_trial",
        remedy="lower it, or use a larger cluster",
    )


def _workers(node: Mapping[str, float], demands: Mapping[str, float]) -> int:
    """Return how many workers of trials fit a node.

    Args:
        node: its resources.
        demands: resources of a worker.
    """
    return min(int(node.get(unit, 0) / demand + 1e-9) for unit, demand in demands.items() if demand)
