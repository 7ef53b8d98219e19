"""A stand-in for a CUDA GPU that computes on the CPU and refuses what a GPU refuses.

A tensor moved to "cuda:0" becomes an `Away`. An operation on tensors of both devices raises, as on a GPU; so does
`.numpy()`. A tensor that stays on the CPU by mistake is found without a GPU. Does not simulate a GPU's speed, memory,
rounding or random numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

AWAY = torch.device("cuda", 0)
aten: Any = torch.ops.aten
# Operations that accept tensors of both devices.
CROSS_DEVICE_OPS = (aten._to_copy.default, aten.copy_.default)
_device_types = {AWAY.type}
INDEXED = (aten.index.Tensor, aten.index_put_.default, aten.index_put.default)


class Away(torch.Tensor):
    """A tensor on the stand-in device; its values are in `inner`, on the CPU."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Away:
        tensor: Any = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.shape,
            dtype=inner.dtype,
            device="meta",
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
        )
        tensor.inner = inner
        return tensor  # type: ignore[no-any-return]

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return AWAY

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Away({self.inner})"

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, torch.Tensor], *_: Any) -> Away:
        return Away(inner["inner"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    away = [tensor for tensor in tensors if isinstance(tensor, Away)]
    on_cpu = [tensor for tensor in tensors if not isinstance(tensor, Away) and tensor.ndim]
    device = kwargs.get("device")
    mixed = on_cpu and not (func in INDEXED and isinstance(args[0], Away))
    if away and mixed and func not in CROSS_DEVICE_OPS:
        raise RuntimeError(f"Expected all tensors to be on the same device, {func} got cuda:0 and cpu")
    result_is_away = bool(away) if device is None else torch.device(device).type in _device_types
    if func is aten.copy_.default:
        result_is_away = isinstance(args[0], Away)
    if result_is_away:
        _device_types.add(
            "meta"
        )  # PyTorch's own code takes an `Away` to be on this device, when it makes another like it
    if device is not None:
        kwargs = {**kwargs, "device": "cpu"}
    result = func(*tree_map(_to_inner, args), **tree_map(_to_inner, kwargs))
    if not result_is_away:
        return result
    wrapped = tree_map(lambda leaf: Away(leaf) if isinstance(leaf, torch.Tensor) else leaf, result)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if away else wrapped


def _to_inner(leaf: Any) -> Any:
    return leaf.inner if isinstance(leaf, Away) else leaf


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Inside the block PyTorch has a CUDA device, the stand-in."""
    swap = torch.__future__.get_swap_module_params_on_conversion()
    with (
        patch.object(torch.cuda, "is_available", lambda: True),
        patch.object(torch.cuda, "current_device", lambda: 0),
        patch.object(torch.cuda, "is_bf16_supported", lambda **_: False),
        patch.object(torch.cuda, "_lazy_init", lambda: None),
        patch.object(torch.cuda, "get_rng_state", lambda *_: None),
        patch.object(torch.cuda, "set_rng_state", lambda *_: None),
        patch.object(torch, "inference_mode", lambda *_: torch.no_grad()),  # tensor subclasses do not support it
        _Mode(),
    ):
        torch.__future__.set_swap_module_params_on_conversion(True)  # tied weights stay tied, as on a real device
        try:
            yield
        finally:
            torch.__future__.set_swap_module_params_on_conversion(swap)
            _device_types.discard("meta")
