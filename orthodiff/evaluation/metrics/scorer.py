"""A CLIP model that turns images and sentences into comparable directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from orthodiff.errors import UNUSABLE, UserError
from orthodiff.io import hub

_BATCH = 32


@dataclass(frozen=True)
class Scorer:
    """A loaded CLIP; `name` is printed beside every score it gives."""

    name: str
    model: Any
    processor: Any
    tokenizer: Any

    @torch.no_grad()
    def embed_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Unit vectors `(N, width)` of images."""
        directions = []
        for start in range(0, len(images), _BATCH):
            batch = [image.convert("RGB") for image in images[start : start + _BATCH]]
            pixels = self.processor(images=batch, return_tensors="pt").pixel_values
            seen = self.model.vision_model(pixel_values=pixels.to(self.model.device))
            directions.append(self.model.visual_projection(seen.pooler_output))
        return _unit(torch.cat(directions))

    @torch.no_grad()
    def embed_texts(self, sentences: Sequence[str]) -> Tensor:
        """Unit vectors `(N, width)` of sentences; what is too long is cut."""
        tokens = self.tokenizer(
            list(sentences), padding="max_length", truncation=True, return_tensors="pt"
        ).to(self.model.device)
        read = self.model.text_model(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
        )
        return _unit(self.model.text_projection(read.pooler_output))


def load_scorer(name: str | Path, *, device: str | torch.device = "cpu") -> Scorer:
    """Load a CLIP from a folder (or hub id) with its image processor and tokenizer.

    Raises:
        UserError: there is no such CLIP.
    """
    from transformers import AutoConfig, AutoImageProcessor, CLIPConfig, CLIPModel, CLIPTokenizer

    why = hub.trouble(name)
    offline = why is not None
    try:
        if not isinstance(AutoConfig.from_pretrained(name, local_files_only=offline), CLIPConfig):
            raise ValueError("it is of another kind")
        model: Any = CLIPModel.from_pretrained(
            name, dtype=torch.float32, use_safetensors=True, local_files_only=offline
        )
        processor = AutoImageProcessor.from_pretrained(name, local_files_only=offline)
        tokenizer = CLIPTokenizer.from_pretrained(name, local_files_only=offline)
    except UNUSABLE as error:
        reason = f": it is not here, and {why}" if why else ""
        raise UserError(
            f"The scorer `{name}` cannot be loaded{reason}. Give a folder with a transformers "
            "CLIPModel, its image processor and its tokenizer."
        ) from error
    return Scorer(f"CLIP {name}", model.to(device).eval(), processor, tokenizer)


def default_scorer(base_folder: Path) -> Path | None:
    """The scorer that a base model brings along in `scorer/`, if it does."""
    folder = base_folder / "scorer"
    return folder if (folder / "config.json").is_file() else None


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors.float(), dim=-1)
