"""Which samples a step sees: a pure function of (seed, step), so nothing needs remembering."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from orthodiff.families import Conditioning
from training.encode import Encoded
from training.objective import NoiseSchedule, derive, draw


@dataclass(frozen=True)
class Batch:
    """Clean `latents` and `noise` `(B, C, h, w)`, `timesteps` `(B,)`, and what steers them."""

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    conditioning: Conditioning


@dataclass(frozen=True)
class Stream:
    """An endless shuffled stream over `samples`; `name` keeps its chance apart from others'."""

    name: str
    samples: Encoded
    seed: int

    def batch(self, start: int, size: int, schedule: NoiseSchedule) -> Batch:
        """The `size` samples from position `start` on."""
        positions = range(start, start + size)
        device = self.samples.latents.device
        chance = draw(
            self.seed,
            positions,
            self.samples.latents.shape[2:],
            num_timesteps=len(schedule.alphas_cumprod),
            stream=self.name,
        ).to(device)
        indices = [self.index(position) for position in positions]
        latents, conditioning = self.samples.at(indices, chance.posterior)
        return Batch(latents, chance.noise, chance.timesteps, conditioning)

    def index(self, position: int) -> int:
        """The sample at `position`: every epoch sees each sample once, in its own order."""
        epoch, place = divmod(position, len(self.samples))
        return _order(self.seed, self.name, epoch, len(self.samples))[place]


@lru_cache(maxsize=16)
def _order(seed: int, name: str, epoch: int, count: int) -> list[int]:
    generator = torch.Generator().manual_seed(derive(seed, f"order {name}", epoch))
    return torch.randperm(count, generator=generator).tolist()


def join(first: Batch, second: Batch) -> Batch:
    """One batch after the other."""
    return Batch(
        torch.cat([first.latents, second.latents]),
        torch.cat([first.noise, second.noise]),
        torch.cat([first.timesteps, second.timesteps]),
        Conditioning.join([first.conditioning, second.conditioning]),
    )
