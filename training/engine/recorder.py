"""Writes the operations on tensors down, as one TorchScript function that runs them again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from .packing import Packing

Results = list[Tensor | None]
NUMBERS: dict[Any, int] = {
    torch.uint8: 0, torch.int32: 3, torch.int64: 4, torch.float16: 5, torch.float32: 6,
    torch.float64: 7, torch.bool: 11, torch.bfloat16: 15,
    torch.contiguous_format: 0, torch.preserve_format: 1, torch.channels_last: 2,
}  # fmt: skip
"""What TorchScript calls types and memory formats (c10's ScalarType and MemoryFormat)."""
FILTERS = {torch.ops.aten.convolution.default: 1, torch.ops.aten.convolution_backward.default: 2}
"""The place of a convolution's filters among its arguments."""
TIMES = (torch.ops.aten.mul.Tensor, torch.ops.aten.div.Tensor)
"""By one they change nothing; diffusers' layers and PEFT's LoRA have scales that usually are."""
VIEWS = {
    torch.ops.aten.t.default,
    torch.ops.aten.transpose.int,
    torch.ops.aten.view.default,
    torch.ops.aten.permute.default,
    torch.ops.aten.unsqueeze.default,
    torch.ops.aten.expand.default,
}
"""Operations whose result has its first argument's memory."""
UNREPEATABLE = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
"""Marks of operations whose results may decide in Python what comes next."""


class Recording:
    """The operations between inputs and results, as one TorchScript function."""

    def __init__(self, source: str, constants: Sequence[Tensor], is_there: Sequence[bool]) -> None:
        self._run = torch.jit.CompilationUnit(source).replay
        self._constants = list(constants)
        self._is_there = is_there
        self.is_proven = False

    @torch.no_grad()
    def __call__(self, inputs: Sequence[Tensor]) -> Results:
        """The results for other inputs of the same shapes."""
        with torch.jit.optimized_execution(False):
            output = iter(self._run(list(inputs), self._constants))
        return [next(output) if is_there else None for is_there in self._is_there]


class Recorder(TorchDispatchMode):
    """Writes down every operation within. Tensors are known by weak references: none is kept alive
    but those that were there before, such as weights.
    """

    def __init__(self, inputs: Sequence[Tensor], packing: Packing) -> None:
        super().__init__()
        self._packing = packing
        self._names: Any = WeakTensorKeyDictionary()
        self._lines = [f"i{number} = inputs[{number}]" for number in range(len(inputs))]
        self._constants: list[Tensor] = []
        self._count = 0
        self._is_possible = True
        for number, tensor in enumerate(inputs):
            self._names[tensor] = f"i{number}"

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if self._is_possible:
            try:
                self._write(func, args, kwargs or {}, output)
            except _UnwritableError:
                self._is_possible = False
        return output

    def finish(self, results: Results) -> Recording | None:
        """The recording of what was computed within."""
        if not self._is_possible:
            return None
        names = [self._name(result) for result in results if result is not None]
        lines = [*self._lines, f"return [{', '.join(names)}]"]
        loads = [f"c{number} = constants[{number}]" for number in range(len(self._constants))]
        head = "def replay(inputs: List[Tensor], constants: List[Tensor]) -> List[Tensor]:"
        source = "\n    ".join([head, *loads, *lines])
        try:
            is_there = [result is not None for result in results]
            return Recording(f"{source}\n", self._constants, is_there)
        except RuntimeError:  # an operation that TorchScript does not know
            return None

    def _write(self, func: Any, args: Any, kwargs: Any, output: Any) -> None:
        if UNREPEATABLE & set(func.tags) and not _is_lookup(func, args):
            raise _UnwritableError
        if _changes_nothing(func, args, output):
            self._names[output] = self._name(args[0])
            return
        if self._is_view_of_frozen(func, args):
            self._name(output)  # as good a constant
            return
        if swap := self._faster(func, args, output):
            (func, args), kwargs = swap, {}
            output = output[0] if isinstance(output, tuple) else output
        schema = func._schema
        types = {argument.name: argument.type for argument in schema.arguments}
        words = [self._word(v, t) for v, t in zip(args, types.values(), strict=False)]
        words += [f"{name}={self._word(v, types[name])}" for name, v in kwargs.items()]
        call = f"torch.ops.{schema.name.replace('::', '.')}({', '.join(words)})"
        if len(schema.returns) == 1 and isinstance(output, list | tuple):
            whole = self._new()
            self._lines.append(f"{whole} = {call}")
            self._lines += [
                f"{self._new(each)} = {whole}[{number}]" for number, each in enumerate(output)
            ]
            return
        results = output if isinstance(output, list | tuple) else [output]
        names = ", ".join(self._new(each) for each in results)
        self._lines.append(f"{names} = {call}" if names else call)

    def _is_view_of_frozen(self, func: Any, args: Any) -> bool:
        """Whether the result shows a constant's numbers, and those stay where they are."""
        source = args[0] if func in VIEWS else None
        return source is not None and not source.requires_grad and self._name(source)[0] == "c"

    def _faster(self, func: Any, args: Any, output: Any) -> tuple[Any, list[Any]] | None:
        """A convolution with filters that are ready, if they were there before."""
        place = FILTERS.get(func)
        if place is None or not self._name(args[place]).startswith("c"):
            return None
        return self._packing.instead(func, args, output)

    def _new(self, tensor: Any = None) -> str:
        """A name for a result."""
        self._count += 1
        name = f"v{self._count}"
        if isinstance(tensor, Tensor):
            self._names[tensor] = name
        return name

    def _name(self, tensor: Tensor) -> str:
        """The name of a tensor; what nothing within has made is a constant."""
        if tensor not in self._names:
            self._names[tensor] = f"c{len(self._constants)}"
            self._constants.append(tensor)
        return str(self._names[tensor])

    def _word(self, value: Any, kind: Any) -> str:
        """An argument in TorchScript."""
        if isinstance(value, Tensor):
            return self._name(value)
        if isinstance(value, list | tuple):
            inner = _inner(kind)
            words = f"[{', '.join(self._word(each, inner) for each in value)}]"
            if not isinstance(inner, torch.OptionalType):
                return words
            name = self._new()
            self._lines.append(f"{name}: List[{inner.annotation_str}] = {words}")
            return name
        if isinstance(value, torch.device):
            return f'torch.device("{value}")'
        if isinstance(value, torch.layout):
            value = int(value is not torch.strided)
        if isinstance(value, torch.dtype | torch.memory_format):
            if value not in NUMBERS:
                raise _UnwritableError
            return str(NUMBERS[value])
        if isinstance(value, int) and not isinstance(value, bool) and "float" in str(kind):
            value = float(value)
        if not isinstance(value, bool | int | float | str | None):
            raise _UnwritableError
        infinite = isinstance(value, float) and not math.isfinite(value)
        return f'float("{value}")' if infinite else repr(value)


class _UnwritableError(Exception):
    """An operation has no place in a recording."""


def _changes_nothing(func: Any, args: Any, output: Any) -> bool:
    """Whether the result is the first argument, bit for bit, where there is no autograd."""
    if func is torch.ops.aten.detach.default:
        return True
    by_one = func in TIMES and isinstance(args[1], int | float) and args[1] == 1
    return by_one and form_of(output) == form_of(args[0])


def _is_lookup(func: Any, args: Any) -> bool:
    """Whether rows are taken by number: a mask's would be more or fewer the next time."""
    if func is not torch.ops.aten.index.Tensor:
        return False
    return all(index is None or index.dtype == torch.int64 for index in args[1])


def _inner(kind: Any) -> Any:
    """The type of a list's members."""
    while isinstance(kind, torch.OptionalType):
        kind = kind.getElementType()
    return kind.getElementType()


def form_of(tensor: Tensor) -> Any:
    """All of a tensor but its numbers."""
    return tensor.shape, tensor.stride(), tensor.dtype
