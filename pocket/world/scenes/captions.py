"""Captions in several forms: what is seen, how it looks, from where, and where it is."""

from __future__ import annotations

import numpy as np

from pocket.painted.world import RARE_TOKENS, article, shortened
from pocket.world.rendering.camera import View
from pocket.world.scenes.materials import Appearance


def random_caption(
    word: str, appearance: Appearance, view: View, context: str, rng: np.random.Generator
) -> str:
    """A caption as people write prompts: mostly complete, now and then leaving something out."""
    colour = appearance.colour if rng.random() < 0.85 else None
    finish = appearance.finish if rng.random() < 0.9 else None
    subject = f"{Appearance(colour, finish).words} {word}".strip()
    if rng.random() < 0.12:
        subject = f"{RARE_TOKENS[rng.integers(len(RARE_TOKENS))]} {subject}"
        head = "" if rng.random() < 0.5 else "a "
    else:
        head = f"{article(subject)} "
    opening = ("a photo of ", "", "a picture of ")[rng.integers(3)]
    seen = f" {side(view)}" if rng.random() < 0.15 else ""
    place = f" {context}" if rng.random() < 0.92 else ""
    place = shortened(place) if rng.random() < 0.3 else place
    return f"{opening}{head}{subject}{seen}{place}"


SIDES = ("from the front", "from the side", "from behind", "from above")


def side(view: View) -> str:
    """From where a view shows the individual, in words."""
    if view.elevation > 27:
        return SIDES[3]
    turn = abs((view.azimuth + 180) % 360 - 180)
    return SIDES[0] if turn < 40 else SIDES[1] if turn < 125 else SIDES[2]
