"""Measures energy in joules: RAPL for processor packages, NVML for NVIDIA GPUs. Nothing is estimated.

RAPL counts whole packages, including other programs, and is often readable by root only; most virtual machines have
none. Without a counter, energy is not measured.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"


@dataclass(frozen=True)
class EnergyMeter:
    """A counter of joules, named by `source`: the difference of two readings is the energy used between them."""

    source: str
    read: Callable[[], float]


def cpu_meter(folder: Path = POWERCAP) -> EnergyMeter | None:
    """The sum of all processor packages; None if they cannot be read."""
    packages = [path for path in sorted(folder.glob("intel-rapl:*")) if path.name.count(":") == 1]
    counters: list[_Package] = []
    for path in packages:
        try:
            counters.append(_Package(path))
        except (OSError, ValueError):
            return None
    if not counters:
        return None
    return EnergyMeter(f"RAPL, {len(counters)} package(s)", lambda: sum(each.joules() for each in counters))


class _Package:
    """One RAPL counter, which wraps around after its own range."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "energy_uj"
        self._range = int((folder / "max_energy_range_uj").read_text())
        self._last = int(self._file.read_text())
        self._wraps = 0

    def joules(self) -> float:
        now = int(self._file.read_text())
        self._wraps += now < self._last
        self._last = now
        return (now + self._wraps * self._range) / 1e6


def gpu_meter(library: str = NVML) -> EnergyMeter | None:
    """The sum of all NVIDIA GPUs; None without a GPU, or if one has no counter."""
    try:
        nvml = ctypes.CDLL(library)
        count = ctypes.c_uint()
        if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) or not count.value:
            return None
        handles = []
        for nth in range(count.value):
            handle = ctypes.c_void_p()
            if nvml.nvmlDeviceGetHandleByIndex_v2(nth, ctypes.byref(handle)):
                return None
            handles.append(handle)
    except (OSError, AttributeError):
        return None

    def millijoules(handle: ctypes.c_void_p) -> int | None:
        energy = ctypes.c_ulonglong()
        return None if nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(energy)) else energy.value

    if any(millijoules(handle) is None for handle in handles):
        return None
    return EnergyMeter(
        f"NVML, {len(handles)} GPU(s)", lambda: sum(millijoules(handle) or 0 for handle in handles) / 1e3
    )
