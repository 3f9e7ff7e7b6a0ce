"""Where the loss counts: masks beside images, in a folder of their own, in the alpha channel."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from orthodiff.errors import FileError, UserError
from orthodiff.io.images import SUFFIXES, is_picture_name

from .readers.files import inside

if TYPE_CHECKING:
    from .buckets import Size
    from .views import Views

LABEL = "-masklabel"
ENDINGS = tuple(case for s in (".png", *sorted(SUFFIXES)) for case in (s, s.upper()))


def is_mask_name(path: Path) -> bool:
    """Whether a file is called like the mask of an image beside it: `<stem>-masklabel.png`."""
    return path.stem.endswith(LABEL) and is_picture_name(path)


def mask_of(image: Path, root: Path, mask_dir: Path | None) -> Path | None:
    """The mask file of an image: beside it, else of the same stem in `mask_dir`.

    Raises:
        FileError: there is a mask, but it leads out of its folder.
    """
    label = f"{image.stem}{LABEL}"
    for ending in ENDINGS:
        beside = image.with_name(f"{label}{ending}")
        if beside.is_file():
            return inside(root, os.path.relpath(beside, root), what="mask")
    if mask_dir is None:
        return None
    names = [f"{stem}{ending}" for stem in (image.stem, label) for ending in ENDINGS]
    found = next((name for name in names if (mask_dir / name).is_file()), None)
    return inside(mask_dir, found, what="mask") if found else None


def check_mask_dir(mask_dir: Path | None) -> None:
    """Refuse a folder of masks that is none.

    Raises:
        UserError: naming it.
    """
    if mask_dir is not None and not mask_dir.is_dir():
        raise UserError(f"`mask_dir` is `{mask_dir}`, which is not a folder. Check the path.")


def check_shape(layer: Image.Image, size: tuple[int, int], *, name: str, what: str) -> None:
    """Refuse a mask or a condition of other proportions than its image's.

    Raises:
        FileError: naming the image.
    """
    (width, height), (own_width, own_height) = size, layer.size
    if abs(width * own_height - height * own_width) > 0.02 * width * own_height:
        reason = f"its {what} has {own_width} x {own_height} pixels, the image {width} x {height}"
        raise FileError(name, reason, f"Give the {what} the proportions of the image")


def check_in_sight(name: str, mask: Image.Image | None, size: Size, views: Views) -> None:
    """Refuse a mask that is cut away whole: the background would be all there is to learn.

    Raises:
        FileError: naming the image.
    """
    if not views.showing(name, mask, size):
        reason = "its mask lies in the part that is cut away, so nothing of it would be learnt"
        raise FileError(name, reason, "Cut the image yourself, or train with --enable_bucket")


def check_subject_mask() -> None:
    """Refuse automatic masks without the package that makes them.

    Raises:
        UserError: naming it.
    """
    try:
        import rembg  # noqa: F401
    except (ImportError, SystemExit) as error:  # it exits where its own backend is missing
        raise UserError(
            "`subject_mask` needs the package rembg, which is not installed. "
            "Install it (pip install 'rembg[cpu]'), or give masks with --mask_dir."
        ) from error


def subject_mask(image: Image.Image) -> Image.Image:
    """The mask ("L") of what stands out in an image (U^2-Net, 2005.09007, by rembg)."""
    import rembg

    return rembg.remove(image, session=_session(), only_mask=True).convert("L")


@lru_cache(maxsize=1)
def _session() -> Any:
    import rembg

    return rembg.new_session("u2net")
