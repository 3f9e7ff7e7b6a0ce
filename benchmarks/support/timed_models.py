"""What adapters are timed on: a UNet of Stable Diffusion 1.5's size, or some of its attention."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

BLOCKS = ((320, 1), (640, 2), (1280, 4), (1280, 8))
"""Widths and downsampling of Stable Diffusion 1.5's transformer blocks."""
TEXT = (77, 768)
"""Tokens and width of a prompt."""


@dataclass
class Workload:
    """A frozen model whose copies share its weights, and the loss of one training step."""

    name: str
    device: str
    base: nn.Module
    build: Callable[[], nn.Module]
    inputs: tuple[Tensor, ...]

    def copy(self) -> nn.Module:
        """Return another model on the same weights."""
        with torch.device("meta"):
            model = self.build()
        model.load_state_dict(self.base.state_dict(), assign=True)
        return model.train()

    def loss(self, model: nn.Module, *, floor: bool) -> Tensor:
        """Return a scalar; for the floor the input asks for a gradient instead of parameters."""
        first = self.inputs[0].detach().requires_grad_(floor or self.inputs[0].requires_grad)
        output = model(first, *self.inputs[1:])
        return getattr(output, "sample", output).float().square().mean()


def sd15_unet(device: str, *, batch: int, checkpointing: bool) -> Workload:
    """Return the whole UNet: 32x32 latents in float32 on a CPU, 64x64 in bfloat16 on a GPU."""
    from diffusers import UNet2DConditionModel

    def build() -> nn.Module:
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
        if checkpointing:
            unet.enable_gradient_checkpointing()
        return unet

    dtype, side = (torch.bfloat16, 64) if device == "cuda" else (torch.float32, 32)
    latents = torch.randn(batch, 4, side, side, device=device, dtype=dtype)
    text = torch.randn(batch, *TEXT, device=device, dtype=dtype)
    base = build().to(device, dtype)
    timestep = torch.tensor(500, device=device)
    return Workload(device_name(device), device, base, build, (latents, timestep, text))


def sd15_autoencoder(workload: Workload) -> nn.Module:
    """Return Stable Diffusion's autoencoder with random weights, where `workload` is."""
    from diffusers import AutoencoderKL

    first = workload.inputs[0]
    sides = (128, 256, 512, 512)
    return AutoencoderKL(
        block_out_channels=sides,
        down_block_types=("DownEncoderBlock2D",) * len(sides),
        up_block_types=("UpDecoderBlock2D",) * len(sides),
        layers_per_block=2,
    ).to(first.device, first.dtype)


def image_maker(
    workload: Workload, unet: nn.Module, autoencoder: nn.Module, *, steps: int = 2
) -> Callable[[], object]:
    """Return what makes one image by diffusers' pipeline, guided, from encoded text.

    Its latents have the size of the workload's.
    """
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        vae=autoencoder.eval(),
        text_encoder=None,
        tokenizer=None,
        unet=unet.eval(),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    latents, _, text = workload.inputs
    side = latents.shape[-1] * pipeline.vae_scale_factor
    return lambda: pipeline(
        prompt_embeds=text[:1],
        negative_prompt_embeds=0 * text[:1],
        latents=latents[:1],
        height=side,
        width=side,
        num_inference_steps=steps,
    )


def attention_stack(device: str, *, batch: int, checkpointing: bool) -> Workload:
    """Return the attention projections alone, for 32x32 latents, without softmax.

    As inside of a UNet, the rows ask for a gradient and the text does not.
    """
    base = Stack().to(device)
    rows = [torch.randn(batch, (32 // down) ** 2, width, device=device) for width, down in BLOCKS]
    text = torch.randn(batch, *TEXT, device=device)
    return Workload(device_name(device), device, base, Stack, (*rows, text))


def device_name(device: str) -> str:
    """Return the GPU's name, or the number of CPU threads."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"


def machine(workload: Workload) -> dict[str, str]:
    """Return what figures are taken on."""
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    return {"device": workload.name, **versions}


def synchronize(device: str) -> None:
    """Wait for a GPU."""
    if device == "cuda":
        torch.cuda.synchronize()


class Projections(nn.Module):
    """The four projections of one attention, joined by additions."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context, width, bias=False)
        self.to_v = nn.Linear(context, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Return rows (batch, tokens, width)."""
        seen = (self.to_k(context) + self.to_v(context)).mean(dim=1, keepdim=True)
        return x + self.to_out[0](self.to_q(x) + seen)


class Stack(nn.Module):
    """The self- and cross-attention projections of one transformer block of every width."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleList(Projections(width, context) for context in (width, TEXT[1]))
            for width, _ in BLOCKS
        )

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return one number for rows of every width, then text."""
        *rows, text = inputs
        total = text.new_zeros(())
        for x, layers in zip(rows, self.blocks, strict=True):
            for layer in layers:
                x = layer(x, text if layer.to_k.in_features == TEXT[1] else x)
            total = total + x.square().mean()
        return total
