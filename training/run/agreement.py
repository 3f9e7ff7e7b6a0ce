"""What the processes of a run must agree on, so that none trains on with something else.

A process that fails alone would leave the others waiting, and one that has other data or weights
would spoil the average without a word. So each start step is voted on, and what decides the run's
result is compared.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from orthodiff.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")
PACKAGES = ("torch", "diffusers", "accelerate", "transformers", "numpy", "pillow")
"""Whose versions can change a number."""


class FailedElsewhereError(UserError):
    """Another process has failed, and says why itself."""


def from_main(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """What `work` returns in the main process, in every process.

    Raises:
        UserError: `work` raised it, there; FailedElsewhereError in the others.
    """
    result = in_all(accelerator, work if accelerator.is_main_process else lambda: None)
    if accelerator.num_processes == 1:
        return result  # type: ignore[return-value]
    box = [result]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]  # type: ignore[return-value]


def in_all(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """What `work` returns here, once it has succeeded in every process.

    Raises:
        FailedElsewhereError: it has failed in another one; what it raised, if it failed here.
    """
    if accelerator.num_processes == 1:
        return work()
    try:
        result = work()
    except BaseException:
        gather(False)
        raise
    if not all(gather(True)):
        raise FailedElsewhereError("Another process of this run has failed.")
    return result


def gather(value: T) -> list[T]:
    """The value of every process, by rank."""
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def package_versions() -> dict[str, str]:
    """Python and the packages that compute."""
    return {"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def check_same(accelerator: Accelerator, settings: Mapping[str, Any]) -> None:
    """Compare named values, versions among them, over all processes.

    Raises:
        UserError: in the main process, naming the first that differs; FailedElsewhereError in the
            others.
    """
    if accelerator.num_processes == 1:
        return
    everyone = gather({**package_versions(), **settings})
    for rank, other in enumerate(everyone):
        for name, value in everyone[0].items():
            if other.get(name) != value:
                _refuse(accelerator, name, rank, other.get(name), value)


def check_parameters(accelerator: Accelerator, parameters: Sequence[Tensor], *, step: int) -> None:
    """Compare a hash of what is trained over all processes.

    Raises:
        UserError: in the main process, where they differ; FailedElsewhereError in the others.
    """
    if accelerator.num_processes == 1:
        return
    sums = gather(parameter_hash(parameters))
    for rank, other in enumerate(sums):
        if other != sums[0]:
            if not accelerator.is_main_process:
                raise FailedElsewhereError("The processes have other parameters.")
            raise UserError(
                f"After step {step} process {rank} has other parameters than process 0, so what "
                "they average is no training any more. Use processes of the same machine type and "
                "software, and go on with --resume_from_checkpoint latest."
            )


def parameter_hash(parameters: Sequence[Tensor]) -> str:
    """A sum over every bit of them."""
    digest = hashlib.sha256()
    for parameter in parameters:
        numbers = parameter.detach().cpu().contiguous().view(-1).view(torch.uint8)
        digest.update(numbers.numpy().tobytes())
    return digest.hexdigest()


def _refuse(accelerator: Accelerator, name: str, rank: int, other: Any, value: Any) -> None:
    if not accelerator.is_main_process:
        raise FailedElsewhereError(f"The processes differ in {name}.")
    if isinstance(value, str) and len(value) < 80:
        differ = f"{name} is {other!r} in process {rank}, but {value!r} in process 0"
    else:
        differ = f"process {rank} has other {name} than process 0"
    raise UserError(
        f"The processes of this run differ: {differ}. Start them with the same software, settings "
        "and data."
    )
