"""The processor that benchmarks name, and the format that their arms take on it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from benchmarks.processor import fast_precision, processor_name


def test_the_processor_is_named_with_its_cores(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\nmodel name\t: Example  CPU @ 2 GHz\nmodel name : Other\n")
    assert processor_name(file) == f"Example CPU @ 2 GHz, {os.cpu_count()} cores"
    file.write_text("processor : 0\nmodel name :\n")
    assert processor_name(file) == processor_name(tmp_path / "none")


@pytest.mark.parametrize(("has_amx", "expected"), [(True, "bf16"), (False, "fp32")])
def test_no_arm_emulates_bf16(
    monkeypatch: pytest.MonkeyPatch, has_amx: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx)
    assert fast_precision(torch.nn.Linear(256, 256)) == expected
