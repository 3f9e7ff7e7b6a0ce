"""Pictures as people have them become upright RGB squares, or are refused by name."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orthodiff.errors import UserError
from orthodiff.pictures import find_pictures, open_picture
from training.dataset import load_examples

REAL = Path(__file__).parent.parent.parent / "shared" / "dreambooth" / "dog6"


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    picture = Image.new("RGB", (40, 20), "red")
    picture.paste("blue", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    upright = open_picture(tmp_path / "turned.jpg")
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 5))[2] > 200


def test_transparent_becomes_white(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert open_picture(tmp_path / "a.png").getpixel((4, 4)) == (255, 255, 255)


def test_palette_transparency_becomes_white(tmp_path: Path) -> None:
    picture = Image.new("P", (8, 8), 0)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.save(tmp_path / "a.png", transparency=0)
    assert open_picture(tmp_path / "a.png").getpixel((4, 4)) == (255, 255, 255)


def test_sixteen_bit_grey_is_scaled(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 32896, dtype=np.uint16)).save(tmp_path / "a.png")
    assert open_picture(tmp_path / "a.png").getpixel((4, 4)) == (128, 128, 128)


def test_cmyk_keeps_its_colour(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    red, green, blue = open_picture(tmp_path / "a.jpg").getpixel((4, 4))
    assert red > 200
    assert max(green, blue) < 60


def test_gif_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert open_picture(tmp_path / "a.gif").getpixel((4, 4)) == (255, 0, 0)


def test_examples_are_the_pictures_of_a_folder(tmp_path: Path) -> None:
    Image.new("RGB", (50, 30), "white").save(tmp_path / "a.png")
    (tmp_path / "subject.json").write_text("{}")
    (example,) = load_examples(tmp_path, "sks dog")
    assert example.image.size == (50, 30)
    assert example.caption == "sks dog"


@pytest.mark.parametrize("content", [b"this is text", b""])
def test_a_file_that_is_no_picture_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes.jpg").write_bytes(content)
    with pytest.raises(UserError, match=r"notes\.jpg.*Replace or remove"):
        load_examples(tmp_path, "sks dog")


def test_a_truncated_picture_is_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut\.jpg.*damaged"):
        open_picture(tmp_path / "cut.jpg")


def test_a_picture_bomb_is_refused(tmp_path: Path) -> None:
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    with pytest.raises(UserError, match=r"bomb\.png.*pixels"):
        open_picture(tmp_path / "bomb.png")


def test_folders_without_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no pictures"):
        find_pictures(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        find_pictures(tmp_path / "nowhere")


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/dreambooth/dog6")
def test_real_photos_load() -> None:
    examples = load_examples(REAL, "a photo of sks dog")
    assert len(examples) == 5
    assert all(np.asarray(example.image).std() > 12 for example in examples)
