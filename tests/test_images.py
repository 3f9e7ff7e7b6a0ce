"""Images as people have them become upright sRGB, or are refused by name with a remedy."""

import io
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from orthodiff.errors import FileError, UserError, printable
from orthodiff.io.images import (
    find_images,
    open_image,
    open_layers,
    square,
)
from tests.photos import photo

SIZE = (48, 32)


def smooth() -> Image.Image:
    """An image that codecs keep well."""
    rows, columns = np.mgrid[0:32, 0:48]
    return Image.fromarray(
        np.stack([columns * 5, rows * 7, 255 - columns * 5], -1).astype(np.uint8)
    )


def difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).mean())


@pytest.mark.parametrize(
    ("name", "mode", "how", "most"),
    [
        ("a.jpg", "RGB", {"quality": 95}, 2),
        ("a.jfif", "L", {"format": "JPEG", "quality": 95}, 60),
        ("a.jpeg", "CMYK", {"quality": 95}, 3),
        ("a.png", "RGB", {}, 0),
        ("a.png", "P", {}, 18),
        ("a.webp", "RGB", {"lossless": True}, 0),
        ("a.gif", "P", {}, 18),
        ("a.tif", "RGB", {}, 0),
        ("a.tiff", "CMYK", {"compression": "tiff_lzw"}, 1),
        ("a.bmp", "RGB", {}, 0),
        ("a.avif", "RGB", {"quality": 95}, 3),
    ],
)
def test_formats(tmp_path: Path, name: str, mode: str, how: dict, most: float) -> None:
    smooth().convert(mode).save(tmp_path / name, **how)
    (path,) = find_images(tmp_path)
    opened = open_image(path)
    assert (opened.mode, opened.size) == ("RGB", SIZE)
    assert difference(opened, smooth()) <= most


@pytest.mark.parametrize("name", ["a.heic", "A.HEIF", "phone.jpg"])
def test_heic_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(smooth()).save(tmp_path / "a.heic", quality=95)
    (tmp_path / "a.heic").rename(tmp_path / name)
    (path,) = find_images(tmp_path)
    assert difference(open_image(path), smooth()) < 3


def test_heic_without_its_package_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(smooth()).save(tmp_path / "a.heic")
    monkeypatch.setattr(Image, "ID", [known for known in Image.ID if known != "HEIF"])
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(FileError, match=r"a\.heic.*pillow-heif.*save the image as JPEG"):
        open_image(tmp_path / "a.heic")


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    upright = open_image(tmp_path / "turned.jpg")
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 5))[2] > 200


def test_damaged_exif_is_passed_over(tmp_path: Path) -> None:
    smooth().save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\xff\xff\xff\xff\xff")
    assert open_image(tmp_path / "a.jpg").size == SIZE


def test_transparent_becomes_white_and_tells_its_opacity(tmp_path: Path) -> None:
    image = smooth().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(SIZE))
    image.save(tmp_path / "a.png")
    colours, alpha = open_layers(tmp_path / "a.png")
    assert alpha is not None
    assert (alpha.mode, alpha.getextrema()[0]) == ("L", image.getchannel("A").getextrema()[0])
    assert min(colours.getpixel((4, 0))) > 240
    image.putalpha(255)
    image.save(tmp_path / "b.png")
    assert open_layers(tmp_path / "b.png")[1] is None


@pytest.mark.parametrize("mode", ["LA", "RGBa", "PA"])
def test_other_kinds_of_transparency(mode: str) -> None:
    from orthodiff.io.color import on_paper, split_alpha

    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    clear = clear.convert("P").convert(mode) if mode == "PA" else clear.convert(mode)
    if mode == "PA":
        clear.putalpha(0)
    colours, alpha = split_alpha(clear)
    assert alpha is not None
    assert on_paper(colours, alpha).getpixel((4, 4)) == (255, 255, 255)


def test_palette_transparency_becomes_white(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.save(tmp_path / "a.png", transparency=0)
    assert open_image(tmp_path / "a.png").getpixel((4, 4)) == (255, 255, 255)


def test_sixteen_bit_grey_is_scaled(tmp_path: Path) -> None:
    deep = Image.fromarray(np.full((8, 8), 32896, dtype=np.uint16))
    for name in ("a.png", "a.tif"):
        deep.save(tmp_path / name)
        assert open_image(tmp_path / name).getpixel((4, 4)) == (128, 128, 128)


def test_sixteen_bit_colour_keeps_its_colour(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    deep = np.asarray(smooth(), np.uint16)[:, :, ::-1] * 257
    for name in ("a.png", "a.tif"):
        assert cv2.imwrite(str(tmp_path / name), deep)
        assert difference(open_image(tmp_path / name), smooth()) < 1


@pytest.mark.parametrize("top", [1.0, 255.0, float("nan")])
def test_floats(tmp_path: Path, top: float) -> None:
    values = np.full((8, 8), 0.5 if top != 255 else 127.5, dtype=np.float32)
    values[0, 0] = top
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert open_image(tmp_path / "a.tif").getpixel((4, 4)) == (128, 128, 128)


def test_gif_and_webp_give_their_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert open_image(tmp_path / name).getpixel((4, 4))[0] > 250


def test_profiles_become_srgb(tmp_path: Path) -> None:
    """An image whose profile swaps red and blue comes out swapped; sRGB's own changes nothing."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    smooth().save(tmp_path / "s.png", icc_profile=srgb.tobytes())
    assert open_image(tmp_path / "s.png").tobytes() == smooth().tobytes()
    in_lab = ImageCms.profileToProfile(smooth(), srgb, lab, outputMode="LAB")
    in_lab.save(tmp_path / "l.tif")
    assert difference(open_image(tmp_path / "l.tif"), smooth()) < 2
    wide = _swapped(srgb.tobytes())
    smooth().save(tmp_path / "w.jpg", icc_profile=wide, quality=95)
    red, green, blue = smooth().split()
    assert difference(open_image(tmp_path / "w.jpg"), Image.merge("RGB", (blue, green, red))) < 6


def _swapped(profile: bytes) -> bytes:
    """The profile with the tags of its red and blue primaries exchanged, and another name."""
    swapped = profile.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")
    return swapped.replace("sRGB".encode("utf-16-be"), "xRGB".encode("utf-16-be"))


def _linear() -> bytes:
    """sRGB's primaries with straight curves, named sRGB all the same."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for name in (b"rTRC", b"gTRC", b"bTRC"):
        entry = profile.index(name)
        start = int.from_bytes(profile[entry + 4 : entry + 8], "big")
        assert profile[start : start + 4] == b"para"
        profile[start + 8 : start + 10] = (0).to_bytes(2, "big")  # y = x^g
        profile[start + 12 : start + 16] = (1 << 16).to_bytes(4, "big")
    return bytes(profile)


def test_curves_decide_what_is_srgb_not_names(tmp_path: Path) -> None:
    grey = Image.new("RGB", SIZE, (55, 55, 55))
    grey.save(tmp_path / "linear.png", icc_profile=_linear())
    level = open_image(tmp_path / "linear.png").getpixel((4, 4))
    assert all(abs(channel - 128) <= 1 for channel in level)
    renamed = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    renamed = renamed.replace("sRGB".encode("utf-16-be"), "xRGB".encode("utf-16-be"))
    smooth().save(tmp_path / "renamed.png", icc_profile=renamed)
    assert open_image(tmp_path / "renamed.png").tobytes() == smooth().tobytes()


@pytest.mark.parametrize("profile", [b"nonsense", b""])
def test_damaged_or_foreign_profiles_are_passed_over(tmp_path: Path, profile: bytes) -> None:
    smooth().save(tmp_path / "a.png", icc_profile=profile or _cmyk_lookalike())
    assert open_image(tmp_path / "a.png").tobytes() == smooth().tobytes()


def _cmyk_lookalike() -> bytes:
    """sRGB's profile that says it is one of grey."""
    whole = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return whole[:16] + b"GRAY" + whole[20:]


@pytest.mark.parametrize("content", [b"this is text", b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes.jpg").write_bytes(content)
    with pytest.raises(FileError, match=r"notes\.jpg.*Replace or remove") as told:
        open_image(tmp_path / "notes.jpg")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.avif", "a.gif", "a.bmp"])
def test_a_truncated_image_is_named(tmp_path: Path, name: str) -> None:
    photo(0).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileError, match=rf"{name}.*(damaged|format)"):
        open_image(tmp_path / name)


def test_an_image_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    """The pixels are not even there: the header alone is enough to refuse."""
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    head = (tmp_path / "bomb.png").read_bytes()[:200]
    for name, content in (("bomb.png", None), ("head.png", head)):
        if content:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(FileError, match=rf"{name}.*million pixels.*Scale it down"):
            open_image(tmp_path / name)


def test_a_text_bomb_is_refused(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    smooth().save(tmp_path / "a.png", pnginfo=info)
    whole = (tmp_path / "a.png").read_bytes()
    body = b"zTXtkey\0\0" + zlib.compress(b"a" * 80_000_000)
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(whole[:33] + chunk + whole[33:])
    with pytest.raises(FileError, match=r"a\.png.*damaged"):
        open_image(tmp_path / "a.png")


def test_names_cannot_write_to_the_terminal() -> None:
    assert printable("a\x1b[31m\nb\udcff") == "a�[31m b�"
    with pytest.raises(FileError) as told:
        open_image(b"x", name="evil\x1b[2J\n.png")
    assert "\x1b" not in str(told.value)


def test_bytes_are_opened_like_files() -> None:
    file = io.BytesIO()
    smooth().save(file, "PNG")
    assert open_image(file.getvalue(), name="row 1").tobytes() == smooth().tobytes()


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    smooth().save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    try:
        (tmp_path / "a.png").read_bytes()
        pytest.skip("this user may read everything")
    except PermissionError:
        pass
    with pytest.raises(FileError, match="may not be read"):
        open_image(tmp_path / "a.png")


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "._ghost.jpg").write_bytes(b"what macOS leaves on other disks")
    with pytest.raises(UserError, match="holds no images"):
        find_images(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        find_images(tmp_path / "nowhere")


def test_square_keeps_the_middle() -> None:
    image = Image.new("RGB", (96, 32), "red")
    image.paste((0, 0, 255), (32, 0, 64, 32))
    for turned in (image, image.rotate(90, expand=True)):
        small = square(turned, 32)
        assert small.size == (32, 32)
        assert small.getcolors() == [(32 * 32, (0, 0, 255))]


def test_masks_beside_photos_are_no_photos_of_the_subject(tmp_path: Path) -> None:
    from orthodiff.evaluation.subject_folder import read_subject

    for name in ("00.png", "01.jpg"):
        smooth().save(tmp_path / name)
    Image.new("L", SIZE, 255).save(tmp_path / "00-masklabel.png")
    subject = read_subject(tmp_path, instance_prompt="a photo of sks dog")
    assert len(subject.photos) == 2
