"""Where the loss counts: masks beside images, in a folder of their own, in the alpha channel."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from PIL import Image

from orthodiff.errors import FileError, UserError

if TYPE_CHECKING:
    from .buckets import Size
    from .views import Views

DIM = 128
"""Below half of white a mask would hardly let anything be learned."""


def check_bright(name: str, mask: Image.Image) -> None:
    """Refuse a mask ("L") that is black or nearly so everywhere, such as one of values 0 and 1.

    Raises:
        FileError: naming the image.
    """
    _, brightest = mask.getextrema()
    assert isinstance(brightest, int | float)  # of one channel
    if brightest >= DIM:
        return
    if brightest == 0:
        reason, remedy = "is black all over", "Paint the subject white, or remove the mask"
    else:
        reason = f"is nearly black: its brightest level is {brightest:g} of 255"
        remedy = "Save it with 255 (of 16 bits 65535) where the subject is"
    raise FileError(name, f"its mask {reason}, so nothing of it would be learnt", remedy)


def check_shape(layer: Image.Image, size: tuple[int, int], *, name: str, what: str) -> None:
    """Refuse a mask or a control image of other proportions than its image's.

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
    """The mask ("L") of what stands out in an image (U^2-Net, arXiv:2005.09007, by rembg)."""
    import rembg

    return rembg.remove(image, session=_session(), only_mask=True).convert("L")


@lru_cache(maxsize=1)
def _session() -> Any:
    import rembg

    return rembg.new_session("u2net")
