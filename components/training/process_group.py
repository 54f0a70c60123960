"""The process group of workers that Ray has started. Ray's own `TorchConfig` does as much, but has whoever drives the training import torch first."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.train.backend import Backend, BackendConfig

_PART_S = 5.0  # workers whose peers have died wait in a sum that never comes


@dataclass
class Network(BackendConfig):
    """How workers talk.

    Args:
        backend: of torch.distributed: gloo, or cpu:gloo,cuda:nccl.
    """

    backend: str

    @property
    def backend_cls(self) -> type[Backend]:
        """See BackendConfig."""
        return _Meeting


class _Meeting(Backend):
    share_cuda_visible_devices = True  # NCCL reads a neighbor's memory directly

    def on_start(self, worker_group: Any, backend_config: Network) -> None:
        """All workers meet at the first."""
        where, world = worker_group.execute_single(0, place), len(worker_group)
        ray.get(
            [
                worker_group.execute_single_async(
                    rank, _join, backend_config.backend, where, rank, world
                )
                for rank in range(world)
            ]
        )

    def on_shutdown(self, worker_group: Any, backend_config: Network) -> None:  # noqa: ARG002
        """Part, if the others are still there."""
        with suppress(GetTimeoutError, RayError):
            ray.get(worker_group.execute_async(_part), timeout=_PART_S)


def place() -> str:
    """Where others can meet this process."""
    address = ray.util.get_node_ip_address()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.bind(("", 0))
        return f"tcp://{f'[{address}]' if ':' in address else address}:{one.getsockname()[1]}"


def _join(backend: str, where: str, rank: int, world: int) -> None:
    """Of a worker of Ray Train, who sees its neighbors' GPUs beside its own."""
    import torch

    if torch.cuda.is_available() and "nccl" in backend:
        from ray.train.torch import get_device

        torch.cuda.set_device(get_device())
    meet(backend, where, rank, world)


def meet(backend: str, where: str, rank: int, world: int) -> None:
    """Over the interface by which the node is known to the cluster: left to itself, gloo takes that of the host's name, which may be 127.0.0.1."""
    import torch

    address = ray.util.get_node_ip_address()
    names = [
        name
        for name, each in psutil.net_if_addrs().items()
        if any(one.address == address for one in each)
    ]
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        if names:
            os.environ.setdefault(variable, names[0])
    torch.distributed.init_process_group(backend, init_method=where, rank=rank, world_size=world)


def _part() -> None:
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
