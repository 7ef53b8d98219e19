"""The device PyTorch computes on: CUDA if available, else the CPU.

Also its number format, its random state, and copies of networks on the CPU for export. Does not cover several devices,
Apple's MPS (untested), or onnxruntime, which serves on the CPU.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from potstill.errors import BadSpec

if TYPE_CHECKING:
    import torch

DeviceName = Literal["auto", "cpu", "cuda"]
DEVICE_NAMES: tuple[DeviceName, ...] = ("auto", "cpu", "cuda")
Module = TypeVar("Module", bound="torch.nn.Module")


def check_device(device: object) -> None:
    """Check the option `device`. Imports PyTorch only for "cuda".

    Raises:
        BadSpec: no such device name, or "cuda" without a CUDA device.
    """
    if device not in DEVICE_NAMES:
        raise BadSpec(f"There is no device {device!r}.", f"Choose {', '.join(DEVICE_NAMES)}.")
    if device == "cuda" and find_spec("torch") is not None:  # a missing PyTorch is reported by its user
        resolve_device("cuda")


def resolve_device(device: DeviceName = "auto") -> torch.device:
    """The PyTorch device of a name; "auto" is CUDA if available.

    Raises:
        BadSpec: "cuda" if PyTorch sees no CUDA device.
    """
    import torch

    if device != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if device == "cuda":
        raise BadSpec(
            'device = "cuda", and PyTorch sees no CUDA device here.',
            'Write device = "auto", or install PyTorch with CUDA on a machine that has a GPU.',
        )
    return torch.device("cpu")


def device_of(network: Any) -> torch.device:
    """The device a network's parameters are on."""
    found: torch.device = next(network.parameters()).device
    return found


def portable_device(device: DeviceName) -> DeviceName:
    """The device name to load a saved student with: "auto" for "cuda", as this machine may have no GPU."""
    return "cpu" if device == "cpu" else "auto"


def to_cpu(network: Module) -> Module:
    """The network itself if it is on the CPU, else a copy on the CPU; graphs are exported from there."""
    return network if device_of(network).type == "cpu" else copy.deepcopy(network).cpu()


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seed PyTorch on CPU and device inside the block, and restore its random state afterwards."""
    import torch

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def cuda_has_bfloat16(device: torch.device) -> bool:
    """Whether a GPU multiplies bfloat16 natively. For CPUs see `causal_lm.choose_dtype`."""
    import torch

    return device.type == "cuda" and bool(torch.cuda.is_bf16_supported(including_emulation=False))
