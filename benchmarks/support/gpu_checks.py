"""What `benchmarks.gpu` measures: one function a check, each run in a process of its own.

Weights are random, and sizes are real or, to try the script itself, tiny.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import orthodiff
from benchmarks import launches
from benchmarks.support.compared_adapters import COMPARED_ADAPTERS
from benchmarks.support.gpu_setting import Setting, step_of, unet
from orthodiff.adapters.compiled import compile_model
from orthodiff.training.optim.share import average

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}
KERNELS = (
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
)
Figures = dict[str, Any]


def ceiling(setting: Setting) -> Figures:
    """Products of large matrices: what the arithmetic of a step is measured against."""
    side = 128 if setting.is_tiny else 8192
    a = torch.randn(side, side, device=setting.device, dtype=setting.dtype)
    return {"TFLOP/s": 2 * side**3 / setting.timed(lambda: a @ a) / 1e12}


def correctness(setting: Setting) -> Figures:
    """Every method on a layer, forward and back, in each precision, against a CPU in float64."""
    figures: Figures = {"is_right": True}
    for method in (orthodiff.HRA(), orthodiff.OFT(), orthodiff.BOFT(), orthodiff.LoRA()):
        for dtype, tolerance in TOLERANCES.items():
            for quantity, error in errors(setting, method, dtype).items():
                figures[f"{method.name} {str(dtype).removeprefix('torch.')} {quantity}"] = error
                figures["is_right"] &= error <= tolerance
    return figures


def errors(setting: Setting, method: orthodiff.Method, dtype: torch.dtype) -> dict[str, float]:
    """Relative errors of a layer's output and gradients; those of float16 by a loss scaler."""
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(64, 48))
    adapter = orthodiff.attach(layer, method, targets=["0"])
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    x = torch.randn(40, 64)
    exact = _pass(layer.double(), adapter, x.double(), torch.float64)
    ours = _pass(layer.float().to(setting.device), adapter, x.to(setting.device), dtype)
    pairs = zip(("output", "gradient"), ours, exact, strict=True)
    return {name: ((a - b).norm() / b.norm()).item() for name, a, b in pairs}


def _pass(
    layer: nn.Module, adapter: orthodiff.Adapter, x: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The output, and all gradients of its mean square; both in float64 on the CPU."""
    half = dtype in (torch.bfloat16, torch.float16)
    scaler = torch.amp.GradScaler(x.device.type, enabled=dtype == torch.float16)
    with torch.autocast(x.device.type, dtype if half else torch.bfloat16, enabled=half):
        output = layer(x)
    scaler.scale(output.to(max(x.dtype, output.dtype, key=_bits)).square().mean()).backward()
    scale = scaler.get_scale()
    gradients = [parameter.grad.double().flatten() / scale for parameter in adapter.parameters()]
    for parameter in adapter.parameters():
        parameter.grad = None
    return output.detach().double().cpu(), torch.cat(gradients).cpu()


def _bits(dtype: torch.dtype) -> int:
    return dtype.itemsize


def steps(setting: Setting, *, topology: str, batch: int, checkpointing: bool) -> Figures:
    """Milliseconds and peak memory of a step by adapter, on the same base."""
    figures: Figures = {}
    for row in setting.rows:
        if setting.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        model, inputs = unet(setting, topology)
        if checkpointing:
            model.enable_gradient_checkpointing()
        adapted = COMPARED_ADAPTERS[row](model)
        figures[f"{row} ms"] = 1000 * setting.timed(step_of(adapted, inputs, batch))
        figures[f"{row} GiB"] = setting.peak()
        del model, adapted
    for row in setting.rows[2:]:
        figures[f"{row} / PEFT LoRA"] = figures[f"{row} ms"] / figures["PEFT LoRA r8 ms"]
    return figures


def kernels(setting: Setting) -> Figures:
    """Launches a step by adapter."""
    figures: Figures = {}
    for row in setting.rows:
        model, inputs = unet(setting, "SD 1.5")
        step = step_of(COMPARED_ADAPTERS[row](model), inputs, 1)
        step()
        with launches.Launches() as counted:
            step()
        figures[row] = counted.kernels.total()
    return figures


def synchronisations(setting: Setting) -> Figures:
    """A step of each method under the driver's own watch: it raises where the host waits."""
    figures: Figures = {"is_right": True}
    for row in setting.rows[2:]:
        model, inputs = unet(setting, "SD 1.5")
        step = step_of(COMPARED_ADAPTERS[row](model), inputs, 1)
        step()
        with sync_forbidden(setting.device):
            try:
                step()
                figures[row] = "none"
            except RuntimeError as error:
                figures[row], figures["is_right"] = str(error).splitlines()[0], False
    return figures


@contextmanager
def sync_forbidden(device: str) -> Iterator[None]:
    """Within, a host that waits for the device is an error; a CPU has nothing to wait for."""
    if device != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def compiled(setting: Setting) -> Figures:
    """A step with PEFT's LoRA and with HRA, as it is and with its repeated blocks compiled."""
    figures: Figures = {}
    backend = "eager" if setting.is_tiny else "inductor"
    for row in ("HRA r8", "PEFT LoRA r8"):
        torch.compiler.reset()
        model, inputs = unet(setting, "SD 1.5")
        step = step_of(COMPARED_ADAPTERS[row](model), inputs, 1)
        figures[f"{row} eager ms"] = 1000 * setting.timed(step)
        compile_model(model, repeated_blocks=True, backend=backend)
        begun = time.perf_counter()
        step()
        setting.wait()
        figures[f"{row} first compiled s"] = time.perf_counter() - begun
        figures[f"{row} compiled ms"] = 1000 * setting.timed(step)
    return figures


@torch.no_grad()
def encode(setting: Setting) -> Figures:
    """Images a second through an autoencoder of SD's size."""
    widths = (8, 8) if setting.is_tiny else (128, 256, 512, 512)
    with setting.new_weights():
        vae = AutoencoderKL(
            block_out_channels=widths,
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            up_block_types=("UpDecoderBlock2D",) * len(widths),
            layers_per_block=2,
            norm_num_groups=8 if setting.is_tiny else 32,
            latent_channels=4,
        )
    side = 32 if setting.is_tiny else 512
    image = torch.randn(1, 3, side, side, device=setting.device, dtype=setting.dtype)
    return {"images/s": 1 / setting.timed(lambda: vae.encode(image))}


@torch.no_grad()
def sampling(setting: Setting) -> Figures:
    """Images a minute of 25 guided steps, the adapter attached and merged."""
    model, inputs = unet(setting, "SD 1.5")
    adapter = orthodiff.attach(model.eval(), orthodiff.HRA(rank=8))
    latents, text = inputs["latents"].repeat(2, 1, 1, 1), inputs["text"].repeat(2, 1, 1)
    one = partial(model, latents, torch.tensor(500, device=setting.device), text)
    figures = {"attached": 60 / (25 * setting.timed(one))}
    adapter.merge()
    return {**figures, "merged": 60 / (25 * setting.timed(one))}


class OneProcess:
    """A run in one process: what is averaged over it stays as it is."""

    num_processes = 1

    def reduce(self, flat: Tensor, how: str) -> Tensor:
        return flat


def flat_reduce(setting: Setting) -> Figures:
    """Milliseconds to flatten a step's gradients and to part them again."""
    model, _ = unet(setting, "SD 1.5")
    adapter = orthodiff.attach(model, orthodiff.HRA(rank=8))
    gradients = [torch.zeros_like(parameter) for parameter in adapter.parameters()]
    loss = torch.zeros((), device=setting.device)
    work = partial(average, OneProcess(), gradients, gradients, loss)
    return {"tensors": len(gradients), "ms": 1000 * setting.timed(work)}


def attention(setting: Setting) -> Figures:
    """Milliseconds of attention over a latent of 64 x 64, forward and back, by kernel."""
    tokens = 64 if setting.is_tiny else 4096
    q = torch.randn(2, 8, tokens, 40, device=setting.device, dtype=setting.dtype).requires_grad_()

    def once() -> None:
        nn.functional.scaled_dot_product_attention(q, q, q).float().sum().backward()

    figures: Figures = {}
    for kernel in KERNELS:
        try:
            with sdpa_kernel(kernel):
                figures[f"{kernel.name} ms"] = 1000 * setting.timed(once)
        except RuntimeError as error:
            figures[f"{kernel.name} ms"] = str(error).splitlines()[0]
    return {**figures, "xformers ms": xformers_ms(setting, q)}


def xformers_ms(setting: Setting, q: Tensor) -> float | str:
    """The same by xformers, which wants heads after tokens."""
    if setting.device != "cuda" or find_spec("xformers") is None:
        return "not installed"
    from xformers.ops import memory_efficient_attention  # type: ignore[import-not-found]

    rows = q.detach().transpose(1, 2).contiguous().requires_grad_()
    try:
        return 1000 * setting.timed(
            lambda: memory_efficient_attention(rows, rows, rows).float().sum().backward()
        )
    except (RuntimeError, NotImplementedError) as error:
        return str(error).splitlines()[0]


CHECKS: dict[str, Callable[[Setting], Figures]] = {
    "ceiling": ceiling,
    "correctness": correctness,
    "synchronisations": synchronisations,
    "SD 1.5 batch 1": partial(steps, topology="SD 1.5", batch=1, checkpointing=False),
    "SDXL batch 1 checkpointing": partial(steps, topology="SDXL", batch=1, checkpointing=True),
    "kernels": kernels,
    "SD 1.5 batch 4": partial(steps, topology="SD 1.5", batch=4, checkpointing=False),
    "sampling": sampling,
    "encode": encode,
    "attention": attention,
    "flat reduce": flat_reduce,
    "SD 1.5 batch 8 checkpointing": partial(steps, topology="SD 1.5", batch=8, checkpointing=True),
    "SDXL batch 1": partial(steps, topology="SDXL", batch=1, checkpointing=False),
    "compiled": compiled,
}
"""In the order in which they are missed most when time runs out."""
EXPECTED = {
    "correctness": "float32 within 1e-5, bfloat16 2e-2, float16 3e-3 of float64",
    "synchronisations": "none",
    "SD 1.5 batch 1": "HRA and OFT at most 1.02 of PEFT's LoRA, BOFT m4 at most 1.10",
    "SDXL batch 1 checkpointing": "HRA r8 peaks at most at 6.5 GiB",
}
