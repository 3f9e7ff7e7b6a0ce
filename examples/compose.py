"""Combine, mix and weaken adapters exactly: `python examples/compose.py`."""

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

import orthodiff

POCKET = Path(__file__).parent.parent / "assets/pocket"


def main(output: Path = Path("runs/compose"), steps: int = 25) -> None:
    """Save an image with two adapters together, between them, and with half of one."""
    pipe = StableDiffusionPipeline.from_pretrained(POCKET)
    pair = []
    for _ in range(2):  # random ones; orthodiff.load(pipe.unet, FOLDER) opens trained ones
        pair.append(orthodiff.attach(pipe.unet, orthodiff.HRA(rank=8)))
        for parameter in pair[-1].parameters():
            torch.nn.init.normal_(parameter)
        pair[-1].strength = 0.02
        pair[-1].detach()  # a model holds one adapter at a time

    def draw(adapter: orthodiff.Adapter, name: str) -> None:
        seed = torch.Generator().manual_seed(0)
        images = pipe("a photo of a dog", num_inference_steps=steps, generator=seed).images
        output.mkdir(parents=True, exist_ok=True)
        images[0].save(output / f"{name}.png")
        adapter.detach()

    draw(orthodiff.compose(*pair), "both")  # W R_1 R_2: the order matters
    draw(orthodiff.interpolate(*pair, 0.5), "between")  # half way, orthogonal as all of them
    pair[0].strength = 0.01
    pair[0].attach()
    draw(pair[0], "half")


if __name__ == "__main__":
    main()
