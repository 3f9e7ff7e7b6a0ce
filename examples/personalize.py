"""Teach a model one subject in plain PyTorch and diffusers: `python examples/personalize.py`."""

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

import orthodiff

ASSETS = Path(__file__).parent.parent / "assets"


def main(output: Path = Path("runs/robot"), steps: int = 300) -> None:
    """Train HRA on five photos of a robot, save the adapter, and make an image with it."""
    pipe = StableDiffusionPipeline.from_pretrained(ASSETS / "pocket")
    adapter = orthodiff.attach(pipe.unet, orthodiff.HRA(rank=8), targets=orthodiff.ATTENTION)
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=3e-3)
    photos = [Image.open(path).convert("RGB") for path in (ASSETS / "subjects/robot").glob("*.png")]
    with torch.no_grad():
        pixels = pipe.image_processor.preprocess(photos)
        latents = pipe.vae.encode(pixels).latent_dist.mean * pipe.vae.config.scaling_factor
        text = pipe.encode_prompt("a photo of sks robot", "cpu", 1, False)[0]
    for _ in range(steps):
        noise, timesteps = torch.randn_like(latents), torch.randint(1000, (len(latents),))
        noisy = pipe.scheduler.add_noise(latents, noise, timesteps)
        target = pipe.scheduler.get_velocity(latents, noise, timesteps)  # SD 1.5 predicts noise
        prediction = pipe.unet(noisy, timesteps, text.expand(len(latents), -1, -1)).sample
        torch.nn.functional.mse_loss(prediction, target).backward()
        optimizer.step()
        optimizer.zero_grad()

    adapter.save(output)
    prompt = "a photo of sks robot on the beach"
    pipe(prompt, guidance_scale=4, num_inference_steps=25).images[0].save(output / "beach.png")


if __name__ == "__main__":
    main()
