"""Images that carry how they were made: in text chunks of PNG, in EXIF of JPEG and WebP."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo


@dataclass(frozen=True)
class ImageRecipe:
    """Everything needed to make one image again; `adapter` is empty for the base alone."""

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

    sampler: str = ""
    init_image: str = ""
    mask: str = ""
    denoise: float | None = None
    id: str = ""
    base_sha256: str = ""
    adapter_sha256: str = ""
    dtype: str = ""
    device: str = ""
    threads: int = 0
    batch_size: int = 1
    batch_position: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)

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
            "Sampler": self.sampler or self.scheduler.removesuffix("Scheduler"),
            "CFG scale": self.guidance_scale,
            "Seed": self.seed,
            "Size": f"{self.width}x{self.height}",
            "Model": Path(self.base).name,
        }
        if self.base_sha256:
            details["Model hash"] = self.base_sha256[:10]
        if self.denoise is not None:
            details["Denoising strength"] = self.denoise
        if self.adapter:
            details["Adapter"] = (
                f"{self._adapter_names} ({self.method}, strength {self.strength:g})"
            )
        if given := self.condition or self.condition_from:
            details["Control"] = (
                f"{Path(given).name} ({self.condition_type}, strength "
                f"{self.control_strength:g}, steps {self.control_start:g} to {self.control_end:g})"
            )
        settings = ", ".join(f"{name}: {_quoted(value)}" for name, value in details.items())
        return "\n".join([*lines, settings])

    def shared(self) -> ImageRecipe:
        """The recipe as others may see it: of absolute paths the last name alone."""
        names: dict[str, Any] = {
            name: " + ".join(map(_shareable, getattr(self, name).split(" + "))) for name in PATHS
        }
        return replace(self, **names)


PATHS = (
    "base", "adapter", "condition", "condition_from", "condition_model", "init_image", "mask",
)  # fmt: skip
"""Fields that may hold paths."""


def _shareable(path: str) -> str:
    return Path(path).name if Path(path).is_absolute() else path


def _quoted(value: Any) -> str:
    """As the web UI writes values: quoted where a comma, colon or line end would end them."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if set(text) & set(',:\n"') else text


def png_text(recipe: ImageRecipe) -> PngInfo:
    """The chunks of a PNG: the recipe under `orthodiff` (JSON) and `parameters` (text)."""
    text = PngInfo()
    shared = recipe.shared()
    text.add_itxt("orthodiff", json.dumps(dataclasses.asdict(shared), ensure_ascii=False))
    text.add_itxt("parameters", shared.as_parameters())
    return text


def png_bytes(image: Image.Image, recipe: ImageRecipe | None = None) -> bytes:
    """A PNG file's content."""
    buffer = io.BytesIO()
    image.save(buffer, "png", pnginfo=png_text(recipe) if recipe else None)
    return buffer.getvalue()


def exif_of(recipe: ImageRecipe) -> bytes:
    """The same for JPEG and WebP: JSON as `ImageDescription`, the text as `UserComment`."""
    exif, shared = Image.Exif(), recipe.shared()
    exif[ExifTags.Base.ImageDescription] = json.dumps(dataclasses.asdict(shared))
    comment = b"UNICODE\0" + shared.as_parameters().encode("utf-16-be", "replace")
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    return exif.tobytes()


def save_png(image: Image.Image, path: Path, recipe: ImageRecipe) -> Path:
    """Write `image` with its recipe as `png_text` has it."""
    image.save(path, pnginfo=png_text(recipe))
    return path


def read_recipe(path: Path) -> ImageRecipe | None:
    """The recipe inside an image file or in `NAME.json` beside it, or None where there is none."""
    with Image.open(path) as image:
        text = getattr(image, "text", {}).get("orthodiff")
        text = text or image.getexif().get(ExifTags.Base.ImageDescription)
    beside = path.with_suffix(".json")
    if not text and beside.is_file():
        text = beside.read_text("utf-8")
    try:
        given = json.loads(text) if text else None
        known = {field.name for field in dataclasses.fields(ImageRecipe)}
        return ImageRecipe(**{k: v for k, v in given.items() if k in known}) if given else None
    except (ValueError, TypeError, AttributeError):
        return None
