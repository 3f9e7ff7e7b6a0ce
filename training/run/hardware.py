"""How the device is set up: kernels of attention, memory layout, compilation, precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from orthodiff.adapters.compiled import compile_model
from orthodiff.errors import UserError
from orthodiff.models import Base
from orthodiff.models.offload import Offload

from ..options import MemoryOptions

KERNELS = {"flash": SDPBackend.FLASH_ATTENTION, "math": SDPBackend.MATH}


def check_hardware(options: MemoryOptions, device: torch.device, dtype: torch.dtype) -> None:
    """Refuse early what would fail in the first step.

    Raises:
        UserError: what is asked for does not run here, runs wrong, or is not installed.
    """
    if dtype == torch.float16 and device.type == "cpu":
        raise UserError(
            "`mixed_precision` is fp16, in which a CPU cannot train. Use --mixed_precision bf16 "
            "or no."
        )
    if dtype == torch.bfloat16 and device.type == "cuda":
        _check_bf16()
    if options.torch_compile and device.type == "cpu":
        raise UserError(
            "`torch_compile` is on, but on a CPU torch's compiler gets the gradients of diffusers' "
            "UNet wrong (by a fifth and more with torch 2.13). Leave it out."
        )
    if options.attention == "xformers":
        _check_xformers(device)
    elif options.attention in KERNELS:
        _try_kernel(options.attention, device, dtype)


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a GPU; None where nobody counts them."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def check_room(options: MemoryOptions, base: Base, free: int | None) -> None:
    """Refuse a base of which one part alone does not fit into the `free` bytes of its device.

    Raises:
        UserError: naming the part, its size and a switch that makes it smaller.
    """
    if free is None:
        return
    parts = {
        "text encoders": [text.model for text in base.texts],
        "autoencoder": [base.vae],
        "denoiser": [base.denoiser],
    }
    for name, models in parts.items():
        if (size := sum(map(_bytes, models))) > free:
            raise UserError(
                f"The {name} of `{base.name}` takes {size / 2**30:.1f} GiB, but {free / 2**30:.1f} "
                f"GiB of {base.device} are free. {_smaller(options, name, base.dtype)}"
            )


def _bytes(model: nn.Module) -> int:
    return sum(t.nbytes for t in (*model.parameters(), *model.buffers()))


def _smaller(options: MemoryOptions, part: str, dtype: torch.dtype) -> str:
    if part != "autoencoder" and dtype == torch.float32:
        return "Use --mixed_precision bf16 or fp16, or end other programs on it."
    if part == "denoiser" and options.quantize_base != "4bit":
        return "Use --quantize_base 4bit, or end other programs on it."
    return "End other programs on it, or use a smaller base."


def set_up(options: MemoryOptions, denoiser: Any) -> None:
    """Prepare a denoiser, adapters included, for training."""
    torch.backends.cuda.matmul.allow_tf32 = options.allow_tf32
    torch.backends.cudnn.benchmark = True  # few shapes, each met many times
    denoiser.train()
    if options.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing(EveryNth(options.gradient_checkpointing_interval))
    if options.attention == "xformers":
        denoiser.enable_xformers_memory_efficient_attention()
    if options.channels_last or records(options, denoiser.device):
        denoiser.to(memory_format=torch.channels_last)
    if options.torch_compile:
        compile_model(denoiser, repeated_blocks=options.compile_repeated_blocks)


class EveryNth:
    """Checkpoints every n-th block, in the order in which they are first called.

    Such a block keeps its inputs alone and is computed again in the backward pass.
    """

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self._numbers: dict[nn.Module, int] = {}

    def __call__(self, block: nn.Module, *inputs: Any) -> Any:
        """The outputs of `block`."""
        number = self._numbers.setdefault(block, len(self._numbers))
        if number % self.interval:
            return block(*inputs)
        return checkpoint(block, *inputs, use_reentrant=False)


def stages(device: torch.device) -> Offload:
    """How the parts of a base take turns on `device`, until the denoiser stays to be trained.

    On the CPU all lie in the same memory in any case.
    """
    return "none" if device == torch.device("cpu") else "model"


def records(options: MemoryOptions, device: torch.device) -> bool:
    """Whether steps are to run from a recording: packed filters want channels last."""
    return options.replay and device.type == "cpu"


def attention_kernel(attention: str) -> AbstractContextManager[None]:
    """Within the block torch's attention uses only the kernel asked for."""
    return sdpa_kernel(KERNELS[attention]) if attention in KERNELS else nullcontext()


def _check_bf16() -> None:
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError(
            f"`mixed_precision` is bf16, which the {torch.cuda.get_device_name()} does not compute "
            "itself. Use --mixed_precision fp16."
        )


def _check_xformers(device: torch.device) -> None:
    if find_spec("xformers") is None:
        raise UserError(
            "`attention` is xformers, which is not installed. Run `pip install "
            "'orthodiff[xformers]'`, or use --attention sdpa."
        )
    if device.type != "cuda":
        raise UserError(
            f"`attention` is xformers, which runs on GPUs only, but the device is {device.type}. "
            "Use --attention sdpa."
        )


def _try_kernel(attention: str, device: torch.device, dtype: torch.dtype) -> None:
    query = torch.zeros(1, 2, 16, 32, device=device, dtype=dtype)
    try:
        with attention_kernel(attention):
            nn.functional.scaled_dot_product_attention(query, query, query)
    except RuntimeError as error:
        name = str(dtype).removeprefix("torch.")
        raise UserError(
            f"`attention` is {attention}, which does not run on this {device.type} in {name}. "
            "Use --attention sdpa, or --mixed_precision bf16 on a GPU."
        ) from error
