"""ControlNet of diffusers (arXiv:2302.05543), a trained copy of the encoder, to compare hints with.

    python -m benchmarks.controlnet --config configs/pocket/canny-hra.yaml --method none ...

trains one by the project's own loop: the same data, batches, noise, optimizer and steps. With
`--our_start` the convolutions that read its control image start as those of our hint encoder do.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
from PIL import Image
from torch import Tensor, nn

from orthodiff.components.adapter_set import AdapterSet
from orthodiff.components.registry import COMPONENTS, ComponentType
from orthodiff.control.encoder import channels_for, init_from_data
from orthodiff.models import Base
from orthodiff.training.latents.sampler import Batch
from orthodiff.training.tasks import ControlTask
from orthodiff.training.tasks.control import ControlConfig

NAME = "controlnet"
OUR_START = "--our_start"


class Rival:
    """A ControlNet as a part of a bundle."""

    def __init__(self, net: Any) -> None:
        self.net = net

    def parameters(self) -> list[nn.Parameter]:
        return list(self.net.parameters())

    def state_dict(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self.net.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.net.load_state_dict(state)

    def save(self, folder: Path, *, base: str | None, metadata: Mapping[str, str] | None) -> None:
        self.net.save_pretrained(folder)

    def detach(self) -> None:
        """Nothing is attached: residuals are handed to the UNet call by call."""


class RivalTask(ControlTask):
    """The control task with a ControlNet in the place of hint encoder and adapter."""

    name = NAME

    def __init__(self, *, our_start: bool) -> None:
        self.our_start = our_start

    def attach(self, config: ControlConfig, base: Base) -> AdapterSet:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            net = ControlNetModel.from_unet(
                base.unet, conditioning_embedding_out_channels=channels_for(base.factor)
            )
        return AdapterSet(base, {NAME: Rival(net.requires_grad_(True).train())})

    def init_from_data(self, adapter_set: AdapterSet, first_seen: Callable[[], Batch]) -> None:
        part, control_images = adapter_set.components[NAME], first_seen().control_image
        assert isinstance(part, Rival)
        assert control_images is not None
        if self.our_start:
            init_from_data(part.net.controlnet_cond_embedding, control_images)

    def predict(self, base: Base, adapter_set: AdapterSet, noisy: Tensor, batch: Batch) -> Tensor:
        part, hidden = adapter_set.components[NAME], batch.prompt_embeds.hidden
        assert isinstance(part, Rival)
        down, middle = part.net(
            noisy, batch.timesteps, hidden, controlnet_cond=batch.control_image, return_dict=False
        )
        output = base.unet(
            noisy,
            batch.timesteps,
            hidden,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        )
        return output.sample


def paint(
    base: Base,
    folder: Path,
    prompts: Sequence[str],
    control_images: Sequence[Image.Image],
    *,
    batch_size: int = 20,
) -> list[Image.Image]:
    """An image per prompt and control image by diffusers' own pipeline; its seed is its place."""
    advice, text = base.recommended, base.texts[0]
    pipeline = StableDiffusionControlNetPipeline(
        vae=base.vae,
        text_encoder=text.model,
        tokenizer=text.tokenizer,
        unet=base.unet,
        controlnet=ControlNetModel.from_pretrained(folder / NAME, use_safetensors=True),
        scheduler=type(base.scheduler).from_config(base.scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    images: list[Image.Image] = []
    for start in range(0, len(prompts), batch_size):
        part = slice(start, start + batch_size)
        seeds = range(len(prompts))[part]
        images += pipeline(
            list(prompts[part]),
            image=list(control_images[part]),
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            guidance_scale=advice.guidance_scale,
            num_inference_steps=advice.num_inference_steps,
        ).images
    return images


def _load(_base: Base, folder: Path) -> Rival:
    return Rival(ControlNetModel.from_pretrained(folder, use_safetensors=True))


def _describe(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "config.json").read_text("utf-8")))


def main(arguments: Sequence[str] | None = None) -> int:
    """Train a ControlNet; the exit code."""
    from orthodiff.training.cli.main import run_task
    from orthodiff.training.events.signals import StopSignal

    if NAME not in COMPONENTS:  # where several are trained in one process
        COMPONENTS.register(NAME, ComponentType(NAME, "config.json", _load, _describe))
    words = list(sys.argv[1:] if arguments is None else arguments)
    task = RivalTask(our_start=OUR_START in words)
    with StopSignal() as stop:
        return run_task(task, [word for word in words if word != OUR_START], stop)


if __name__ == "__main__":
    sys.exit(main())
