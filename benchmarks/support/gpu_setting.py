"""Where the checks of `benchmarks.gpu` run, and the denoisers that they run on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from benchmarks import launches

ROWS = ("frozen base", "PEFT LoRA r8", "LoRA r8", "HRA r8", "OFT b32", "BOFT b8 m4")


@dataclass(frozen=True)
class Setting:
    """Where and how large: `is_tiny` tries the script in seconds, on a CPU too."""

    device: str
    is_tiny: bool

    @property
    def dtype(self) -> torch.dtype:
        if self.device != "cuda":
            return torch.float32
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bf16 else torch.float16

    @contextmanager
    def new_weights(self) -> Iterator[None]:
        """Within, models are made where they run: on a CPU, SDXL's weights take a minute."""
        default = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        try:
            with torch.device(self.device):
                yield
        finally:
            torch.set_default_dtype(default)

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


def unet(setting: Setting, topology: str) -> tuple[UNet2DConditionModel, dict[str, Tensor]]:
    """A denoiser with random weights and one sample of its inputs."""
    with setting.new_weights():
        return _unet(setting, topology)


def _unet(setting: Setting, topology: str) -> tuple[UNet2DConditionModel, dict[str, Tensor]]:
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
    inputs = {"latents": torch.randn(1, 4, side, side), "text": torch.randn(1, tokens, width)}
    inputs |= {"text_embeds": torch.randn(1, pooled), "time_ids": torch.ones(1, 6)}
    return model.train(), inputs


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
