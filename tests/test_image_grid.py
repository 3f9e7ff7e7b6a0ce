"""Image grids show every letter that a font here has, and lose no text in silence."""

import logging

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from orthodiff.evaluation import fonts
from orthodiff.evaluation.fonts import font_for
from orthodiff.evaluation.image_grid import GridRow, _wrap, comparison, contact_sheet

LATIN, ACCENTS, CYRILLIC, JAPANESE = "a dog", "café à Malmö", "фото собаки", "犬の写真"


def box(font) -> bytes:
    """What a font draws for a letter that none has."""
    return bytes(font.getmask("\uffff"))


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch):
    """No font found before counts, nor what this test pretends."""
    fonts._choose.cache_clear()
    monkeypatch.setattr(fonts, "_installed", lambda: ())
    yield
    fonts._choose.cache_clear()


@pytest.mark.parametrize("text", [LATIN, ACCENTS, CYRILLIC])
def test_letters_are_drawn_as_themselves_where_a_font_has_them(text: str) -> None:
    if not fonts._installed():
        pytest.skip("no fonts are installed here")
    shown, font = font_for(text, 16)
    assert shown == text
    assert all(bytes(font.getmask(letter)) != box(font) for letter in text if letter != " ")


def test_plain_text_keeps_the_font_it_had() -> None:
    _, font = font_for(LATIN, 15)
    assert font.getname() == ImageFont.load_default(15).getname()


def test_what_no_font_has_is_said_and_no_box_is_drawn(fresh, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        assert font_for(f"é {JAPANESE}", 14)[0] == "e ????"
        font_for(f"é {JAPANESE}", 20)
    [record] = caplog.records
    assert "No font here has" in record.getMessage()
    assert "犬" in record.getMessage()


def test_the_grid_shows_the_prompt_in_its_letters() -> None:
    """The same prompt in other letters gives another image: boxes would all be alike."""
    if not fonts._installed():
        pytest.skip("no fonts are installed here")
    image = Image.new("RGB", (32, 32), "red")

    def grid(prompt: str) -> np.ndarray:
        rows = [GridRow("base", [image])]
        return np.asarray(
            comparison(title="t", subtitle="s", photos=[], prompts=[prompt], rows=rows)
        )

    assert (grid("фото") != grid("рука")).any()


def test_long_words_are_broken_within() -> None:
    draw = ImageDraw.Draw(Image.new("RGB", (10, 10)))
    font = ImageFont.load_default(14)
    lines = _wrap("a " + "x" * 50 + " b", lambda line: draw.textlength(line, font) <= 100)
    assert "".join(lines).replace(" ", "") == "a" + "x" * 50 + "b"
    assert all(draw.textlength(line, font) <= 100 for line in lines)


def test_a_contact_sheet_keeps_groups_together() -> None:
    images = [Image.new("RGB", (200, 200), (n * 20, 0, 0)) for n in range(6)]
    sheet = contact_sheet(iter(images), len(images), cell=200, multiple=3)
    step = 200 + 8
    places = [(8 + n % 3 * step + 100, 8 + n // 3 * step + 100) for n in range(6)]
    assert [sheet.getpixel(place)[0] for place in places] == [n * 20 for n in range(6)]
