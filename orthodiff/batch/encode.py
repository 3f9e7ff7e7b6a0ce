"""Images to the bytes of a file, with how they were made inside or beside."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from PIL import Image

from orthodiff.io.png_metadata import ImageRecipe, exif_of, png_bytes

Format = Literal["png", "webp", "jpeg"]
Metadata = Literal["embed", "sidecar", "none"]
ENDINGS: dict[str, str] = {"png": ".png", "webp": ".webp", "jpeg": ".jpg"}


@dataclass(frozen=True)
class Made:
    """An image as it leaves the model; `extras` by what is added to the file's stem."""

    id: str
    image: Image.Image
    recipe: ImageRecipe
    seconds: float
    extras: Mapping[str, Image.Image] = field(default_factory=dict)


@dataclass(frozen=True)
class Missed:
    """An image that could not be made, and why, in one sentence."""

    id: str
    sentence: str


@dataclass(frozen=True)
class EncodedImage:
    """An image's files by what follows its name, the image first; `facts` go into the manifest."""

    id: str
    files: Mapping[str, bytes]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Encoder:
    """How images are written: PNG and WebP without loss, JPEG at quality 95."""

    format: Format = "png"
    metadata: Metadata = "embed"

    @property
    def ending(self) -> str:
        return ENDINGS[self.format]

    def encode(self, made: Made) -> EncodedImage:
        """The files of an image."""
        recipe = made.recipe if self.metadata == "embed" else None
        files = {self.ending: self._bytes(made.image, recipe)}
        if self.metadata == "sidecar":
            text = json.dumps(asdict(made.recipe), indent=2, ensure_ascii=False)
            files[".json"] = f"{text}\n".encode("utf-8", "backslashreplace")
        for suffix, image in made.extras.items():
            files[f"{suffix}.png"] = png_bytes(image)
        return EncodedImage(made.id, files, {"seconds": round(made.seconds, 4)})

    def _bytes(self, image: Image.Image, recipe: ImageRecipe | None) -> bytes:
        if self.format == "png":
            return png_bytes(image, recipe)
        options: dict[str, Any] = {"exif": exif_of(recipe)} if recipe else {}
        options |= {"lossless": True} if self.format == "webp" else {"quality": 95}
        buffer = io.BytesIO()
        image.save(buffer, self.format, **options)
        return buffer.getvalue()
