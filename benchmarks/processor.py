"""Name the processor that a row was measured on, and the format that it multiplies fast."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from components.training.precision import resolve

_CPUINFO = Path("/proc/cpuinfo")


def processor_name(cpuinfo: Path = _CPUINFO) -> str:
    """Return the model of the processor with the number of its cores that may be used.

    Args:
        cpuinfo: the file in which Linux describes processors. Elsewhere there is none.
    """
    name = platform.processor() or platform.machine()
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                name = " ".join(value.split())
                break
    return f"{name}, {os.cpu_count()} cores"


def fast_precision(module: torch.nn.Module) -> str:
    """Return bf16 where the module's processor multiplies it faster than fp32, else fp32.

    The engine takes the same format with `train.precision: auto`.

    Args:
        module: the network, on its device.
    """
    return resolve("auto", module)
