"""A device that says it is a CUDA GPU and computes on the CPU: it refuses what a GPU refuses. Not a test itself.

A tensor moved to "cuda:0" becomes an `Away`. An operation that is handed tensors from both sides raises, as it would
there; so does `.numpy()`. What stays on the CPU by mistake is thus found without a GPU.
Does not pretend a GPU's speed, memory, rounding or random numbers.
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
# What a real GPU accepts with a tensor of either side.
BETWEEN = (aten._to_copy.default, aten.copy_.default)
_places = {AWAY.type}
INDEXED = (aten.index.Tensor, aten.index_put_.default, aten.index_put.default)


class Away(torch.Tensor):
    """A tensor on the pretended device; its numbers are in `inner`, on the CPU."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Away:
        made: Any = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.shape,
            dtype=inner.dtype,
            device="meta",
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
        )
        made.inner = inner
        return made  # type: ignore[no-any-return]

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
    away = [each for each in tensors if isinstance(each, Away)]
    stayed = [each for each in tensors if not isinstance(each, Away) and each.ndim]
    wanted = kwargs.get("device")
    strangers = stayed and not (func in INDEXED and isinstance(args[0], Away))
    if away and strangers and func not in BETWEEN:
        raise RuntimeError(f"Expected all tensors to be on the same device, {func} got cuda:0 and cpu")
    goes = bool(away) if wanted is None else torch.device(wanted).type in _places
    if func is aten.copy_.default:
        goes = isinstance(args[0], Away)
    if goes:
        _places.add("meta")  # what PyTorch's own code takes an `Away` to be on, when it makes another beside it
    if wanted is not None:
        kwargs = {**kwargs, "device": "cpu"}
    found = func(*tree_map(_here, args), **tree_map(_here, kwargs))
    if not goes:
        return found
    wrapped = tree_map(lambda leaf: Away(leaf) if isinstance(leaf, torch.Tensor) else leaf, found)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if away else wrapped


def _here(leaf: Any) -> Any:
    return leaf.inner if isinstance(leaf, Away) else leaf


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Inside the block PyTorch has a CUDA device, such as it is."""
    swap = torch.__future__.get_swap_module_params_on_conversion()
    with (
        patch.object(torch.cuda, "is_available", lambda: True),
        patch.object(torch.cuda, "current_device", lambda: 0),
        patch.object(torch.cuda, "is_bf16_supported", lambda **_: False),
        patch.object(torch.cuda, "_lazy_init", lambda: None),
        patch.object(torch.cuda, "get_rng_state", lambda *_: None),
        patch.object(torch.cuda, "set_rng_state", lambda *_: None),
        patch.object(torch, "inference_mode", lambda *_: torch.no_grad()),  # which no tensor subclass can live in
        _Mode(),
    ):
        torch.__future__.set_swap_module_params_on_conversion(True)  # tied weights stay tied, as on a real device
        try:
            yield
        finally:
            torch.__future__.set_swap_module_params_on_conversion(swap)
            _places.discard("meta")
