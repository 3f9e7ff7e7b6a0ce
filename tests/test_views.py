"""Buckets and views: pure functions of sizes, names and seeds, with nothing stretched or lost."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from orthodiff.errors import UserError
from orthodiff.training.data.buckets import (
    make_buckets,
    nearest_bucket,
    parse_buckets,
    whole_size,
)
from orthodiff.training.data.views import View, Views

SIDES = st.integers(8, 4000)
BUCKETS = make_buckets(512, step=64, smallest=256, largest=1024, factor=8)
VIEWS = Views(512, BUCKETS, 8)


def draw_image(size: tuple[int, int]) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@given(
    resolution=st.integers(4, 160).map(lambda n: 8 * n),
    step=st.sampled_from([8, 16, 64]),
    factor=st.sampled_from([4, 8]),
)
def test_buckets_keep_the_area_and_are_multiples(resolution: int, step: int, factor: int) -> None:
    smallest, largest = resolution // 2, resolution * 2
    buckets = make_buckets(resolution, step=step, smallest=smallest, largest=largest, factor=factor)
    assert (resolution, resolution) in buckets
    for width, height in buckets:
        assert (height, width) in buckets
        assert width * height <= resolution**2
        assert smallest <= min(width, height) <= max(width, height) <= largest
        assert width % factor == height % factor == 0


def test_buckets_are_those_kohya_users_know() -> None:
    known = {(512, 512), (576, 448), (640, 384), (704, 320), (768, 320), (832, 256), (1024, 256)}
    assert {(width, height) for width, height in BUCKETS if width >= height} >= known


@given(width=SIDES, height=SIDES)
def test_no_bucket_is_nearer_in_shape(width: int, height: int) -> None:
    chosen = nearest_bucket((width, height), BUCKETS)
    distances = [abs(math.log(width / height * h / w)) for w, h in BUCKETS]
    assert abs(math.log(width / height * chosen[1] / chosen[0])) == pytest.approx(min(distances))


@given(width=SIDES, height=SIDES)
def test_uncut_images_keep_shape_and_area(width: int, height: int) -> None:
    if max(width, height) > 4 * min(width, height):
        return
    wide, high = whole_size((width, height), 512, step=8)
    assert wide % 8 == high % 8 == 0
    assert wide * high == pytest.approx(512**2, rel=0.05)
    assert wide / high == pytest.approx(width / height, rel=0.05)


@pytest.mark.parametrize("text", ["", "512", "512,512;", "a,b", "512,512,512", "512x512", "0,8"])
def test_lists_of_buckets_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="height,width"):
        parse_buckets(text)


def test_lists_of_buckets_are_read_as_diffusers_does() -> None:
    from diffusers.training_utils import parse_buckets_string

    text = "512,768; 768 ,512;640,640"
    assert parse_buckets(text, factor=8) == tuple((w, h) for h, w in parse_buckets_string(text))
    with pytest.raises(UserError, match=r"770 pixels.*multiples of 8.*Use 768"):
        parse_buckets("512,770", factor=8)


def test_bounds_that_leave_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="leave out the square"):
        make_buckets(512, step=64, smallest=600, largest=1024, factor=8)
    with pytest.raises(UserError, match=r"bucket_reso_steps.*multiples of 8"):
        make_buckets(512, step=12, smallest=256, largest=1024, factor=8)


@given(width=SIDES, height=SIDES, crop=st.sampled_from(["center", "random"]), flip=st.booleans())
def test_views_lie_inside_and_are_not_stretched(
    width: int, height: int, crop: str, flip: bool
) -> None:
    views = Views(512, BUCKETS, 8, crop=crop, count=3, flip=flip)  # type: ignore[arg-type]
    for view in views.of("a", (width, height)):
        left, top, right, bottom = view.box
        assert 0 <= left < right <= width + 1e-6
        assert 0 <= top < bottom <= height + 1e-6
        assert (right - left) / (bottom - top) == pytest.approx(view.size[0] / view.size[1])
        assert min(width - (right - left), height - (bottom - top)) == pytest.approx(0, abs=1e-6)


def test_views_depend_on_seed_and_name_only() -> None:
    def corners(seed: int, name: str) -> list[tuple[int, int]]:
        views = Views(64, ((64, 64),), 8, crop="random", count=6, seed=seed)
        return [view.corner for view in views.of(name, (64, 640))]

    assert corners(0, "a") == corners(0, "a")
    assert corners(0, "a") != corners(0, "b")
    assert corners(0, "a") != corners(1, "a")
    assert len(set(corners(0, "a"))) == 6


def test_only_chance_makes_several_views() -> None:
    assert len(VIEWS.of("a", (700, 400))) == 1
    assert len(Views(512, BUCKETS, 8, count=4).of("a", (700, 400))) == 1
    assert len(Views(512, ((512, 512),), 8, crop="random", count=4).of("a", (600, 600))) == 1
    assert len(Views(512, BUCKETS, 8, count=4, jitter=0.1).of("a", (700, 400))) == 4
    assert len(Views(512, BUCKETS, 8, crop="random", count=4, flip=True).of("a", (700, 400))) == 8


def test_the_middle_square_is_pillows() -> None:
    image = draw_image((70, 50))
    (view,) = Views(32, ((32, 32),), 4).of("a", image.size)
    wanted = ImageOps.fit(image, (32, 32), Image.Resampling.LANCZOS)
    difference = np.asarray(view.see(image), int) - np.asarray(wanted, int)
    assert abs(difference).max() <= 1


def test_an_image_of_the_right_size_is_left_alone() -> None:
    image = draw_image((64, 96))
    for crop in ("center", "random", "none"):
        views = Views(78, ((64, 96), (96, 64)), 8, crop=crop)  # type: ignore[arg-type]
        assert views.of("a", image.size)[0].see(image).tobytes() == image.tobytes()


def test_a_mirrored_view_mirrors_and_says_where_it_was_cut() -> None:
    plain, mirrored = Views(32, ((32, 32),), 4, crop="random", flip=True).of("a", (96, 32))
    image = draw_image((96, 32))
    assert mirrored.see(image).tobytes() == ImageOps.mirror(plain.see(image)).tobytes()
    top, left = plain.corner
    assert top == 0
    assert mirrored.corner == (0, 96 - 32 - left)


def test_the_corner_is_in_pixels_of_the_scaled_image() -> None:
    """As SDXL is told it: after scaling, before cutting, top before left."""
    (view,) = Views(64, ((64, 64),), 8).of("a", (256, 128))
    assert view.corner == (0, 32)


def test_a_tint_changes_colours_within_its_strength() -> None:
    image = Image.new("RGB", (32, 32), (100, 100, 100))
    views = Views(32, ((32, 32),), 4, count=8, jitter=0.2).of("a", image.size)
    levels = {view.see(image).getpixel((0, 0)) for view in views}
    assert len(levels) > 3
    assert all(80 <= level <= 120 for pixel in levels for level in pixel)  # type: ignore[union-attr]
    assert View((32, 32), (32, 32), (0, 0, 32, 32)).see(image).tobytes() == image.tobytes()


SQUARES = [((64, 96), (0, 16, 64, 80)), ((96, 64), (16, 0, 80, 64))]


@pytest.mark.parametrize(("original", "box"), SQUARES)
def test_a_centre_crop_is_cut_in_the_middle(
    original: tuple[int, int], box: tuple[float, float, float, float]
) -> None:
    (view,) = Views(32, ((32, 32),), 8).of("a", original)
    assert view.box == box
    assert view.corner == (box[1] // 2, box[0] // 2)
    spot = Image.new("L", original)
    spot.paste(255, (original[0] // 2 - 1, original[1] // 2 - 1, *(s // 2 + 1 for s in original)))
    left, top, right, bottom = view.cut(spot, Image.Resampling.BOX).getbbox() or (0, 0, 0, 0)
    assert (left + right, top + bottom) == (32, 32)  # what was in the middle still is


def test_of_buckets_of_one_shape_the_largest_is_taken() -> None:
    buckets = ((256, 256), (512, 512), (384, 384), (512, 256))
    for order in (buckets, buckets[::-1]):
        assert nearest_bucket((100, 100), order) == (512, 512)
        assert nearest_bucket((200, 100), order) == (512, 256)
    mirrored = ((640, 384), (384, 640))  # a square is as far from either: the first listed
    assert nearest_bucket((100, 100), mirrored) == (640, 384)
