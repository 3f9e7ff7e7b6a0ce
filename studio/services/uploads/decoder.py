"""Decodes images in a process of its own, under limits, which imports Pillow only.

`python -I decoder.py IN OUT LIMITS`: every file of IN becomes `NN.png` and `NN.webp` in OUT, and
`report.json` says what became of each. Whatever a hostile file does to a decoder it does here: in a
process without the page's memory, that may use so much memory, time and disk, and then is gone.
Only pixels, the transparency and the colour profile go on. EXIF, and with it where a photo was
taken, ends here.
"""

from __future__ import annotations

import json
import resource
import sys
import warnings
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF")
LONGEST_SIDE, THUMBNAIL = 2048, 320
MODES = ("L", "RGB", "RGBA")
MEBI = 1 << 20


def main(words: list[str]) -> int:
    """Decode everything in one folder into another."""
    source, output, limits = Path(words[0]), Path(words[1]), json.loads(words[2])
    confine(memory=limits["memory"], seconds=limits["seconds"], file_size=limits["file_size"])
    _enable_heif()
    report = []
    for number, path in enumerate(sorted(source.iterdir())):
        report.append(_decode(path, output / f"{number:02d}"))
        (output / "report.json").write_text(json.dumps(report), "utf-8")
    return 0


def confine(*, memory: int, seconds: int, file_size: int) -> None:
    """Limits that this process cannot lift again; memory and file size in MiB."""
    resource.setrlimit(resource.RLIMIT_AS, (memory * MEBI, memory * MEBI))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_size * MEBI, file_size * MEBI))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _decode(path: Path, place: Path) -> dict[str, Any]:
    """The size of what was written, or why nothing was."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_allowed()) as image:
                image.load()
                recipe = image.info.get("orthodiff") if image.format == "PNG" else None
                upright = ImageOps.exif_transpose(image)
        return {**_write(upright, place), "recipe": recipe}
    except UnidentifiedImageError:
        return {"error": "it is not in an image format that can be read"}
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return {"error": f"it has more than {(Image.MAX_IMAGE_PIXELS or 0) // 10**6} megapixels"}
    except MemoryError:
        return {"error": "it needs too much memory"}
    except Exception as error:
        return {"error": f"it is damaged ({str(error)[:80] or type(error).__name__})"}


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
