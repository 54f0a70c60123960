"""Set up the process group of workers that Ray has started.

Ray's own `TorchConfig` does the same, but the process that drives the training must import
torch for it first.
"""

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

# Workers whose peers have died wait for a collective operation that never completes.
_LEAVE_TIMEOUT_S = 5.0


@dataclass
class Network(BackendConfig):
    """Config of the communication between workers.

    Args:
        backend: of torch.distributed: gloo, or cpu:gloo,cuda:nccl.
    """

    backend: str

    @property
    def backend_cls(self) -> type[Backend]:
        """See BackendConfig."""
        return _ProcessGroupBackend


class _ProcessGroupBackend(Backend):
    # NCCL reads another worker's memory directly.
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: Network) -> None:
        """Join all workers at the address of the first."""
        address = worker_group.execute_single(0, free_address)
        world = len(worker_group)
        joining = []
        for rank in range(world):
            joining.append(
                worker_group.execute_single_async(
                    rank, _join, backend_config.backend, address, rank, world
                )
            )
        ray.get(joining)

    def on_shutdown(self, worker_group: Any, backend_config: Network) -> None:  # noqa: ARG002
        """Leave the process group, if the other workers are still there."""
        with suppress(GetTimeoutError, RayError):
            ray.get(worker_group.execute_async(_leave), timeout=_LEAVE_TIMEOUT_S)


def free_address() -> str:
    """Return a URL with a free port, at which other processes can join this one."""
    address = ray.util.get_node_ip_address()
    is_ipv6 = ":" in address
    host = f"[{address}]" if is_ipv6 else address
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind(("", 0))
        return f"tcp://{host}:{listener.getsockname()[1]}"


def _join(backend: str, where: str, rank: int, world: int) -> None:
    """Join the group as a Ray Train worker, which sees the GPUs of other workers too."""
    import torch

    if torch.cuda.is_available() and "nccl" in backend:
        from ray.train.torch import get_device

        torch.cuda.set_device(get_device())
    meet(backend, where, rank, world)


def meet(backend: str, where: str, rank: int, world: int) -> None:
    """Join the group over the interface that the cluster knows the node by.

    Without a setting, gloo uses the interface of the host's name. It may be 127.0.0.1.

    Args:
        backend: of torch.distributed.
        where: URL of the first worker, from `free_address`.
        rank: number of this worker.
        world: number of workers.
    """
    import torch

    node_address = ray.util.get_node_ip_address()
    interfaces = []
    for name, addresses in psutil.net_if_addrs().items():
        if any(item.address == node_address for item in addresses):
            interfaces.append(name)
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        if interfaces:
            os.environ.setdefault(variable, interfaces[0])
    torch.distributed.init_process_group(backend, init_method=where, rank=rank, world_size=world)


def _leave() -> None:
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
