"""The catalogue of individuals: which models of the Debian package show which class.

The models come with the package `sweethome3d-furniture` (820 textured models by many creators, CC0
or CC-BY 3.0). `classes.json` says which of them the world uses, by class word; creators and
licences are read from the package itself, so that no name is typed twice.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections import defaultdict
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from orthodiff.errors import UserError

MODELS = Path("/usr/share/sweethome3d/furniture")
"""Where the Debian package puts its models."""
LICENCES = {
    "BlendSwap-CC-0": "CC0-1.0",
    "BlendSwap-CC-BY": "CC-BY-3.0",
    "KatorLegaz": "CC-BY-3.0-US",
    "Scopia": "CC-BY-3.0",
}
"""Archive of the package -> licence of every model in it, as its LICENSE.TXT says."""
HELD_OUT_SHARE = 4
"""Of a class with enough individuals, about one in four is never seen in pretraining."""
FEWEST_TO_SPLIT = 4
INDEX = "individuals.json"
_CLASSES = Path(__file__).with_name("classes.json")
_ENTRY = re.compile(r"(\w+)#(\d+)=(.*)")


@dataclass(frozen=True)
class Individual:
    """One model: this chair among the chairs."""

    key: str
    """The catalogue's own name of the model, for example `Scopia#ext_chair`."""
    name: str
    word: str
    """The class word used in captions."""
    creator: str
    licence: str
    archive: str
    member: str
    """Path of the OBJ file inside the archive."""
    rotation: tuple[float, ...]
    """Row-major rotation that stands the model upright, nine numbers."""
    files: str
    """A checksum of every file of the model."""
    held_out: bool
    """Whether pretraining never shows it: such individuals are the subjects."""


def is_installed(models: Path = MODELS) -> bool:
    return all((models / f"{archive}.sh3f").is_file() for archive in LICENCES)


def class_keys() -> dict[str, list[str]]:
    """Class word -> keys of its individuals."""
    return json.loads(_CLASSES.read_text("utf-8"))


@lru_cache
def individuals(models: Path = MODELS, *, free_only: bool = False) -> tuple[Individual, ...]:
    """All individuals of the world in the order of `classes.json`.

    Args:
        models: folder with the archives.
        free_only: use models in the public domain alone (CC0).

    Raises:
        UserError: the archives are not there.
    """
    if not is_installed(models):
        raise UserError(
            f"`{models}` does not hold the 3D models. Install the Debian package "
            "`sweethome3d-furniture`, or give the folder of its .sh3f files."
        )
    entries = {entry["id"]: entry for archive in LICENCES for entry in _entries(models, archive)}
    return tuple(
        individual
        for word, keys in class_keys().items()
        for individual in (_individual(entries[key], word, len(keys)) for key in keys)
        if not free_only or individual.licence == "CC0-1.0"
    )


def write_index(folder: Path, everyone: tuple[Individual, ...]) -> None:
    """Keep what is known of the individuals beside their views.

    A machine that has the views then needs neither the models nor a renderer.
    """
    rows = [asdict(one) for one in everyone]
    (folder / INDEX).write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


def indexed(folder: Path) -> tuple[Individual, ...]:
    """The individuals as `write_index` left them; none where it has left nothing."""
    if not (folder / INDEX).is_file():
        return ()
    rows = json.loads((folder / INDEX).read_text("utf-8"))
    return tuple(Individual(**{**row, "rotation": tuple(row["rotation"])}) for row in rows)


def everyone(views: Path, models: Path = MODELS) -> tuple[Individual, ...]:
    """All individuals: from the models, or where they are not installed from beside the views.

    Raises:
        UserError: neither are there.
    """
    return individuals(models) if is_installed(models) else indexed(views) or individuals(models)


def _individual(entry: dict[str, str], word: str, count: int) -> Individual:
    rotation = entry.get("modelRotation", "1 0 0 0 1 0 0 0 1")
    return Individual(
        key=entry["id"],
        name=entry["name"],
        word=word,
        creator=entry.get("creator", "unknown"),
        licence=LICENCES[entry["archive"]],
        archive=entry["archive"],
        member=entry["model"].lstrip("/"),
        rotation=tuple(float(number) for number in rotation.split()),
        files=entry["files"],
        held_out=count >= FEWEST_TO_SPLIT and _is_drawn(entry["id"]),
    )


def _is_drawn(key: str) -> bool:
    """A stable draw of one in `HELD_OUT_SHARE`."""
    return zlib.crc32(key.encode()) % HELD_OUT_SHARE == 0


def _entries(models: Path, archive: str) -> list[dict[str, str]]:
    """The numbered entries of an archive's catalogue, each with its archive and its checksum."""
    with zipfile.ZipFile(models / f"{archive}.sh3f") as packed:
        text = packed.read("PluginFurnitureCatalog.properties").decode("latin-1")
        sums: dict[PurePosixPath, int] = defaultdict(int)
        for info in packed.infolist():
            folder = PurePosixPath(info.filename).parent
            sums[folder] = zlib.crc32(f"{info.filename}:{info.CRC}".encode(), sums[folder])
    entries: dict[int, dict[str, str]] = defaultdict(lambda: {"archive": archive})
    for line in text.splitlines():
        if match := _ENTRY.match(line.strip()):
            entries[int(match[2])][match[1]] = match[3]
    for entry in entries.values():
        entry["files"] = f"{sums[PurePosixPath(entry['model'].lstrip('/')).parent]:08x}"
    return list(entries.values())
