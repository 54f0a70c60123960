"""Room: how many trials run at once on this cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from components.core.errors import EnvironmentFault
from components.stages.tune.params import TuneParams


def at_once(params: TuneParams, nodes: Sequence[Mapping[str, float]]) -> int:
    """How many trials fit.

    Args:
        nodes: resources of each living node, as Ray names them; a worker of a trial lies on one node.

    Raises:
        EnvironmentFault: none: it would wait for ever.
    """
    asked = {"CPU": params.cpus_per_trial, "GPU": params.gpus_per_trial}
    workers = sum(
        min(int(node.get(unit, 0) / much + 1e-9) for unit, much in asked.items() if much)
        for node in nodes
    )
    if workers >= params.workers_per_trial:
        return workers // params.workers_per_trial
    if workers:
        told = f"a trial asks for {params.workers_per_trial} workers, the cluster has room for {workers}: it would wait for ever"
        raise EnvironmentFault(
            told, where="tune.workers_per_trial", remedy="lower it, or use a larger cluster"
        )
    most = {unit: max((node.get(unit, 0) for node in nodes), default=0) for unit in asked}
    short = [unit for unit, much in asked.items() if much > most[unit]] or ["CPU"]
    told = " and ".join(
        f"{asked[unit]:g} {unit}s, the largest node has {most[unit]:g}" for unit in short
    )
    raise EnvironmentFault(
        f"a trial asks for {told}: it would wait for ever",
        where=f"tune.{short[0].lower()}s_per_trial",
        remedy="lower it, or use a larger cluster",
    )
