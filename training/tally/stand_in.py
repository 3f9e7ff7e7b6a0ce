"""A stand-in for a GPU: a device whose tensors have shapes and types, but no numbers.

The real code of a run works on it, on any machine and in seconds: weights are sent there, layers
compute, gradients come back, and every byte is counted while it is there. What comes back to the
CPU is zeros. Kernels' own workspaces and the allocator's rounding are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx.experimental import _config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from .ledger import Ledger

DEVICE = torch.device("cpu:0")
"""The stand-in's name: torch keeps it apart from `cpu`, and takes no kernels of another machine."""
CPU, META = torch.device("cpu"), torch.device("meta")
SENDING = {
    "aten::_to_copy",
    "aten::copy_",
    "aten::index",
    "aten::index_put_",
    "aten::_index_put_impl_",
}
"""What takes tensors of two devices on a real GPU too."""
WITHOUT_KERNEL = {"aten::empty", "aten::empty_like", "aten::empty_strided", "aten::_unsafe_view"}
SAME_WORK = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
        torch.ops.aten._scaled_dot_product_flash_attention
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        torch.ops.aten._scaled_dot_product_flash_attention_backward
    ),
}


class DeviceTensor(Tensor):
    """A tensor on the stand-in; `shape_only` is its twin on torch's meta device."""

    shape_only: Tensor

    @staticmethod
    def __new__(cls, shape_only: Tensor, requires_grad: bool = False) -> DeviceTensor:
        """Wrap a tensor on the meta device; accelerate makes parameters of any class like this."""
        shape_only = getattr(shape_only, "shape_only", shape_only)
        tensor = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            shape_only.size(),
            strides=shape_only.stride(),
            storage_offset=shape_only.storage_offset(),
            dtype=shape_only.dtype,
            device=DEVICE,
            requires_grad=requires_grad,
        )
        tensor.shape_only = shape_only
        return tensor  # type: ignore[no-any-return]

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Refuse: outside of a `StandIn` nobody counts."""
        raise RuntimeError(f"{func} was called on a tensor of the stand-in outside of it.")


class StandIn(TorchDispatchMode):
    """Within, `DEVICE` is a device of its own.

    `ledger` counts the bytes that lie there, `flops` the multiplications and additions of its
    products, convolutions and attention, `launches` the kernels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.flops = self.launches = 0
        self._restore = ExitStack()

    def __enter__(self) -> StandIn:
        """Let modules keep their parameters' identity when they are moved, and `nonzero` run."""
        before = torch.__future__.get_swap_module_params_on_conversion()
        set_swap = torch.__future__.set_swap_module_params_on_conversion
        self._restore.callback(set_swap, before)
        set_swap(True)
        nonzero = _config.patch(meta_nonzero_assume_all_nonzero=True)  # type: ignore[attr-defined]
        self._restore.enter_context(nonzero)
        return super().__enter__()  # type: ignore[no-any-return]

    def __exit__(self, *reason: Any) -> None:
        """Put torch back as it was."""
        self._restore.close()
        super().__exit__(*reason)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one operation where its tensors are."""
        kwargs = dict(kwargs or {})
        tensors = list(_tensors((*args, *kwargs.values())))
        here = any(isinstance(tensor, DeviceTensor) for tensor in tensors)
        if not here and kwargs.get("device") != DEVICE:
            return func(*args, **kwargs)
        name = func._schema.name
        if name == "aten::_local_scalar_dense":
            return _number(args[0])
        if kwargs.get("device") == CPU:
            return _zeros(args[0], kwargs.get("dtype"))
        if name == "aten::copy_" and not isinstance(args[0], DeviceTensor):
            return args[0].zero_()
        if here and name not in SENDING:
            _check_device(name, tensors)
        return self._run(func, args, kwargs)

    def _run(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        name = func._schema.name
        if name.startswith("aten::_fused_adam"):
            return None  # it works in place
        if "device" in kwargs and kwargs["device"] is not None:
            kwargs["device"] = META
        own = {name: _each(_without_numbers, value) for name, value in kwargs.items()}
        result = func(*(_each(_without_numbers, value) for value in args), **own)
        self._count_work(func, args, kwargs, result)
        if (written := _written(func)) is not None:
            return args[written]
        return _each(self._counted, result)

    def _count_work(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        if func.is_view or func._schema.name in WITHOUT_KERNEL:
            return
        self.launches += 1
        packet = SAME_WORK.get(func._overloadpacket, func._overloadpacket)
        if packet in flop_registry:
            self.flops += flop_registry[packet](*args, **kwargs, out_val=result)

    def _counted(self, tensor: Tensor) -> Tensor:
        self.ledger.note(tensor.untyped_storage())
        return DeviceTensor(tensor)


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among arguments, and in lists of them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _each(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """A value with every tensor in it changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(_each(change, each) for each in value)
    return value


def _without_numbers(tensor: Tensor) -> Tensor:
    return tensor.shape_only if isinstance(tensor, DeviceTensor) else tensor.to(META)


def _written(func: Any) -> int | None:
    """The number of the argument that an operation in place returns."""
    returns = func._schema.returns
    if len(returns) != 1 or not (returns[0].alias_info and returns[0].alias_info.is_write):
        return None
    return next(n for n, a in enumerate(func._schema.arguments) if a.alias_info)


def _number(tensor: Tensor) -> bool | int | float:
    """What Python sees of a number there: true, and any count or index 0."""
    if tensor.dtype == torch.bool:
        return True
    return 1.0 if tensor.dtype.is_floating_point else 0


def _zeros(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Zeros on the CPU, whose memory the system gives when it is touched."""
    size = tensor.numel() * (dtype or tensor.dtype).itemsize
    flat = torch.from_numpy(np.zeros(max(size, 1), np.uint8))[:size]
    return flat.view(dtype or tensor.dtype).view(tensor.shape)


def _check_device(name: str, tensors: Sequence[Tensor]) -> None:
    """Refuse what no GPU could compute: numbers of the CPU, other than a single one."""
    for tensor in tensors:
        if tensor.ndim and not isinstance(tensor, DeviceTensor):
            raise RuntimeError(
                f"{name} has a tensor {tuple(tensor.shape)} of the CPU among its own."
            )
