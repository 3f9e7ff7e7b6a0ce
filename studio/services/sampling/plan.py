"""What the sampling process is to make: plain data in a file of the job's folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

FILE = "images.json"


@dataclass(frozen=True)
class AdapterPlan:
    """An adapter's folder, what it is called in recipes, and its strength."""

    folder: str
    name: str
    strength: float = 1.0


@dataclass(frozen=True)
class Pass:
    """Images with the same weights: a row of what is shown, or with `column` a cell of a grid.

    `blend` is None where the adapters are applied one after the other, else the second's share.
    """

    label: str
    adapters: tuple[AdapterPlan, ...] = ()
    steered: bool = False
    blend: float | None = None
    column: str = ""


@dataclass(frozen=True)
class ImagePlan:
    """Every prompt with every seed in each pass; `maps` names control images in the folder."""

    base: str
    base_title: str
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    negative_prompt: str
    num_inference_steps: int | None
    guidance_scale: float | None
    width: int | None
    height: int | None
    passes: tuple[Pass, ...]
    sampler: str | None = None
    maps: tuple[str, ...] = ()
    control_strength: float = 1.0
    control_start: float = 0.0
    control_end: float = 1.0

    def write(self, folder: Path) -> None:
        """Put the plan into the job's folder."""
        (folder / FILE).write_text(json.dumps(asdict(self)), "utf-8")

    @classmethod
    def load(cls, folder: Path) -> ImagePlan:
        """The plan in a job's folder."""
        content = json.loads((folder / FILE).read_text("utf-8"))
        passes = [
            Pass(**{**one, "adapters": tuple(AdapterPlan(**a) for a in one["adapters"])})
            for one in content.pop("passes")
        ]
        tuples = {name: tuple(content.pop(name)) for name in ("prompts", "seeds", "maps")}
        return cls(passes=tuple(passes), **tuples, **content)


@dataclass(frozen=True)
class MadeImage:
    """One image that was made."""

    file: str
    label: str
    prompt: str
    seed: int
    map: str = ""
    overlay: str = ""
    column: str = ""


@dataclass
class Album:
    """What was made, written beside the images after each pass."""

    images: list[MadeImage] = field(default_factory=list)

    FILE = "album.json"

    def write(self, folder: Path) -> None:
        new = folder / f".{self.FILE}"
        new.write_text(json.dumps([asdict(image) for image in self.images]), "utf-8")
        new.replace(folder / self.FILE)

    @classmethod
    def load(cls, folder: Path) -> Album:
        """The album of a job; an empty one before its first pass has ended."""
        try:
            entries = json.loads((folder / cls.FILE).read_text("utf-8"))
        except (OSError, ValueError):
            return cls()
        return cls([MadeImage(**entry) for entry in entries])
