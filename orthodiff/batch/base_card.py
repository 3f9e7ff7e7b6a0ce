"""What is known of a base model without holding it: enough to check rows and to name them."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from orthodiff.models import Base
from orthodiff.sampling.request import Limits
from orthodiff.schedulers import sampler_title

PACKAGES = ("orthodiff", "torch", "diffusers", "transformers")


@dataclass(frozen=True)
class BaseCard:
    """A loaded base as a worker describes it; `sha256` are those of its weights, part by part."""

    name: str
    family: str
    sha256: dict[str, str]
    limits: Limits
    sampler: str
    dtype: str
    device: str
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, base: Base) -> BaseCard:
        """Describe a loaded base."""
        parts = [base.denoiser_folder, "vae", *(text.name for text in base.texts)]
        return cls(
            name=base.name,
            family=base.family,
            sha256={part: base.fingerprint(part) for part in parts},
            limits=Limits.of(base),
            sampler=sampler_title(None, base.scheduler),
            dtype=str(base.dtype).removeprefix("torch."),
            device=device_name(base.device),
            versions=image_versions(),
        )

    def written(self) -> dict[str, Any]:
        """For the manifest, as JSON."""
        return asdict(self)


def device_name(device: torch.device) -> str:
    """`cpu`, or the model of a GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def image_versions() -> dict[str, str]:
    """The versions of what images depend on."""
    known = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            known[name] = version(name)
        except PackageNotFoundError:
            known[name] = "not installed"
    return known
