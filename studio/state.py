"""What all tabs share."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from orthodiff.control import CONFIG, read_metadata
from orthodiff.io.assets import assets, shipped

from .services.jobs.local import ROOT, LocalRunner
from .services.jobs.store import RunStore
from .services.photos import ExampleSubject, read_examples
from .services.sampler import Painter


@dataclass(frozen=True)
class Studio:
    """The bases offered, where runs are kept, and who does the work."""

    bases: tuple[str, ...]
    store: RunStore
    runner: LocalRunner
    examples: Mapping[str, ExampleSubject]
    shipped: Mapping[str, Path]
    painter: Painter = field(default_factory=Painter)

    @classmethod
    def open(cls, *, bases: tuple[str, ...], runs: Path) -> Studio:
        """A studio over the folder `runs`, with the example subjects that come with orthodiff."""
        store = RunStore(runs)
        return cls(
            bases=bases,
            store=store,
            runner=LocalRunner(store),
            examples=read_examples(assets() / "subjects"),
            shipped=_shipped_controls(bases),
        )

    def base_choices(self) -> list[tuple[str, str]]:
        """Titles and names of the bases, for a list to choose from."""
        return [(base_title(name), name) for name in self.bases]

    def controls(self) -> dict[str, Path]:
        """Adapters that follow maps, by the name the page has: trained ones, then shipped ones."""
        trained = self.store.finished(control=True)
        return {**{name: self.store.folder(name) for name in trained}, **self.shipped}

    def base_of(self, recipe: Mapping[str, str]) -> str | None:
        """Which of the bases offered an adapter with this recipe was trained on."""
        return _same_base(recipe.get("base", ""), self.bases)

    def foreign_base(self, recipe: Mapping[str, str]) -> str:
        """A sentence about the base of an adapter, if it is not offered."""
        base = recipe.get("base", "")
        if not base or self.base_of(recipe):
            return ""
        return f"It was trained on {base_title(base)}, which is not offered here."

    def new_folder(self, within: Path) -> Path:
        """A folder to be for pictures, called after the time."""
        stamp = time.strftime("%Y%m%d-%H%M%S") + f"-{time.time_ns() // 10**6 % 1000:03d}"
        return within / "pictures" / stamp


def _shipped_controls(bases: Sequence[str]) -> dict[str, Path]:
    """Our control adapters for these bases, by names that no run can have."""
    found = sorted(path.parent for path in assets().glob(f"*/{CONFIG}"))
    fitting = [path for path in found if _same_base(read_metadata(path).get("base", ""), bases)]
    return {f"{path.name} (comes with orthodiff)": path for path in fitting}


def _same_base(base: str, bases: Sequence[str]) -> str | None:
    """The one of `bases` that is `base`, perhaps under another path to the same folder."""
    same = (name for name in bases if name == base or _folder(name) == _folder(base))
    return next(same, None)


def _folder(name: str) -> Path:
    """Where a base lies if it is a folder; relative paths of old recipes mean the checkout."""
    return (ROOT / shipped(name)).resolve()


def base_title(name: str) -> str:
    """What a base is called on the page: the last part of its path or hub id."""
    return Path(name).name or name


def shown(path: Path) -> str:
    """A copy of one picture that the page may show; the folder it lies in stays closed to it."""
    return save_file_to_cache(path, cache_dir=get_upload_folder())
