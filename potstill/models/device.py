"""Which processor PyTorch computes on: this machine's CUDA device where there is one, else its CPU.

One choice and its consequences: the number format, the random state, and a copy back on the CPU for whoever exports.
Networks and batches are put there by those who own them. Does not cover several devices, Apple's MPS (nobody here could
try it), or onnxruntime, which serves on the CPU.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
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
    """See that a wish can be granted here. PyTorch is imported only where a GPU is insisted on.

    Raises:
        BadSpec: it is no wish, or there is no such device.
    """
    if device not in DEVICE_NAMES:
        raise BadSpec(f"device = {device!r} cannot be.", f"Choose {', '.join(DEVICE_NAMES)}.")
    if device == "cuda" and find_spec("torch") is not None:  # without PyTorch others say so
        resolve_device("cuda")


def resolve_device(device: DeviceName = "auto") -> torch.device:
    """The device for a wish; "auto" takes CUDA where PyTorch has it.

    Raises:
        BadSpec: "cuda" where PyTorch sees no CUDA device.
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
    """Where the weights of a network are."""
    found: torch.device = next(network.parameters()).device
    return found


def portable_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a student that was saved, perhaps elsewhere: where there was a GPU there need not be one here."""
    return {**options, "device": "cpu" if options.get("device") == "cpu" else "auto"}


def to_cpu(network: Module) -> Module:
    """The network itself if it is on the CPU, else a copy that is: graphs are exported from there."""
    return network if device_of(network).type == "cpu" else copy.deepcopy(network).cpu()


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Inside the block PyTorch draws from `seed`, on CPU and device; afterwards its random state is as before."""
    import torch

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def cuda_has_bfloat16(device: torch.device) -> bool:
    """Whether a GPU multiplies bfloat16 natively. Of a CPU others know more: `backbone`, `causal`."""
    import torch

    return device.type == "cuda" and bool(torch.cuda.is_bf16_supported(including_emulation=False))
