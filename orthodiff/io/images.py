"""Images in, as people have them: listed in a folder, opened upright in RGB, cut to a square."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from orthodiff.errors import FileError, UserError
from orthodiff.io.color import on_paper, split_alpha

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}
    | {".heic", ".heif"}
)
MASK_LABEL = "-masklabel"
"""Ends the stem of a mask that lies beside its image: `<stem>-masklabel.png`."""
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
HEIC_REMEDY = "Install it (pip install pillow-heif), or save the image as JPEG"


def find_images(folder: Path) -> list[Path]:
    """The image files of a flat folder, by name.

    Raises:
        UserError: no such folder, or no images in it.
    """
    if not folder.is_dir():
        raise UserError(f"The image folder `{folder}` does not exist. Check the path.")
    paths = list_images(folder)
    if not paths:
        kinds = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
        raise UserError(
            f"The folder `{folder}` holds no images. Put 3 to 10 images of the subject "
            f"directly into it ({kinds})."
        )
    return paths


def list_images(folder: Path) -> list[Path]:
    """The images of an existing flat folder, by name; no masks of others, no hidden files."""
    return sorted(
        path
        for path in folder.iterdir()
        if is_image_name(path) and not is_mask_name(path) and path.is_file()
    )


def is_image_name(path: Path) -> bool:
    """Whether a file is called like an image (`._x.jpg`, which macOS leaves behind, is not)."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def is_mask_name(path: Path) -> bool:
    """Whether a file is called like the mask of an image beside it: `<stem>-masklabel.png`."""
    return path.stem.endswith(MASK_LABEL) and is_image_name(path)


DECODER = f"1/{Image.__version__}"
"""What decides which pixels a file has: raise the number when `orthodiff.io` changes some."""
PLAIN_HEADERS = frozenset({"JPEG", "PNG", "WEBP", "BMP", "GIF"})
"""Formats whose header and EXIF say the size as it is once decoded."""
SIDEWAYS = (5, 6, 7, 8)


def read_size(source: Path | bytes, *, name: str | None = None) -> tuple[int, int]:
    """Width and height of an image as it will be opened, from its header where that says so.

    Raises:
        FileError: it is not an image, or is far too large.
    """
    name = name or str(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with _identify(source, name=name) as image:
                if image.format in PLAIN_HEADERS:
                    width, height = image.size
                    is_turned = image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS
                    return (height, width) if is_turned else (width, height)
    except Exception:
        pass  # opening it says in a sentence what is wrong
    return open_image(source, name=name).size


def open_image(source: Path | bytes, *, name: str | None = None) -> Image.Image:
    """Open a file, or what was in one, upright (EXIF) in 8-bit sRGB; transparent becomes white.

    `name` is what messages call it; by default its path.

    Raises:
        FileError: it is not an image, is damaged, or is far too large.
    """
    return open_layers(source, name=name)[0]


def open_control_image(source: Path | bytes, *, name: str | None = None) -> Image.Image:
    """Like `open_image`, for a control image or a mask: transparent becomes black ("nothing here").

    Raises:
        FileError: it is not an image, is damaged, or is far too large.
    """
    colours, alpha = split_alpha(_load(source, name=name or str(source)))
    return Image.composite(colours, Image.new("RGB", colours.size), alpha) if alpha else colours


def open_layers(
    source: Path | bytes, *, name: str | None = None
) -> tuple[Image.Image, Image.Image | None]:
    """Like `open_image`, with the opacity ("L") of an image that is partly transparent.

    Raises:
        FileError: it is not an image, is damaged, or is far too large.
    """
    colours, alpha = split_alpha(_load(source, name=name or str(source)))
    return on_paper(colours, alpha), alpha


def square(image: Image.Image, side: int) -> Image.Image:
    """Scale the short side to `side` pixels (Lanczos) and cut the middle square."""
    return ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS)


def fit_size(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale to cover `size` (width, height; Lanczos) and cut the middle; unchanged if it fits."""
    if image.size == size:
        return image
    return ImageOps.fit(image, size, Image.Resampling.LANCZOS)


def _load(source: Path | bytes, *, name: str) -> Image.Image:
    """Decode the first frame, upright; the size in the header is judged before any pixel is read.

    Decoders raise whatever a damaged file makes them stumble over, so everything is caught.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with _identify(source, name=name) as image:
                image.load()
                return _upright(image)
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise FileError(name, "it is not in an image format that can be read") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = f"it has more than {(Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million pixels"
        raise FileError(name, limit, "Scale it down, or remove this file") from error
    except (FileNotFoundError, IsADirectoryError) as error:
        what = "a folder" if isinstance(error, IsADirectoryError) else "not there"
        raise FileError(name, f"it is {what}", "Check the path") from error
    except PermissionError as error:
        raise FileError(name, "it may not be read", "Change its permissions") from error
    except Exception as error:
        raise FileError(name, f"it is damaged ({error or type(error).__name__})") from error


def _identify(source: Path | bytes, *, name: str) -> Image.Image:
    """Read the header. HEIC is known by its content, whatever the file is called."""
    try:
        return Image.open(_handle(source))
    except UnidentifiedImageError:
        if not _is_heif(source):
            raise
    _enable_heif(name)
    return Image.open(_handle(source))


def _handle(source: Path | bytes) -> Path | io.BytesIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source


def _is_heif(source: Path | bytes) -> bool:
    if isinstance(source, bytes):
        head = source[:12]
    else:
        with source.open("rb") as file:
            head = file.read(12)
    return head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS


def _enable_heif(name: str) -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise FileError(name, "HEIC needs the package pillow-heif", HEIC_REMEDY) from error
    register_heif_opener()


def _upright(image: Image.Image) -> Image.Image:
    """Turned as EXIF says; EXIF that cannot be read says nothing."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image
