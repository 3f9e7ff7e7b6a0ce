"""Files of an adapter that somebody brings, one by one or as a zip: only what an adapter needs."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from orthodiff.errors import UserError

NAMES = (
    "adapter_config.json", "adapter_model.safetensors", "control.json", "hint_encoder.safetensors",
    "tokens.safetensors",
)  # fmt: skip
FOLDERS = ("", "text_encoder", "text_encoder_2")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
MOST_BYTES, MOST_ENTRIES, BLOCK = 1 << 31, 200, 1 << 20


def unpack(files: Sequence[tuple[str, Path]], folder: Path) -> str:
    """Put the files `(name, path)` of one adapter into `folder`; what it is called, if known.

    Raises:
        UserError: it is no adapter of safetensors, or larger than is taken.
    """
    name = ""
    left = MOST_BYTES
    for given, path in files:
        entries = _zipped(given, path) if given.lower().endswith(".zip") else [(given, path)]
        if given.lower().endswith(".zip"):
            name = Path(given).stem
        for entry, source in entries:
            left = _take(entry, source, folder, left)
    if not (folder / NAMES[0]).is_file() and not (folder / NAMES[2]).is_file():
        raise UserError(
            "There is no adapter_config.json among these files. Choose it together with "
            "adapter_model.safetensors, or a zip of the whole folder."
        )
    return name


def _take(entry: str, source: Path | zipfile.Path, folder: Path, left: int) -> int:
    """Copy one file if an adapter needs it; how many bytes may still come."""
    path = PurePosixPath(entry.replace("\\", "/"))
    if path.suffix.lower() in PICKLES:
        raise UserError(
            f"`{path.name}` can run code when it is opened, so it is not taken. Save the adapter "
            "as safetensors."
        )
    part = path.parent.name if path.parent.name in FOLDERS else ""
    if path.name not in NAMES:
        return left
    place = folder / part / path.name
    if place.exists():
        raise UserError(f"`{path.name}` is there twice. Bring one adapter at a time.")
    place.parent.mkdir(exist_ok=True)
    with _opened(source) as file, place.open("wb") as target:
        while block := file.read(BLOCK):
            left -= len(block)
            if left < 0:
                raise UserError(f"The adapter is larger than {MOST_BYTES >> 30} GB.")
            target.write(block)
    return left


@contextmanager
def _opened(source: Path | zipfile.Path) -> Iterator[IO[bytes]]:
    try:
        with source.open("rb") as file:
            yield file
    except (zipfile.BadZipFile, OSError, RuntimeError, EOFError, NotImplementedError) as error:
        raise UserError("The zip is damaged or locked. Pack the folder again.") from error


def _zipped(name: str, path: Path) -> list[tuple[str, zipfile.Path]]:
    try:
        pack = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"`{name}` is no zip that can be opened. Pack the folder again.") from error
    entries = [entry for entry in pack.infolist() if not entry.is_dir()]
    if len(entries) > MOST_ENTRIES:
        raise UserError(f"`{name}` holds {len(entries):,} files. Pack the adapter's folder alone.")
    return [(entry.filename, zipfile.Path(pack, entry.filename)) for entry in entries]
