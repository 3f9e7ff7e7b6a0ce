"""What all tabs share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from studio.jobs.local import ROOT, LocalRunner
from studio.jobs.store import RunStore
from studio.painter import Painter
from studio.subjects import ExampleSubject, read_examples


@dataclass(frozen=True)
class Studio:
    """The bases offered, where runs are kept, and who does the work."""

    bases: tuple[str, ...]
    store: RunStore
    runner: LocalRunner
    examples: Mapping[str, ExampleSubject]
    painter: Painter = field(default_factory=Painter)

    @classmethod
    def open(cls, *, bases: tuple[str, ...], runs: Path) -> Studio:
        """A studio over the folder `runs`, with the example subjects of this checkout."""
        store = RunStore(runs)
        return cls(
            bases=bases,
            store=store,
            runner=LocalRunner(store),
            examples=read_examples(ROOT / "assets" / "subjects"),
        )

    def base_choices(self) -> list[tuple[str, str]]:
        """Titles and names of the bases, for a list to choose from."""
        return [(base_title(name), name) for name in self.bases]


def base_title(name: str) -> str:
    """What a base is called on the page: the last part of its path or hub id."""
    return Path(name).name or name


def shown(path: Path) -> str:
    """A copy of one picture that the page may show; the folder it lies in stays closed to it."""
    return save_file_to_cache(path, cache_dir=get_upload_folder())
