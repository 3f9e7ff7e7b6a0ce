"""Decodes images in a process of its own, under limits, which imports Pillow only.

`python -I decoder.py IN OUT LIMITS`: every image of IN, also of the zip archives there, becomes
`NN.png` and `NN.webp` in OUT, and a line of `report.jsonl` says what became of it. Whatever a
hostile file does to a decoder it does here: in a process without the page's memory, that may use so
much memory, time and disk, and then is gone. Only pixels, the transparency and the colour profile
go on, and of archives the text of captions and lists. EXIF, and with it where a photo was taken,
ends here. No entry of an archive becomes a file under its own name.
"""

from __future__ import annotations

import json
import resource
import sys
import warnings
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF")
LONGEST_SIDE, THUMBNAIL = 2048, 320
MODES = ("L", "RGB", "RGBA")
ZIP, TEXTS, LONGEST_TEXT = b"PK\x03\x04", (".txt", ".jsonl"), 1 << 20
ENCRYPTED, MEBI = 1, 1 << 20
DESCRIPTION, MOST_RECIPE = 0x010E, 20_000
"""EXIF's tag of the description, and the most letters of a recipe."""


def main(words: list[str]) -> int:
    """Decode everything in one folder into another."""
    source, output, limits = Path(words[0]), Path(words[1]), json.loads(words[2])
    confine(memory=limits["memory"], seconds=limits["seconds"], file_size=limits["file_size"])
    _enable_heif()
    with (output / "report.jsonl").open("w", encoding="utf-8", buffering=1) as report:
        number = written = 0
        for place, path in enumerate(sorted(source.iterdir())):
            for name, entry in _entries(path, output, number, limits):
                if "width" in entry:
                    written += (output / f"{number:02d}.png").stat().st_size
                    number += 1
                report.write(json.dumps({"file": place, "name": name, **entry}) + "\n")
                if written > limits["output"] * MEBI:  # what is left is reported as not reached
                    return 1
    return 0


def confine(*, memory: int, seconds: int, file_size: int) -> None:
    """Limits that this process cannot lift again; memory and file size in MiB."""
    resource.setrlimit(resource.RLIMIT_AS, (memory * MEBI, memory * MEBI))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_size * MEBI, file_size * MEBI))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _entries(
    path: Path, output: Path, number: int, limits: dict[str, int]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a file holds, by the name inside an archive; images are numbered from `number`."""
    with path.open("rb") as file:
        is_archive = file.read(len(ZIP)) == ZIP
    if not is_archive:
        yield "", _decode(path.open("rb"), output / f"{number:02d}")
        return
    try:
        for name, content in _unpacked(path, limits):
            suffix = Path(name).suffix.lower()
            if suffix in TEXTS:
                yield name, {"text": content[:LONGEST_TEXT].decode("utf-8", "replace")}
                continue
            entry = _decode(BytesIO(content), output / f"{number:02d}")
            number += "width" in entry
            yield name, entry
    except Exception as error:  # the parser of archives says much in its own way
        yield "", {"error": f"it is no archive that can be read ({_short(error)})"}


def _unpacked(path: Path, limits: dict[str, int]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of an archive's files, one after the other.

    Raises:
        ValueError: it holds too many, too large ones, or too much in all: counted as it is
            unpacked, since what an archive says of its sizes need not be true.
    """
    left = limits["archive"] * MEBI
    with zipfile.ZipFile(path) as archive:
        files = [entry for entry in archive.infolist() if not _is_passed_over(entry)]
        if len(files) > limits["entries"]:
            raise ValueError(f"it holds more than {limits['entries']} files")
        if any(entry.flag_bits & ENCRYPTED for entry in files):
            raise ValueError("it is encrypted")
        for entry in files:
            with archive.open(entry) as file:
                content = file.read(min(left, limits["entry"] * MEBI) + 1)
            left -= len(content)
            if left < 0 or len(content) > limits["entry"] * MEBI:
                raise ValueError("what it holds is too large")
            yield entry.filename, content


def _is_passed_over(entry: zipfile.ZipInfo) -> bool:
    """Whether it is a folder, or what a system put there unasked."""
    parts = [part for part in Path(entry.filename).parts if part != ".."]
    return entry.is_dir() or any(part.startswith((".", "__MACOSX")) for part in parts)


def _decode(file: IO[bytes], place: Path) -> dict[str, Any]:
    """The size of what was written, or why nothing was."""
    try:
        with file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=_allowed()) as image:
                image.load()
                recipe = _recipe(image)
                upright = ImageOps.exif_transpose(image)
        return {**_write(upright, place), "recipe": recipe}
    except UnidentifiedImageError:
        return {"error": "it is not in an image format that can be read"}
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return {"error": f"it has more than {(Image.MAX_IMAGE_PIXELS or 0) // 10**6} megapixels"}
    except MemoryError:
        return {"error": "it needs too much memory"}
    except Exception as error:
        return {"error": f"it is damaged ({_short(error)})"}


def _short(error: Exception) -> str:
    return str(error)[:80] or type(error).__name__


def _recipe(image: Image.Image) -> str | None:
    """How we made an image: a text chunk of PNG, JSON as the description of JPEG and WebP."""
    exif = image.format in ("JPEG", "WEBP")
    text = image.getexif().get(DESCRIPTION) if exif else image.info.get("orthodiff")
    is_ours = isinstance(text, str) and text.startswith("{") and len(text) <= MOST_RECIPE
    return text if is_ours else None


def _write(image: Image.Image, place: Path) -> dict[str, Any]:
    """The pixels anew, in a file that holds nothing else."""
    profile = image.info.get("icc_profile")
    if image.mode not in MODES:
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    clean = Image.new(image.mode, image.size)
    clean.paste(image)
    clean.save(place.with_suffix(".png"), icc_profile=profile, compress_level=3)
    small = clean.convert("RGBA") if clean.mode == "RGBA" else clean.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    small.save(place.with_suffix(".webp"), quality=80)
    return {"width": clean.width, "height": clean.height}


def _allowed() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _enable_heif() -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return
    register_heif_opener()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
