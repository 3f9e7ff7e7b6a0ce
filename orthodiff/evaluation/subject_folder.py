"""A subject to evaluate: its photos, and the words that name it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from orthodiff.errors import UserError
from orthodiff.io.images import find_images, open_image, square


@dataclass(frozen=True)
class Subject:
    """Who is evaluated: `phrase` with the rare token ("sks dog"), `class_word` without it."""

    phrase: str
    class_word: str
    photos: list[Image.Image]


def read_subject(
    folder: Path,
    *,
    instance_prompt: str | None = None,
    class_word: str | None = None,
) -> Subject:
    """The subject's photos and words, with what `subject.json` leaves unsaid.

    Raises:
        UserError: no photos, nothing says what the subject is called, or `subject.json` is damaged.
    """
    photos = [square(open_image(path), 512) for path in find_images(folder)]
    path = folder / "subject.json"
    known = _read_card(path) if path.is_file() else {}
    prompt = instance_prompt or known.get("instance_prompt")
    if not prompt:
        raise UserError(
            f"Neither the adapter nor `{path}` says how the subject is called. "
            'Add --instance_prompt, for example "a photo of sks dog".'
        )
    phrase = phrase_of(prompt)
    word = class_word or known.get("class") or class_of(phrase)
    return Subject(phrase, word, photos)


def class_of(phrase: str) -> str:
    """The subject's class: "sks dog" -> "dog"; a single word is its own."""
    return phrase.partition(" ")[2] or phrase


def with_class(prompt: str, word: str) -> str:
    """Put the class word for {}, with an article that the rare token lacks: "a photo of a dog"."""
    article = "an" if word[:1].lower() in "aeiou" else "a"
    return prompt.replace("of {}", f"of {article} {word}").replace("{}", word)


def _read_card(path: Path) -> dict[str, str]:
    try:
        card = json.loads(path.read_text("utf-8"))
        return {name: str(card[name]) for name in ("instance_prompt", "class") if card.get(name)}
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"`{path}` cannot be read ({error}). Correct or remove it.") from error


def phrase_of(instance_prompt: str) -> str:
    """The words that name the subject: "a photo of sks dog" -> "sks dog"."""
    phrase = instance_prompt.strip()
    for opening in ("a photo of ", "photo of ", "a picture of ", "an image of "):
        if phrase.lower().startswith(opening):
            phrase = phrase[len(opening) :]
            break
    for article in ("a ", "an ", "the "):
        if phrase.lower().startswith(article):
            return phrase[len(article) :]
    return phrase
