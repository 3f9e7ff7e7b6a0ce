"""What a denoiser predicts and how noise is added: diffusion or flow matching, pure functions.

An `Objective` is all that training and sampling need to know of it, so neither asks which one it
is. `objective_of` reads it from a base's scheduler.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from orthodiff.errors import UserError

PREDICTIONS = ("epsilon", "v_prediction", "sample")


class Objective(ABC):
    """How latents `(B, C, h, w)` are noised at timesteps `(B,)`, and what answers them right."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Objective:
        """The same on `device`."""

    @abstractmethod
    def draw_timestep(self, generator: torch.Generator) -> Tensor:
        """A random timestep for training, a scalar in the form that the denoiser is given."""

    @abstractmethod
    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Latents at the noise level of `timesteps`."""

    @abstractmethod
    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the denoiser should predict from `add_noise(latents, noise, timesteps)`."""

    @abstractmethod
    def snr(self, timesteps: Tensor) -> Tensor:
        """Signal-to-noise ratio `(B,)`: variance of the signal over that of the noise."""

    @abstractmethod
    def to_prediction_weights(self, weights: Tensor, timesteps: Tensor) -> Tensor:
        """Weights `(B,)` on the clean latent's squared error as weights on the prediction's.

        Infinite or not a number where no signal is left (`snr` 0).
        """

    def initial_noise_scale(self, scheduler: Any) -> Any:
        """The standard deviation of the noise that sampling with `scheduler` starts from."""
        return scheduler.init_noise_sigma

    def scale_input(self, scheduler: Any, noisy: Tensor, timestep: Tensor) -> Tensor:
        """The denoiser's input for `noisy` latents of `scheduler`."""
        return scheduler.scale_model_input(noisy, timestep)


@dataclass(frozen=True)
class Diffusion(Objective):
    """DDPM (arXiv:2006.11239): `noisy = sqrt(a) latent + sqrt(1 - a) noise`.

    `a` is `alphas_cumprod[t]`, `(T,)`. The `prediction` is the noise (`epsilon`), the velocity
    `sqrt(a) noise - sqrt(1 - a) latent` (`v_prediction`, arXiv:2202.00512), or the clean latent
    (`sample`).
    """

    alphas_cumprod: Tensor
    prediction: str = "epsilon"

    @classmethod
    def of(cls, scheduler: Any) -> Diffusion:
        """Read it from any diffusers scheduler with betas.

        Raises:
            UserError: the denoiser predicts something else than noise, velocity or latent.
        """
        from diffusers import DDPMScheduler

        config = scheduler.config
        prediction = config.get("prediction_type", "epsilon")
        if prediction not in PREDICTIONS:
            raise UserError(
                f"The base predicts `{prediction}`, which training does not know. Use a base that "
                f"predicts one of {', '.join(PREDICTIONS)}."
            )
        return cls(DDPMScheduler.from_config(config).alphas_cumprod, prediction)

    def to(self, device: torch.device | str) -> Diffusion:
        return Diffusion(self.alphas_cumprod.to(device), self.prediction)

    def draw_timestep(self, generator: torch.Generator) -> Tensor:
        """An integer, every one as likely."""
        return torch.randint(len(self.alphas_cumprod), (), generator=generator)

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        signal, spread = self._levels(timesteps)
        return signal * latents + spread * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "sample":
            return latents
        signal, spread = self._levels(timesteps)
        return signal * noise - spread * latents

    def snr(self, timesteps: Tensor) -> Tensor:
        alphas = self.alphas_cumprod[timesteps]
        return alphas / (1 - alphas)

    def to_prediction_weights(self, weights: Tensor, timesteps: Tensor) -> Tensor:
        # The latent's error is the noise's / snr, and the velocity's / (snr + 1).
        if self.prediction == "epsilon":
            return weights / self.snr(timesteps)
        if self.prediction == "v_prediction":
            return weights / (self.snr(timesteps) + 1)
        return weights

    def _levels(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        alphas = self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        return alphas.sqrt(), (1 - alphas).sqrt()


@dataclass(frozen=True)
class FlowMatching(Objective):
    """Rectified flow (arXiv:2403.03206): `noisy = (1 - s) latent + s noise`.

    The prediction is the velocity `noise - latent`, the timestep `num_timesteps * s` with `s` in
    [0, 1]. `shift` moves `s` towards noise, as larger images need:
    `shift s / (1 + (shift - 1) s)`.
    """

    shift: float = 1.0
    num_timesteps: int = 1000

    @classmethod
    def of(cls, scheduler: Any) -> FlowMatching:
        """Read it from diffusers' flow-matching schedulers.

        A shift that depends on the image's size (`use_dynamic_shifting`) is sampling's alone.
        """
        config = scheduler.config
        dynamic = config.get("use_dynamic_shifting", False)
        return cls(
            shift=1.0 if dynamic else float(config.get("shift") or 1.0),
            num_timesteps=int(config["num_train_timesteps"]),
        )

    def to(self, device: torch.device | str) -> FlowMatching:
        return self

    def draw_timestep(self, generator: torch.Generator) -> Tensor:
        """A real number: logit-normal with location 0 and scale 1, then shifted."""
        share = torch.randn((), generator=generator).sigmoid()
        return self.num_timesteps * self.shift * share / (1 + (self.shift - 1) * share)

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        share = self._share(timesteps).view(-1, 1, 1, 1)
        return (1 - share) * latents + share * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return noise - latents

    def snr(self, timesteps: Tensor) -> Tensor:
        share = self._share(timesteps)
        return ((1 - share) / share).square()

    def to_prediction_weights(self, weights: Tensor, timesteps: Tensor) -> Tensor:
        # latent = noisy - s velocity, so the latent's squared error is s^2 times the velocity's.
        return weights * self._share(timesteps).square()

    def initial_noise_scale(self, scheduler: Any) -> float:
        return 1.0

    def scale_input(self, scheduler: Any, noisy: Tensor, timestep: Tensor) -> Tensor:
        return noisy

    def _share(self, timesteps: Tensor) -> Tensor:
        return timesteps / self.num_timesteps


def objective_of(scheduler: Any) -> Objective:
    """The objective of the base that `scheduler` belongs to.

    Raises:
        UserError: it is none of those served.
    """
    name = type(scheduler).__name__
    if name.startswith("FlowMatch") or scheduler.config.get("use_flow_sigmas"):
        return FlowMatching.of(scheduler)
    if hasattr(scheduler, "betas"):
        return Diffusion.of(scheduler)
    raise UserError(
        f"The base's scheduler is a {name}, which is neither a diffusion with betas nor flow "
        "matching. Use a base with another scheduler, or override `objective` in its family."
    )
