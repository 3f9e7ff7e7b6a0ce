"""Named sets of scorers, as papers and tables use them.

A score can be compared with a published one only if the scorer is the same. So a scorer that cannot
be loaded is named with the reason and left out; another one never takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from orthodiff.errors import UNUSABLE, UserError, first_line, nearest
from orthodiff.evaluation.metrics import efficientnet
from orthodiff.evaluation.metrics.scorer import load_scorer
from orthodiff.io import hub
from orthodiff.io.assets import assets

BATCH = 32


class ImageScorer(Protocol):
    """Turns images into comparable directions; `name` stands beside every score it gives."""

    @property
    def name(self) -> str: ...

    def embed_images(self, images: Sequence[Image.Image], /) -> Tensor:
        """Unit vectors `(N, width)` of images."""


@dataclass(frozen=True)
class VisionScorer:
    """A vision transformer of transformers, read at its class token, as DINO's papers do."""

    name: str
    model: Any
    processor: Any

    @torch.no_grad()
    def embed_images(self, images: Sequence[Image.Image], /) -> Tensor:
        """Unit vectors `(N, width)` of images."""
        parts = []
        for start in range(0, len(images), BATCH):
            batch = [image.convert("RGB") for image in images[start : start + BATCH]]
            pixels = self.processor(images=batch, return_tensors="pt").pixel_values
            output = self.model(pixel_values=pixels.to(self.model.device))
            parts.append(output.last_hidden_state[:, 0].float())
        return torch.nn.functional.normalize(torch.cat(parts), dim=-1)


@dataclass(frozen=True)
class Perceptual:
    """LPIPS (arXiv:1801.03924): a distance of two images, 0 for the same."""

    name: str
    model: Any

    @torch.no_grad()
    def distance(self, one: Image.Image, other: Image.Image) -> float:
        """How different two images of the same size look."""
        from torchvision.transforms.functional import pil_to_tensor

        pair = [pil_to_tensor(image.convert("RGB"))[None] / 127.5 - 1 for image in (one, other)]
        return float(self.model(*pair))


Load = Callable[[str], Any]


def load_vision(source: str) -> VisionScorer:
    """Load a vision transformer from a folder or hub id.

    Raises:
        UserError: there is none.
    """
    from transformers import AutoImageProcessor, AutoModel

    trouble = hub.trouble(source)
    try:
        with hub.offline() if trouble else nullcontext():
            model = AutoModel.from_pretrained(source, dtype=torch.float32, use_safetensors=True)
            processor = AutoImageProcessor.from_pretrained(source)
    except (*UNUSABLE, ImportError) as error:
        raise UserError(trouble or first_line(error)) from error
    return VisionScorer(source, model.eval(), processor)


def load_lpips(source: str) -> Perceptual:
    """Load LPIPS with AlexNet from the package `lpips`.

    Raises:
        UserError: it or its weights are not here.
    """
    try:
        import lpips

        return Perceptual(source, lpips.LPIPS(net="alex", verbose=False).eval())
    except ImportError as error:
        raise UserError(f"it needs the package {error.name or 'lpips'}, not installed") from error
    except Exception as error:  # of a download within the package
        raise UserError(f"its weights are not here ({first_line(error)})") from error


def load_offline(source: str) -> efficientnet.EfficientNetLite0:
    """Load the network whose weights a package brings.

    Raises:
        UserError: the package is not installed.
    """
    return efficientnet.load_efficientnet()


@dataclass(frozen=True)
class Entry:
    """A scorer of a set: where it is from, what loads it, and whether it compares whole images.

    One that `is_packaged` comes with a Python package and is looked for nowhere else.
    """

    source: str
    load: Load
    is_distance: bool = False
    is_packaged: bool = False


DINO = Entry("facebook/dino-vits16", load_vision)
LPIPS = Entry("LPIPS (alex)", load_lpips, is_distance=True, is_packaged=True)
SCORER_SETS: dict[str, tuple[Entry, ...]] = {
    "paper": (DINO, Entry("openai/clip-vit-large-patch14", load_scorer), LPIPS),
    "dreambench": (DINO, Entry("openai/clip-vit-base-patch32", load_scorer)),
    "dinov2": (Entry("facebook/dinov2-base", load_vision),),
    "pocket": (Entry("pocket scorer", load_scorer),),
    "offline": (Entry(efficientnet.NAME, load_offline, is_packaged=True),),
}
"""`paper`: HRA and OFT; `dreambench`: arXiv:2208.12242; `dinov2`: PEFT's table; `pocket`: ours;
`offline`: an ImageNet classifier of others that needs no download, comparable with itself alone."""


@dataclass(frozen=True)
class LoadedSet:
    """The scorers of a set that are here, and why the others are not, by name."""

    images: list[ImageScorer]
    distances: list[Perceptual]
    missing: dict[str, str]


def load_set(name: str, *, sources: Mapping[str, str] | None = None) -> LoadedSet:
    """Load a set; `sources` says where a scorer of that name lies, in place of the hub.

    Raises:
        UserError: there is no such set.
    """
    if name not in SCORER_SETS:
        raise UserError(f"`scorers` is {name!r}, which is no set.{nearest(name, SCORER_SETS)}")
    loaded = LoadedSet([], [], {})
    places = {"pocket scorer": str(assets() / "pocket" / "scorer"), **(sources or {})}
    for entry in SCORER_SETS[name]:
        try:
            scorer = replace(entry.load(places.get(entry.source, entry.source)), name=entry.source)
        except UserError as error:
            loaded.missing[entry.source] = first_line(error)
            continue
        (loaded.distances if entry.is_distance else loaded.images).append(scorer)
    return loaded


def check_sources(sources: Mapping[str, str]) -> None:
    """Refuse names of no scorer and folders that are not there.

    Raises:
        UserError: one is wrong.
    """
    every = [entry for entries in SCORER_SETS.values() for entry in entries]
    known = [entry.source for entry in every if not entry.is_packaged]
    for name, place in sources.items():
        if name in (entry.source for entry in every if entry.is_packaged):
            raise UserError(f"{name} comes with a Python package, not from a folder. Leave it out.")
        if name not in known:
            raise UserError(f"`{name}` is no scorer of a set.{nearest(name, known)}")
        if not Path(place).is_dir():
            raise UserError(f"`{place}`, where {name} should lie, is no folder. Check the path.")
