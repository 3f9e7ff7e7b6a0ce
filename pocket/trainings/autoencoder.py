"""Stage 1: the autoencoder, a small `AutoencoderKL` with four latent channels, factor four."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from pocket.painted.album import TEST_SEED, Album, open_album
from pocket.painted.world import paint
from pocket.trainings.stage import (
    Box,
    Stage,
    bf16,
    device,
)

KL_WEIGHT = 3e-5
GRADIENT_WEIGHT = 0.5


def build(
    channels: tuple[int, ...] = (32, 48, 96), *, latent_channels: int = 4, side: int = 64
) -> AutoencoderKL:
    """An autoencoder that halves the side between its blocks, for images of `side` pixels."""
    return AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=side,
    )


def to_pixels(images: np.ndarray) -> Tensor:
    """`(n, h, w, 3)` uint8 -> `(n, 3, h, w)` float in [-1, 1]."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def image_gradient(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Differences to the right and to the bottom neighbour."""
    return pixels[..., :, 1:] - pixels[..., :, :-1], pixels[..., 1:, :] - pixels[..., :-1, :]


def reconstruction_losses(model: AutoencoderKL, pixels: Tensor) -> dict[str, Tensor]:
    """L1 on pixels and on their gradients (edges stay sharp), and a light pull to N(0, I)."""
    posterior = model.encode(pixels).latent_dist
    losses = image_losses(model.decode(posterior.sample()).sample.float(), pixels)
    kl = posterior.kl().float().mean() / posterior.mean[0].numel()
    return {"loss": losses["loss"] + KL_WEIGHT * kl, "l1": losses["l1"], "kl": kl.detach()}


def image_losses(restored: Tensor, pixels: Tensor) -> dict[str, Tensor]:
    """L1 on pixels and on their gradients."""
    l1 = F.l1_loss(restored, pixels)
    pairs = zip(image_gradient(restored), image_gradient(pixels), strict=True)
    edges = sum(F.l1_loss(a, b) for a, b in pairs)
    return {"loss": l1 + GRADIENT_WEIGHT * edges, "l1": l1.detach()}


@torch.no_grad()
def psnr(model: AutoencoderKL, images: np.ndarray) -> float:
    """Mean peak signal-to-noise ratio in dB of reconstructed images, `(n, h, w, 3)` uint8."""
    pixels = to_pixels(images)
    restored = model.decode(model.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)
    error = ((restored - pixels) / 2).square().mean((1, 2, 3))
    return float((-10 * error.log10()).mean())


@torch.no_grad()
def set_scaling(model: AutoencoderKL, images: np.ndarray) -> None:
    """Store the factor that brings latents to unit variance, as Stable Diffusion does."""
    latents = model.encode(to_pixels(images)).latent_dist.mode()
    model.register_to_config(scaling_factor=round(1 / float(latents.std()), 5))


def train(
    album: Album,
    folder: Path,
    *,
    minutes: float,
    batch: int = 16,
    model: AutoencoderKL | None = None,
    fresh: Callable[[], np.ndarray] | None = None,
) -> AutoencoderKL:
    """Train on an album and save to `folder/autoencoder`; prints the PSNR on `fresh` images.

    By default the model is the painted world's, and so are the fresh images, which are made when
    the training is over.
    """
    on = device()
    model = (model or build()).to(on, memory_format=torch.channels_last)
    stage = Stage(folder / "autoencoder-state", model, Box(minutes, learning_rate=1.5e-3))

    def loss(step: int) -> dict[str, Tensor]:
        rows = np.random.default_rng((3, step)).integers(len(album), size=batch)
        pixels = to_pixels(album.images[np.sort(rows)]).to(on, memory_format=torch.channels_last)
        torch.manual_seed(step)
        with bf16(on):
            return reconstruction_losses(model, pixels)

    averaged = stage.run(loss).to("cpu")
    images = (fresh or _fresh_paintings)()
    set_scaling(averaged, images)
    averaged.save_pretrained(folder / "autoencoder")
    print(f"autoencoder: held-out PSNR {psnr(averaged, images):.2f} dB", flush=True)
    return averaged


def _fresh_paintings() -> np.ndarray:
    return np.stack([paint(TEST_SEED, k).image for k in range(256)])


def refine_decoder(album: Album, folder: Path, *, minutes: float, batch: int = 16) -> float:
    """Train the decoder alone on cached latents (a UNet trained on them stays valid); the PSNR."""
    on = device()
    model = AutoencoderKL.from_pretrained(folder / "autoencoder")
    model.to(on, memory_format=torch.channels_last)
    latents = torch.load(folder / "latents.pt", weights_only=True)
    unscale = 1 / model.config.scaling_factor
    decoder = nn.ModuleList([model.post_quant_conv, model.decoder])
    stage = Stage(folder / "decoder-state", decoder, Box(minutes, learning_rate=1e-3))

    def loss(step: int) -> dict[str, Tensor]:
        rows = np.sort(np.random.default_rng((4, step)).integers(len(latents), size=batch))
        pixels = to_pixels(album.images[rows]).to(on, memory_format=torch.channels_last)
        clean = latents[rows].float().to(on, memory_format=torch.channels_last) * unscale
        with bf16(on):
            return image_losses(model.decode(clean).sample.float(), pixels)

    decoder.load_state_dict(stage.run(loss).state_dict())
    model.to("cpu").save_pretrained(folder / "autoencoder")
    return psnr(model, _fresh_paintings())


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the pocket autoencoder.")
    parser.add_argument("--folder", type=Path, default=Path("runs/pocket"))
    parser.add_argument("--count", type=int, default=100_000, help="paintings in the album")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--decoder-only", action="store_true", help="refine the decoder alone")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    album = open_album(options.folder / "album", count=options.count)
    if options.decoder_only:
        score = refine_decoder(album, options.folder, minutes=options.minutes)
        print(f"refined decoder: held-out PSNR {score:.2f} dB")
        return
    train(album, options.folder, minutes=options.minutes)


if __name__ == "__main__":
    main()
