"""A whole training written again in float64, from its description: plain PyTorch and diffusers.

Nothing here is code of ours but where an adapter starts. It knows one photo of the subject, of the
size that is trained, and one of the class, so that which sample comes next is no question.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

SIDE, FACTOR = 32, 4
"""Pixels of a photo's side, and of a latent's one."""


@dataclass(frozen=True)
class Golden:
    """What the twin is told; the names are those of the flags."""

    steps: int = 4
    learning_rate: float = 1e-2
    prediction: str = "epsilon"
    method: str = "lora"
    regularization: float = 0.0
    snr_gamma: float | None = None
    prior_loss_weight: float | None = None
    mask: Image.Image | None = None
    unmasked_weight: float = 0.0
    max_grad_norm: float = 1.0
    train_batch_size: int = 1
    gradient_accumulation_steps: int = 1
    scale_lr: bool = False
    ema_decay: float | None = None
    lr_power: float | None = None
    lr_warmup_steps: int = 0
    noise_offset: float = 0.0
    adam_weight_decay: float = 0.0
    adam_epsilon: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    lora_dropout: float = 0.0
    text_encoder_lr: float | None = None
    processes: int = 1

    @property
    def samples(self) -> int:
        """How many of each stream a step sees."""
        return self.train_batch_size * self.gradient_accumulation_steps * self.processes


@dataclass
class Result:
    """The loss of each step, and the weights that are saved."""

    losses: list[float] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)


class Twin:
    """The base in float64, what it learns from, and the recipe."""

    def __init__(self, base: Path, golden: Golden) -> None:
        double = {"torch_dtype": torch.float64}
        self.golden = golden
        self.unet = UNet2DConditionModel.from_pretrained(base / "unet", **double)
        self.vae = AutoencoderKL.from_pretrained(base / "vae", **double)
        self.text = CLIPTextModel.from_pretrained(base / "text_encoder", dtype=torch.float64)
        self.tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        self.alphas = (1 - betas).cumprod(0)

    def prompt(self, text: str, start: Mapping[str, Tensor]) -> Tensor:
        """What the text encoder, with its adapter if there is one, makes of a prompt."""
        length = self.tokenizer.model_max_length
        ids = self.tokenizer(text, padding="max_length", max_length=length, return_tensors="pt")
        weights = adapted(dict(self.text.named_parameters()), part(start, "text_encoder"))
        return functional_call(self.text, weights, (ids["input_ids"],)).last_hidden_state

    @torch.no_grad()
    def latent(self, photo: Image.Image) -> tuple[Tensor, Tensor]:
        pixels = torch.from_numpy(np.asarray(photo).astype(np.float64)) / 127.5 - 1
        encoded = self.vae.encode(pixels.permute(2, 0, 1)[None]).latent_dist
        scale = self.vae.config.scaling_factor
        return encoded.mean * scale, encoded.std * scale

    def sample_loss(
        self, start: Mapping[str, Tensor], stream: str, photo: Image.Image, prompt: Tensor, at: int
    ) -> Tensor:
        """The weighted error of one sample, the one at place `at` of its stream."""
        golden, (mean, deviation) = self.golden, self.latent(photo)
        chance = torch.Generator().manual_seed(seed_of(stream, at))
        noise, posterior = (
            torch.randn(mean.shape[1:], generator=chance).double()[None] for _ in range(2)
        )
        t = torch.randint(1000, (), generator=chance)[None]
        if golden.noise_offset:
            shift = torch.randn((mean.shape[1], 1, 1), generator=chance).double()
            noise = noise + golden.noise_offset * shift
        latent, a = mean + deviation * posterior, self.alphas[t].view(-1, 1, 1, 1)
        noisy = a.sqrt() * latent + (1 - a).sqrt() * noise
        target = {
            "epsilon": noise,
            "v_prediction": a.sqrt() * noise - (1 - a).sqrt() * latent,
            "sample": latent,
        }[golden.prediction]
        weights = dict(self.unet.named_parameters())
        if not golden.lora_dropout:
            weights = adapted(weights, start)
        with dropping(self.unet, start, golden.lora_dropout):
            output = functional_call(
                self.unet, weights, (noisy, t), {"encoder_hidden_states": prompt}
            ).sample
        error = (output - target).square()
        if golden.mask is not None and stream == "subject":
            inside = torch.from_numpy(np.asarray(golden.mask).astype(np.float64)) / 255
            inside = torch.nn.functional.avg_pool2d(inside[None, None], FACTOR)
            share = (inside + (1 - inside) * golden.unmasked_weight).expand_as(error)
            return (error * share).sum() / share.sum() * self.weight(t, stream)
        return error.mean() * self.weight(t, stream)

    def weight(self, t: Tensor, stream: str) -> Tensor:
        """Of min-SNR (arXiv:2303.09556, section 3.4) times that of the class."""
        golden, a = self.golden, self.alphas[t]
        snr = a / (1 - a)
        weight = torch.ones_like(snr)
        if golden.snr_gamma is not None:
            least = torch.minimum(snr, torch.full_like(snr, golden.snr_gamma))
            by = {"epsilon": snr, "v_prediction": snr + 1, "sample": torch.ones_like(snr)}
            weight = least / by[golden.prediction]
        return weight * (golden.prior_loss_weight if stream == "class" else 1.0)

    def train(
        self,
        start: Mapping[str, Tensor],
        photos: Mapping[str, Image.Image],
        prompts: Mapping[str, str],
    ) -> Result:
        """All steps from the parameters `start`."""
        golden, result = self.golden, Result()
        values = {n: p.detach().double().requires_grad_(True) for n, p in start.items()}
        moments = {n: (torch.zeros_like(p), torch.zeros_like(p)) for n, p in values.items()}
        average = {n: p.detach().clone() for n, p in values.items()}
        share = golden.samples
        for step in range(1, golden.steps + 1):
            torch.manual_seed(seed_of("step", step))  # which inputs are dropped
            unet = part(values, "unet")
            read = {stream: self.prompt(text, values) for stream, text in prompts.items()}
            places = range((step - 1) * share, step * share)
            losses = [
                self.sample_loss(unet, stream, photo, read[stream], at)
                for stream, photo in photos.items()
                for at in places
            ]
            loss = sum(losses) / share + golden.regularization * overlap(values)
            gradients = torch.autograd.grad(loss, list(values.values()))
            norm = sum(g.square().sum() for g in gradients).sqrt()
            shrink = min(1.0, golden.max_grad_norm / (norm.item() + 1e-6))
            with torch.no_grad():
                for (name, p), g in zip(values.items(), gradients, strict=True):
                    rate = learning_rate(golden, step - 1, name) * (share if golden.scale_lr else 1)
                    adamw(p, g * shrink, moments[name], step, rate, golden)
                    decay = 0.0 if step == 1 else min(golden.ema_decay or 0, step / (9 + step))
                    average[name] = decay * average[name] + (1 - decay) * p
            result.losses.append(loss.item())
        result.weights = average if golden.ema_decay else {n: p.detach() for n, p in values.items()}
        return result


def part(values: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Those of one model, `NAME:...`, under their own names."""
    return {n.removeprefix(f"{name}:"): v for n, v in values.items() if n.startswith(f"{name}:")}


@contextmanager
def dropping(unet: nn.Module, start: Mapping[str, Tensor], share: float) -> Iterator[None]:
    """LoRA as a path of its own, `B A dropout(x)` beside each layer, which its inputs need."""
    hooks = []
    for name in [n.removesuffix(".lora_A.weight") for n in start if n.endswith(".lora_A.weight")]:
        matrices = start[f"{name}.lora_A.weight"], start[f"{name}.lora_B.weight"]

        def add(_: object, given: tuple[Tensor], output: Tensor, ab: Any = matrices) -> Tensor:
            return output + functional.dropout(given[0], share) @ ab[0].T @ ab[1].T

        if share:
            hooks.append(unet.get_submodule(name).register_forward_hook(add))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def seed_of(purpose: str, number: int) -> int:
    """63 bits of a hash: what chance at one place of a stream starts from."""
    digest = hashlib.blake2b(f"0/{purpose}/{number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def adapted(weights: dict[str, Tensor], values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The base's weights with those of the adapted layers."""
    for name, value in values.items():
        if name.endswith(".hra_u"):
            layer = name.removesuffix(".hra_u")
            weights[f"{layer}.weight"] = weights[f"{layer}.weight"] @ reflections(value)
        elif name.endswith(".lora_A.weight"):
            layer = name.removesuffix(".lora_A.weight")
            change = values[f"{layer}.lora_B.weight"] @ value
            weights[f"{layer}.weight"] = weights[f"{layer}.weight"] + change
    return weights


def reflections(columns: Tensor) -> Tensor:
    """H_1 H_2 ... of arXiv:2405.17484, each H = I - 2 u u^T for a unit vector."""
    product = torch.eye(len(columns), dtype=columns.dtype)
    for u in columns.T:
        unit = u / u.norm()
        product = product - 2 * torch.outer(product @ unit, unit)
    return product


def overlap(values: Mapping[str, Tensor]) -> Tensor:
    """The regularizer of arXiv:2405.17484, equation 6: unit vectors that are not orthogonal."""
    total = torch.zeros((), dtype=torch.float64)
    for name, value in values.items():
        if name.endswith("hra_u"):
            units = value / value.norm(dim=0)
            identity = torch.eye(value.shape[1], dtype=value.dtype)
            total = total + (identity - units.T @ units).square().sum()
    return total


def learning_rate(golden: Golden, done: int, name: str) -> float:
    """Of a parameter after so many steps: constant, or polynomial down to 1e-7."""
    peak, warm = golden.learning_rate, golden.lr_warmup_steps
    if name.startswith("text_encoder:"):
        peak = golden.text_encoder_lr or peak
    if golden.lr_power is None:
        return peak
    if done < warm:
        return peak * done / warm
    left = 1 - (done - warm) / (golden.steps - warm)
    return (peak - 1e-7) * left**golden.lr_power + 1e-7


def adamw(
    p: Tensor, g: Tensor, moments: Sequence[Tensor], step: int, rate: float, golden: Golden
) -> None:
    """One step of AdamW (arXiv:1711.05101), in place."""
    (m, v), (b1, b2) = moments, golden.betas
    m.mul_(b1).add_(g, alpha=1 - b1)
    v.mul_(b2).add_(g * g, alpha=1 - b2)
    p.mul_(1 - rate * golden.adam_weight_decay)
    p.sub_(rate * (m / (1 - b1**step)) / ((v / (1 - b2**step)).sqrt() + golden.adam_epsilon))
