"""Depth: white is near, black is far, as ControlNet's depth model and MiDaS have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from PIL import Image

from orthodiff.control.conditions.annotators import fingerprint, open_model
from orthodiff.control.conditions.base import Condition, refuse_blank, refuse_colour

FEW_LEVELS = 64
"""Depth in millimetres saved in 16 bits spans some 20 levels of 255 after loading."""


@dataclass(frozen=True)
class Depth(Condition):
    """`model` is a local folder or cached id of a transformers depth model, such as DPT.

    `metric` says that it gives distances, which grow, rather than nearness. Without a model,
    control images are given ready.
    """

    metric: bool = False
    model: str | None = None

    name: ClassVar[str] = "depth"
    task: ClassVar[str] = "DepthEstimation"

    def compute(self, image: Image.Image) -> Image.Image:
        levels = (self.measure(image) * 255).round().astype(np.uint8)
        return Image.fromarray(levels).convert("RGB")

    @torch.no_grad()
    def measure(self, image: Image.Image) -> np.ndarray:
        """Nearness `(H, W)`, stretched to [0, 1].

        Raises:
            UserError: there is no model.
        """
        processor, model = open_model(self.model, self.task, self.name)
        output = model(**processor(images=image.convert("RGB"), return_tensors="pt"))
        sizes = [image.size[::-1]]
        predicted = processor.post_process_depth_estimation(output, sizes)[0]["predicted_depth"]
        nearness = -predicted if self.metric else predicted
        return _stretched(nearness.numpy())

    def computed_by(self) -> str | None:
        return fingerprint(self.model, self.task, self.name) if self.model else None

    def decode(self, given: Image.Image) -> np.ndarray:
        """Nearness `(H, W)` of a control image, stretched to [0, 1] as `measure` does."""
        return _stretched(np.asarray(given.convert("L"), np.float32))

    def check(self, given: Image.Image) -> None:
        refuse_blank(given, self.name)
        refuse_colour(given, self.name)

    def remark(self, given: Image.Image) -> str | None:
        levels = np.asarray(given.convert("L"))
        low, high = int(levels.min()), int(levels.max())
        if high - low >= FEW_LEVELS:
            return None
        return (
            f"It spans only the levels {low} to {high} of 255. If it holds millimetres in 16 "
            "bits or metres in floats, scale it to the whole range first, white for near."
        )


def _stretched(nearness: np.ndarray) -> np.ndarray:
    low, high = nearness.min(), nearness.max()
    return (nearness - low) / max(high - low, 1e-12)  # all alike: zeros rather than nan
