"""What `benchmarks.gpu` measures: one function a check, each run in a process of its own.

Weights are random, and sizes are real or, to try the script itself, tiny.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import orthodiff
from benchmarks import launches
from benchmarks.contestants import CONTESTANTS
from orthodiff.training.optim.share import average

ROWS = ("frozen base", "PEFT LoRA r8", "LoRA r8", "HRA r8", "OFT b32", "BOFT b8 m4")
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}
Figures = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """Where and how large: `is_tiny` tries the script in seconds, on a CPU too."""

    device: str
    is_tiny: bool

    @property
    def dtype(self) -> torch.dtype:
        if self.device != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16

    @property
    def rows(self) -> tuple[str, ...]:
        """The adapters to measure, after the base and PEFT's LoRA."""
        return ROWS[:4] if self.is_tiny else ROWS

    def timed(self, work: Callable[[], object]) -> float:
        """Seconds of one call: the least of several after two to warm up; of one at tiny sizes."""
        rounds, seconds = (1 if self.is_tiny else 8), []
        warm_up = 0 if self.is_tiny else 2
        for number in range(rounds + warm_up):
            self.wait()
            begun = time.perf_counter()
            work()
            self.wait()
            if number >= warm_up:
                seconds.append(time.perf_counter() - begun)
        return min(seconds)

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def peak(self) -> float:
        """GiB of device memory at most since the start."""
        return torch.cuda.max_memory_allocated() / 2**30 if self.device == "cuda" else 0.0


def ceiling(setting: Setting) -> Figures:
    """Products of large matrices: what the arithmetic of a step is measured against."""
    side = 128 if setting.is_tiny else 8192
    a = torch.randn(side, side, device=setting.device, dtype=setting.dtype)
    return {"TFLOP/s": 2 * side**3 / setting.timed(lambda: a @ a) / 1e12}


def correctness(setting: Setting) -> Figures:
    """Every method on a layer, in each precision, against a CPU in float64."""
    figures: Figures = {}
    methods = (orthodiff.HRA(), orthodiff.OFT(), orthodiff.BOFT(), orthodiff.LoRA())
    for method in methods:
        for dtype, tolerance in TOLERANCES.items():
            torch.manual_seed(0)
            layer = nn.Sequential(nn.Linear(64, 48))
            adapter = orthodiff.attach(layer, method, targets=["0"])
            with torch.no_grad():
                for parameter in adapter.parameters():
                    parameter.add_(0.05 * torch.randn_like(parameter))
            x = torch.randn(40, 64)
            exact = layer.double()(x.double())
            ours = layer.float().to(setting.device)
            with torch.autocast(setting.device, dtype, enabled=dtype != torch.float32):
                found = ours(x.to(setting.device))
            error = (found.detach().cpu().double() - exact).norm() / exact.norm()
            name = str(dtype).removeprefix("torch.")
            figures[f"{method.name} {name}"] = error.item()
            figures["is_right"] = figures.get("is_right", True) and error.item() <= tolerance
    return figures


def unet(setting: Setting, topology: str) -> tuple[UNet2DConditionModel, dict[str, Tensor]]:
    """A denoiser with random weights and one sample of its inputs."""
    if setting.is_tiny:
        model, (side, tokens, width, pooled) = launches.TOPOLOGIES[topology](), (8, 7, 192, 32)
    elif topology == "SD 1.5":
        model = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
        side, tokens, width, pooled = 64, 77, 768, 0
    else:
        model = UNet2DConditionModel(
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
        side, tokens, width, pooled = 128, 77, 2048, 1280
    kind = {"device": setting.device, "dtype": setting.dtype}
    inputs = {"latents": torch.randn(1, 4, side, side, **kind)}
    inputs["text"] = torch.randn(1, tokens, width, **kind)
    inputs["text_embeds"] = torch.randn(1, pooled, **kind)
    inputs["time_ids"] = torch.ones(1, 6, **kind)
    return model.to(setting.device, setting.dtype).train(), inputs


def step_of(model: nn.Module, inputs: dict[str, Tensor], batch: int) -> Callable[[], None]:
    """A forward and backward pass; the latents ask for a gradient, so that the floor has one."""
    repeated = {
        name: value.repeat(batch, *[1] * (value.ndim - 1)) for name, value in inputs.items()
    }
    device = inputs["latents"].device
    timesteps = torch.full((batch,), 500, device=device)
    extra = {name: repeated[name] for name in ("text_embeds", "time_ids")}

    def step() -> None:
        x = repeated["latents"].detach().requires_grad_()
        half = x.dtype != torch.float32
        with torch.autocast(device.type, x.dtype if half else torch.bfloat16, enabled=half):
            output = model(x, timesteps, repeated["text"], added_cond_kwargs=extra).sample
        output.float().square().mean().backward()
        for parameter in model.parameters():
            parameter.grad = None

    return step


def steps(setting: Setting, *, topology: str, batch: int, checkpointing: bool) -> Figures:
    """Milliseconds and peak memory of a step by adapter, on the same base."""
    figures: Figures = {}
    for row in setting.rows:
        if setting.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        model, inputs = unet(setting, topology)
        if checkpointing:
            model.enable_gradient_checkpointing()
        adapted = CONTESTANTS[row](model)
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
        step = step_of(CONTESTANTS[row](model), inputs, 1)
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
        step = step_of(CONTESTANTS[row](model), inputs, 1)
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
    """A step with HRA, as it is and with its repeated blocks compiled."""
    model, inputs = unet(setting, "SD 1.5")
    adapted = CONTESTANTS["HRA r8"](model)
    figures: Figures = {"eager ms": 1000 * setting.timed(step_of(adapted, inputs, 1))}
    if setting.device == "cuda":
        model.compile_repeated_blocks()
        begun = time.perf_counter()
        step_of(adapted, inputs, 1)()
        setting.wait()
        figures["first compiled s"] = time.perf_counter() - begun
        figures["compiled ms"] = 1000 * setting.timed(step_of(adapted, inputs, 1))
    return figures


@torch.no_grad()
def encode(setting: Setting) -> Figures:
    """Images a second through an autoencoder of SD's size."""
    widths = (8, 8) if setting.is_tiny else (128, 256, 512, 512)
    vae = AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        layers_per_block=2,
        norm_num_groups=8 if setting.is_tiny else 32,
        latent_channels=4,
    ).to(setting.device, setting.dtype)
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

    figures: Figures = {"xformers": "installed" if find_spec("xformers") else "not installed"}
    for kernel in (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH):
        try:
            with sdpa_kernel(kernel):
                figures[f"{kernel.name} ms"] = 1000 * setting.timed(once)
        except RuntimeError as error:
            figures[f"{kernel.name} ms"] = str(error).splitlines()[0]
    return figures


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
