"""Stage 3: the UNet, trained on cached latents with v-prediction and classifier-free guidance."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from diffusers.training_utils import compute_snr
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from pocket.painted.album import Album, open_album
from pocket.trainings.autoencoder import to_pixels
from pocket.trainings.stage import (
    Box,
    Stage,
    bf16,
    device,
)
from pocket.trainings.text import tokens

EMPTY_PROMPT_SHARE = 0.1
SNR_GAMMA = 5.0


def build(text_width: int, *, latent_channels: int = 4) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=(64, 128, 192),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=(1, 2, 3),  # diffusers' name for the number of heads: 64 channels each
        cross_attention_dim=text_width,
        norm_num_groups=16,
        use_linear_projection=True,
    )


def noise_schedule() -> DDIMScheduler:
    """Stable Diffusion's schedule, for v-prediction. Latents are unbounded: never clip samples."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
    )


@torch.no_grad()
def cache_latents(album: Album, autoencoder: AutoencoderKL, path: Path, *, count: int) -> Tensor:
    """Latents of the first `count` images at unit variance, `(count, channels, h, w)` float16."""
    if not path.exists():
        on, scale = autoencoder.device, autoencoder.config.scaling_factor
        parts = []
        for start in range(0, count, 250):
            pixels = to_pixels(album.images[start : min(count, start + 250)]).to(on)
            with bf16(on):
                latents = autoencoder.encode(pixels).latent_dist.mode()
            parts.append((latents.float() * scale).half().cpu())
        torch.save(torch.cat(parts), path)
    return torch.load(path, weights_only=True)


class Captions:
    """Embeds captions through the frozen text tower: `(n, tokens, width)`."""

    def __init__(self, folder: Path, on: torch.device) -> None:
        self.tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self.tower = CLIPTextModel.from_pretrained(folder / "text_encoder").to(on).eval()

    @torch.no_grad()
    def embed(self, captions: list[str]) -> Tensor:
        batch = tokens(self.tokenizer, captions, full=True)
        with bf16(self.tower.device):
            ids = batch["input_ids"].to(self.tower.device)
            return self.tower(input_ids=ids).last_hidden_state


def denoising_losses(
    unet: UNet2DConditionModel,
    schedule: DDPMScheduler,
    latents: Tensor,
    embeddings: Tensor,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """v-prediction error at random timesteps, weighted by min-SNR (2303.09556, v form)."""
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    count = schedule.config.num_train_timesteps
    steps = torch.randint(count, (len(latents),), generator=generator).to(latents.device)
    noisy = schedule.add_noise(latents, noise, steps)
    with bf16(latents.device):
        predicted = unet(noisy, steps, embeddings, return_dict=False)[0].float()
    error = (predicted - schedule.get_velocity(latents, noise, steps)).square().mean((1, 2, 3))
    snr = compute_snr(schedule, steps)
    weight = snr.clamp(max=SNR_GAMMA) / (snr + 1)
    return {"loss": (weight * error).mean() / weight.mean(), "mse": error.detach().mean()}


def train(
    album: Album,
    folder: Path,
    *,
    minutes: float,
    batch: int = 64,
    latents_count: int = 60_000,
    latents_path: Path | None = None,
) -> UNet2DConditionModel:
    """Train on the album's first paintings and save the averaged UNet to `folder/unet`."""
    on = device()
    autoencoder = AutoencoderKL.from_pretrained(folder / "autoencoder").to(on)
    latents_path = latents_path or folder / "latents.pt"
    latents = cache_latents(album, autoencoder, latents_path, count=latents_count)
    captions = Captions(folder, on)
    torch.manual_seed(0)
    channels = autoencoder.config.latent_channels
    unet = build(captions.tower.config.hidden_size, latent_channels=channels)
    unet.to(on, memory_format=torch.channels_last)
    schedule = DDPMScheduler.from_config(noise_schedule().config)
    stage = Stage(folder / "unet-state", unet, Box(minutes, learning_rate=2e-3))

    def loss(step: int) -> dict[str, Tensor]:
        rank = stage.processes.process_index
        rng = np.random.default_rng((9, step, rank))
        rows = rng.integers(len(latents), size=batch)
        texts = [str(album.cards[row]["caption"]) for row in rows]
        texts = ["" if rng.random() < EMPTY_PROMPT_SHARE else text for text in texts]
        clean = latents[rows].float().to(on, memory_format=torch.channels_last)
        generator = torch.Generator().manual_seed(step + 1_000_000 * rank)
        return denoising_losses(unet, schedule, clean, captions.embed(texts), generator)

    averaged = stage.run(loss).to("cpu")
    if stage.processes.is_main_process:
        averaged.save_pretrained(folder / "unet")
    return averaged


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the pocket UNet.")
    parser.add_argument("--folder", type=Path, default=Path("runs/pocket"))
    parser.add_argument("--count", type=int, default=100_000, help="paintings in the album")
    parser.add_argument("--latents", type=int, default=60_000, help="how many of them to learn")
    parser.add_argument("--minutes", type=float, default=75)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    album = open_album(options.folder / "album", count=options.count)
    train(
        album,
        options.folder,
        minutes=options.minutes,
        batch=options.batch,
        latents_count=options.latents,
    )


if __name__ == "__main__":
    main()
