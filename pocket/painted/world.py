"""The pocket world: captioned images of things in places, painted from a seed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pocket.painted.appearances import Appearance, random_appearance, sprite
from pocket.painted.grounds import GROUNDS

RARE_TOKENS = ("sks", "zwx", "ohwx")
"""Words without a meaning of their own: pretraining sprinkles them, personalisation uses them."""


@dataclass(frozen=True)
class Pose:
    """Where and how a sprite stands: middle and side as shares of the image, tilt in degrees."""

    x: float
    y: float
    side: float
    tilt: float
    flip: bool


@dataclass(frozen=True)
class Painting:
    """One image of the world with everything that is known about it."""

    image: np.ndarray  # (size, size, 3) uint8
    mask: np.ndarray  # (size, size) uint8, 255 where the subject is
    caption: str
    appearance: Appearance
    context: str
    pose: Pose


def paint(seed: int, index: int, *, size: int = 64) -> Painting:
    """Image `index` of the pretraining stream `seed`; held-out looks never appear."""
    rng = np.random.default_rng((seed, index))
    appearance = random_appearance(rng)
    while appearance.held_out:
        appearance = random_appearance(rng)
    context = list(GROUNDS)[rng.integers(len(GROUNDS))]
    return paint_appearance(appearance, context, rng, size=size)


def paint_appearance(
    appearance: Appearance, context: str, rng: np.random.Generator, *, size: int = 64
) -> Painting:
    """Paint a given look in a given context, in a random pose, with a random caption."""
    pose = random_pose(rng)
    image, mask = compose(appearance, context, pose, rng, size=size)
    return Painting(
        image, mask, random_caption(appearance, context, rng), appearance, context, pose
    )


def random_pose(rng: np.random.Generator) -> Pose:
    return Pose(
        x=rng.uniform(0.42, 0.58),
        y=rng.uniform(0.44, 0.54),
        side=rng.uniform(0.98, 1.25),
        tilt=rng.normal() * 8,
        flip=bool(rng.random() < 0.5),
    )


def compose(
    appearance: Appearance, context: str, pose: Pose, rng: np.random.Generator, *, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lay the look's sprite with a soft shadow over the context's ground: `(image, mask)`."""
    ground = GROUNDS[context](rng, size).astype(np.float32)
    placed = _place(sprite(appearance), pose, size)
    alpha = placed[..., 3:] / 255
    shift = max(1, round(size * 0.03))
    shadow = cv2.GaussianBlur(np.roll(placed[..., 3], (shift, shift), (0, 1)), (0, 0), size * 0.025)
    image = ground * (1 - 0.4 * shadow[..., None] / 255)
    image = image * (1 - alpha) + placed[..., :3]  # premultiplied
    mask = placed[..., 3]
    return np.clip(image, 0, 255).astype(np.uint8), mask.astype(np.uint8)


def _place(sprite_rgba: np.ndarray, pose: Pose, size: int) -> np.ndarray:
    """Scale, flip, tilt and move a sprite onto an empty image; premultiplied float RGBA."""
    side = max(4, round(pose.side * size))
    layer = sprite_rgba.astype(np.float32)
    layer[..., :3] *= layer[..., 3:] / 255
    shrink = cv2.INTER_AREA if side < layer.shape[0] else cv2.INTER_CUBIC
    layer = cv2.resize(layer, (side, side), interpolation=shrink)
    if pose.flip:
        layer = layer[:, ::-1]
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), pose.tilt, 1.0)
    turn[:, 2] += (pose.x * size - side / 2, pose.y * size - side / 2)
    return np.clip(cv2.warpAffine(np.ascontiguousarray(layer), turn, (size, size)), 0, 255)


def article(words: str) -> str:
    return "an" if words[0] in "aeiou" else "a"


def random_caption(appearance: Appearance, context: str, rng: np.random.Generator) -> str:
    """A caption as people write prompts: mostly complete, now and then leaving something out."""
    pattern = appearance.pattern if rng.random() < 0.85 else None
    colour = appearance.colour if rng.random() < 0.85 else None
    accessory = appearance.accessory if rng.random() < 0.9 else None
    subject = Appearance(appearance.name, colour, pattern, accessory).phrase
    if rng.random() < 0.12:
        subject = f"{RARE_TOKENS[rng.integers(len(RARE_TOKENS))]} {subject}"
        head = "" if rng.random() < 0.5 else "a "
    else:
        head = f"{article(subject)} "
    opening = ("a photo of ", "", "a picture of ")[rng.integers(3)]
    place = f" {context}" if rng.random() < 0.92 else ""
    if rng.random() < 0.3:
        place = shortened(place)
    return f"{opening}{head}{subject}{place}"


def shortened(place: str) -> str:
    """A context as people say it in fewer words: "on a wooden floor" for "on top of ..."."""
    for long, short in ((" floating", ""), (" on top of ", " on "), (" in a forest", ""),
                        (" around it", ""), (" a tree and", "")):  # fmt: skip
        place = place.replace(long, short)
    return place


def subject_appearance(number: int) -> Appearance:
    """The held-out look of subject `number`: coloured and patterned, some wearing something."""
    rng = np.random.default_rng((7, number))
    appearance = random_appearance(rng)
    while not appearance.held_out:
        appearance = random_appearance(rng)
    return appearance


def paint_subject(number: int, count: int, *, size: int = 64) -> list[Painting]:
    """`count` images of one subject, each in another context."""
    rng = np.random.default_rng((11, number))
    contexts = rng.permutation(list(GROUNDS))
    appearance = subject_appearance(number)
    return [
        paint_appearance(appearance, str(contexts[k % len(contexts)]), rng, size=size)
        for k in range(count)
    ]


def write_subject(number: int, count: int, out: Path, *, size: int = 64) -> dict[str, str]:
    """Write a subject's images and its `subject.json` into a folder; returns the latter."""
    out.mkdir(parents=True, exist_ok=True)
    appearance = subject_appearance(number)
    for k, painting in enumerate(paint_subject(number, count, size=size)):
        Image.fromarray(painting.image).save(out / f"{k:02d}.png")
    card = {
        "name": out.name,
        "class": appearance.name,
        "instance_prompt": f"a photo of sks {appearance.name}",
        "caption": f"a photo of {article(appearance.phrase)} {appearance.phrase}",
    }
    (out / "subject.json").write_text(json.dumps(card, indent=1) + "\n")
    return card
