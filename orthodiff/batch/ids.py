"""What an image is called: an id out of all that determines it, a file name out of a template."""

from __future__ import annotations

import hashlib
import json
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orthodiff.batch.base_card import BaseCard
from orthodiff.batch.rows.row import Row
from orthodiff.components.registry import COMPONENTS, components_in
from orthodiff.errors import UserError, nearest

FILES = ("init_image", "mask", "condition", "condition_from")
"""Fields that name files, of which the content counts."""
IN_TEMPLATE = (
    "index", "id", "prompt", "negative_prompt", "seed", "steps", "guidance", "width", "height",
    "sampler", "adapter", "strength", "checkpoint",
)  # fmt: skip
LONGEST = 180
"""Bytes of a file name's stem: file systems take 255, and endings and `_overlay` are added."""


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file.

    Raises:
        UserError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UserError(f"`{path}` cannot be read ({error.strerror}). Check the path.") from error
    return digest.hexdigest()


def adapter_sha256(folder: str) -> str:
    """One sum over all files of all parts that an adapter's folder holds.

    Raises:
        UserError: it holds no adapter.
    """
    place = Path(folder)
    files = {
        file
        for name in components_in(place)
        for file in COMPONENTS[name].place(place).glob("*")
        if file.suffix in (".safetensors", ".json") and file.is_file()
    }
    digest = hashlib.sha256()
    for file in sorted(files):
        if file.suffix == ".safetensors" or file.name in ("adapter_config.json", "control.json"):
            digest.update(f"{file.relative_to(place)} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


class Hashes:
    """Sums over adapters and images, each file read once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}

    def adapter(self, folder: str) -> str:
        """The sum over an adapter's files."""
        return self._remember("adapter", folder, adapter_sha256)

    def file(self, path: str) -> str:
        """The sum over a file."""
        return self._remember("file", path, lambda name: sha256_of(Path(name)))

    def _remember(self, kind: str, name: str, compute: Any) -> str:
        if (kind, name) not in self._known:
            self._known[kind, name] = compute(name)
        return self._known[kind, name]


def image_id(row: Row, card: BaseCard, hashes: Hashes, settings: Mapping[str, Any]) -> str:
    """16 hexadecimal digits out of all that determines the image of a resolved row.

    `settings` are those of the batch that change images, such as how control images are made. Where
    files lie does not count, only what is in them.

    Raises:
        UserError: an adapter or an image cannot be read.
    """
    content = row.model_dump(mode="json", exclude={"adapter", "checkpoint", *FILES})
    content["adapter"] = [hashes.adapter(folder) for folder in row.adapter]
    for name in FILES:
        path = getattr(row, name)
        content[name] = hashes.file(path) if path else None
    content["base"], content["dtype"] = card.sha256, card.dtype
    content["settings"] = dict(settings)
    return json_digest(content)[:16]


def json_digest(content: Any) -> str:
    """The SHA-256 of JSON, keys in order."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class FileNames:
    """File names without ending out of a template such as `{index:05d}-{prompt:.40}-{seed}`."""

    def __init__(self, template: str) -> None:
        self.template = template
        self._check()

    def _check(self) -> None:
        """Raises UserError for a template that names nothing, or no file."""
        try:
            parts = list(string.Formatter().parse(self.template))
        except ValueError as error:
            raise UserError(
                f"`name` is {self.template!r}, which is no template: {error}."
            ) from error
        for _, name, _, _ in parts:
            if name is not None and name not in IN_TEMPLATE:
                raise UserError(
                    f"`name` has {{{name}}}, which is not known.{nearest(name, IN_TEMPLATE)}"
                )
        pieces = Path(self.template).parts
        if not self.template or Path(self.template).is_absolute() or ".." in pieces:
            raise UserError(
                f"`name` is {self.template!r}, but names lie within the output folder. Use for "
                "example {index:05d}-{prompt:.40}-{seed}."
            )

    def of(self, rows: Sequence[Row], ids: Sequence[str]) -> list[str]:
        """A name for each row; where several would share one, their ids are added.

        Raises:
            UserError: a value does not fit its format.
        """
        stems = [self._one(n, row, i) for n, (row, i) in enumerate(zip(rows, ids, strict=True))]
        folded = [stem.casefold() for stem in stems]
        shared = {stem for stem, times in Counter(folded).items() if times > 1}
        return [
            f"{stem}-{each}" if fold in shared else stem
            for stem, fold, each in zip(stems, folded, ids, strict=True)
        ]

    def _one(self, index: int, row: Row, each: str) -> str:
        adapter = "+".join(Path(folder).name for folder in row.adapter) or "base"
        values = {
            "index": index, "id": each, "prompt": _plain(row.prompt), "seed": row.seed,
            "negative_prompt": _plain(row.negative_prompt), "steps": row.num_inference_steps,
            "guidance": row.guidance_scale, "width": row.width, "height": row.height,
            "sampler": row.sampler or "default", "adapter": _plain(adapter),
            "strength": row.strength, "checkpoint": _plain(row.checkpoint or "last"),
        }  # fmt: skip
        try:
            written = self.template.format(**values)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise UserError(
                f"`name` is {self.template!r}, which does not work: {error}."
            ) from error
        return "/".join(_short(part) for part in written.split("/"))


def _plain(text: str) -> str:
    """Letters and digits of any script, all else as single dashes."""
    words = "".join(letter if letter.isalnum() or letter in "._+" else " " for letter in text)
    return "-".join(words.split()).strip(".")


def _short(part: str) -> str:
    """A part of a path that every file system takes."""
    safe = "".join(c if c.isprintable() and c not in '<>:"\\|?*' else "-" for c in part)
    cut = safe.encode("utf-8", "ignore")[:LONGEST].decode("utf-8", "ignore")
    return cut.strip(" .-") or "image"
