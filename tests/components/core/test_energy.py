"""Energy is read from the counters of RAPL, or it is unknown."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from components.core import energy
from components.core.energy import EnergyCounter, EnergyMeter

RANGE = 262_143_328_850


def zone(powercap: Path, folder: str, name: str, microjoules: int = 1000) -> Path:
    """Write a zone as Linux shows it, and return its counter."""
    path = powercap / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n", encoding="ascii")
    (path / "max_energy_range_uj").write_text(f"{RANGE}\n", encoding="ascii")
    return set_to(path / "energy_uj", microjoules)


def set_to(counter: Path, microjoules: int) -> Path:
    """Let a counter show a number."""
    counter.write_text(f"{microjoules}\n", encoding="ascii")
    return counter


@pytest.fixture(autouse=True)
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the GPUs of NVIDIA, which is empty."""
    folder = tmp_path / "gpus"
    folder.mkdir()
    monkeypatch.setattr(energy, "_NVIDIA", folder)
    return folder


def test_packages_and_memory_count_and_their_parts_do_not(tmp_path: Path) -> None:
    zones = {
        "intel-rapl:0": ("package-0", 2_000_000),
        "intel-rapl:0:0": ("core", 10_000_000),
        "intel-rapl:0:1": ("dram", 500_000),
        "intel-rapl:1": ("package-1", 1_000_000),
        "intel-rapl:2": ("psys", 10_000_000),
        "intel-rapl-mmio:0": ("package-0", 2_000_000),
    }
    counters = {folder: zone(tmp_path, folder, name) for folder, (name, _) in zones.items()}
    counter = EnergyCounter(tmp_path)
    assert counter.joules() == 0
    for folder, (_, used) in zones.items():
        set_to(counters[folder], 1000 + used)
    assert counter.joules() == 3.5


def test_a_counter_that_wraps_around_goes_on(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", RANGE - 1_000_000)
    counter = EnergyCounter(tmp_path)
    for shown, joules in ((500_000, 1.5), (RANGE, 1.5 + (RANGE - 500_000) / 1e6), (0, None)):
        set_to(package, shown)
        measured = counter.joules()
        assert measured is not None
        if joules is not None:
            assert measured == pytest.approx(joules)
    assert measured == pytest.approx((RANGE + 1_000_000) / 1e6)


@pytest.mark.parametrize("damage", ["no folder", "no package", "text", "denied", "one of two"])
def test_what_cannot_be_read_is_unknown(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    powercap = tmp_path / "powercap"
    if damage == "no package":
        zone(powercap, "intel-rapl:0", "psys")
    if damage in ("text", "denied", "one of two"):
        zone(powercap, "intel-rapl:0", "package-0")
        broken = zone(powercap, "intel-rapl:1", "package-1")
        broken.write_text("many\n", encoding="ascii")
    if damage == "one of two":
        (broken.parent / "max_energy_range_uj").unlink()
    if damage == "denied":
        # Root may read files that nobody may read, so the kernel's answer is played.
        read = Path.read_text

        def denied(path: Path, encoding: str) -> str:
            if path.name == "energy_uj":
                raise PermissionError(13, "Permission denied", str(path))
            return read(path, encoding=encoding)

        monkeypatch.setattr(Path, "read_text", denied)
    assert EnergyCounter(powercap).joules() is None


def test_energy_stays_unknown_after_a_failed_read(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0")
    counter = EnergyCounter(tmp_path)
    package.unlink()
    assert counter.joules() is None
    set_to(package, 5_000_000)
    assert counter.joules() is None


def test_a_killed_block_goes_on_with_its_energy(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    file = tmp_path / "energy.json"
    with EnergyMeter(file, tmp_path) as meter:
        set_to(package, 2_000_000)
        assert meter.joules() == 2
    set_to(package, 9_000_000)
    with EnergyMeter(file, tmp_path) as meter:
        set_to(package, 10_000_000)
        assert meter.joules() == 3
    file.write_text('{"joules": ', encoding="utf-8")
    with EnergyMeter(file, tmp_path) as meter:
        assert meter.joules() is None


def test_the_thread_reads_before_a_counter_wraps_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "_INTERVAL_S", 0.001)
    package = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    file = tmp_path / "energy.json"
    with EnergyMeter(file, tmp_path):
        set_to(package, 4_000_000)
        for _ in range(10_000):
            if file.is_file() and "4.0" in file.read_text(encoding="utf-8"):
                return
    pytest.fail("the thread did not read the counter")


@pytest.mark.parametrize("other", ["gpu", "node"])
def test_energy_is_unknown_where_gpus_or_other_machines_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0")
    cuda = types.SimpleNamespace(is_available=lambda: other == "gpu")
    nodes = [{"Alive": True}, {"Alive": other == "node"}]
    ray = types.SimpleNamespace(is_initialized=lambda: True, nodes=lambda: nodes)
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=cuda))
    monkeypatch.setitem(sys.modules, "ray", ray)
    with EnergyMeter(powercap=tmp_path) as meter:
        assert meter.joules() is None
    other = ""
    nodes[1]["Alive"] = False
    with EnergyMeter(powercap=tmp_path) as meter:
        assert meter.joules() == 0


def test_energy_is_unknown_where_nobody_can_tell_what_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: Path
) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0")
    half_imported = types.ModuleType("torch")
    monkeypatch.setitem(sys.modules, "torch", half_imported)
    with EnergyMeter(powercap=tmp_path) as meter:
        assert meter.joules() is None
    monkeypatch.delitem(sys.modules, "torch")
    (gpus / "0000:01:00.0").mkdir()
    with EnergyMeter(powercap=tmp_path) as meter:
        assert meter.joules() is None


@pytest.mark.parametrize("content", ['{"joules": NaN}', "[" * 100_000, "{}", ""])
def test_a_file_of_another_program_is_no_energy(tmp_path: Path, content: str) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0")
    file = tmp_path / "energy.json"
    file.write_text(content, encoding="ascii")
    with EnergyMeter(file, tmp_path) as meter:
        assert meter.joules() is None
