"""Pictures that carry how they were made, in PNG text chunks."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo


@dataclass(frozen=True)
class Recipe:
    """Everything needed to make one picture again; `adapter` is empty for the base alone."""

    prompt: str
    negative_prompt: str
    seed: int
    num_inference_steps: int
    guidance_scale: float
    width: int
    height: int
    scheduler: str
    base: str
    adapter: str = ""
    method: str = ""
    strength: float = 1.0
    merged: bool = False
    condition: str = ""
    condition_from: str = ""
    condition_model: str = ""
    condition_type: str = ""
    condition_setting: str = ""
    control_strength: float = 1.0
    control_start: float = 0.0
    control_end: float = 1.0

    @property
    def _adapter_names(self) -> str:
        return " + ".join(Path(folder).name for folder in self.adapter.split(" + "))

    def as_parameters(self) -> str:
        """The text that AUTOMATIC1111's web UI writes, which other tools read."""
        lines = [self.prompt]
        if self.negative_prompt:
            lines.append(f"Negative prompt: {self.negative_prompt}")
        details = {
            "Steps": self.num_inference_steps,
            "Sampler": self.scheduler.removesuffix("Scheduler"),
            "CFG scale": self.guidance_scale,
            "Seed": self.seed,
            "Size": f"{self.width}x{self.height}",
            "Model": Path(self.base).name,
        }
        if self.adapter:
            details["Adapter"] = (
                f"{self._adapter_names} ({self.method}, strength {self.strength:g})"
            )
        if given := self.condition or self.condition_from:
            details["Control"] = (
                f"{Path(given).name} ({self.condition_type}, strength "
                f"{self.control_strength:g}, steps {self.control_start:g} to {self.control_end:g})"
            )
        return "\n".join([*lines, ", ".join(f"{name}: {value}" for name, value in details.items())])


def save_png(picture: Image.Image, path: Path, recipe: Recipe) -> Path:
    """Write `picture` with its recipe under the keys `orthodiff` (JSON) and `parameters` (text)."""
    text = PngInfo()
    text.add_itxt("orthodiff", json.dumps(dataclasses.asdict(recipe), ensure_ascii=False))
    text.add_itxt("parameters", recipe.as_parameters())
    picture.save(path, pnginfo=text)
    return path


def read_recipe(path: Path) -> Recipe | None:
    """The recipe inside a PNG, or None where there is none."""
    with Image.open(path) as picture:
        text = getattr(picture, "text", {}).get("orthodiff")
    return Recipe(**json.loads(text)) if text else None
