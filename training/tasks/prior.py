"""Class images for prior preservation (arXiv:2208.12242): given, or generated once and kept."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

from PIL import Image

from orthodiff.devices import DTYPES
from orthodiff.errors import FileError, UserError
from orthodiff.io.atomic import can_be_written, share_file
from orthodiff.io.images import list_images, open_image
from orthodiff.models import Base, load_base
from orthodiff.sampling import GenerateRequest, generate

from ..data.dataset import Examples, OpenedImages, open_record
from ..data.example import Example
from ..data.readers import kohya
from ..data.readers.layouts import find, folders_with_images, layout_of
from ..data.readers.records import DataRequest, Listing, Record
from ..events.failures import is_out_of_memory
from ..run.shares import Shares

PRECISIONS = {"no": None, **DTYPES}
_GENERATED = re.compile(r"class-\d{5}\.png")


@dataclass(frozen=True)
class ClassImages:
    """The class images of a run: `count` of them, in `folder` or kept in `cache_dir`.

    The folder has any layout that training images may have. What it lacks is generated from
    `prompt`, number `i` with `seed + i`, `batch_size` at once in `precision`.
    """

    prompt: str
    count: int
    cache_dir: Path
    folder: Path | None = None
    seed: int = 0
    batch_size: int = 4
    precision: str | None = None
    revision: str | None = None
    variant: str | None = None

    def given(self) -> list[Record]:
        """The class images that the user gave, as many as are asked for; all under the prompt.

        Raises:
            UserError: the folder holds none itself, but folders that do; or one cannot be used.
        """
        own = [r for r in self._listing().records if not _GENERATED.fullmatch(r.name)]
        plain = {"caption": self.prompt, "has_own_caption": False, "repeats": 1}
        return [replace(record, **plain) for record in own[: self.count]]  # type: ignore[arg-type]

    def opened(self) -> Examples:
        """Those given, opened to see that they can be used; kept as long as there is room.

        Raises:
            UserError: see `given`; FileError: an image cannot be used.
        """
        records, opened = self.given(), OpenedImages()
        for record in records:
            opened.add_if_room(open_record(record, DataRequest(), is_prior=True))
        return Examples(records, DataRequest(), is_prior=True, opened=opened)

    def notes(self) -> list[str]:
        """What lies in the folder, or stands there, and is not read."""
        listing = self._listing()
        notes = [*listing.remarks]
        if any(record.has_own_caption for record in listing.records):
            notes.append("All are learned under --class_prompt, not under their own captions.")
        if any(record.repeats != 1 for record in listing.records):
            notes.append("Each is seen equally often: repeats have no effect.")
        return [f"Class images: {note}" for note in notes]

    def _listing(self) -> Listing:
        folder = self.folder
        if folder is None or not folder.is_dir():
            return Listing("nothing")
        request, layout = DataRequest(folder=folder, caption=self.prompt), layout_of(folder)
        if layout is None and not folders_with_images(folder):
            return Listing("nothing")
        if layout == "folder" and _only_generated(folder) and kohya.leaves(folder):
            listing = kohya.read_tree(folder, request)  # earlier versions generated beside them
        else:
            listing = find(request)
        if listing.problems:
            raise UserError(f"`class_data_dir`: {listing.problems[0]}")
        return listing

    def check(self, *, subject_folder: Path | None = None) -> None:
        """Refuse class images that could not be used; they may still be missing.

        Raises:
            UserError: the folder is a file, or the subject's, or lacks some and cannot be written.
        """
        folder = self.folder
        if folder is None:
            return
        if folder.exists() and not folder.is_dir():
            raise UserError(f"`class_data_dir` is `{folder}`, which is a file. Give a folder.")
        if subject_folder and folder.resolve() == subject_folder.resolve():
            raise UserError(
                f"`class_data_dir` is `{folder}`, where the subject's images are. Give the class a "
                "folder of its own."
            )
        count = self.count - len(self.given())
        missing = [i for i in range(count) if not (folder / _name(i)).exists()]
        if missing and _takes_generated(folder) and not can_be_written(folder):
            raise UserError(
                f"{len(missing)} of {self.count} class images have to be generated, but `{folder}` "
                "cannot be written. Choose another --class_data_dir, or lower --num_class_images."
            )

    def examples(
        self,
        base: Base,
        *,
        resolution: int,
        shares: Shares | None = None,
        opened: OpenedImages | None = None,
    ) -> Examples:
        """All class images; the base must not be adapted yet when some must be generated.

        Those that are missing are shared out over the processes, whose folders may be apart. Those
        already `opened` are not decoded again.

        Raises:
            UserError: one cannot be used, or memory ran out.
        """
        given = self.given()
        count = self.count - len(given)
        folder = self.folder
        if folder is None or not _takes_generated(folder):
            folder = self._kept_at(base, resolution)
        generated = [folder / _name(number) for number in range(count)]
        shares, opened = shares or Shares(), opened or OpenedImages()
        known = [self._opened(path) for path in generated]
        for example in filter(None, known):
            opened.add_if_room(example)
        missing = shares.gather([n for n, example in enumerate(known) if example is None])
        if any(missing):
            folder.mkdir(parents=True, exist_ok=True)
            self._complete(generated, missing, base, resolution, shares)
        records = [*given, *(Record(path.name, path, self.prompt) for path in generated)]
        request = DataRequest(folder=folder, caption=self.prompt)
        return Examples(records, request, is_prior=True, opened=opened)

    def _opened(self, path: Path) -> Example | None:
        """A generated image; None where it is missing or damaged, and so made again."""
        if not path.is_file():
            return None
        try:
            return open_record(Record(path.name, path, self.prompt), DataRequest(), is_prior=True)
        except FileError:
            return None

    def _complete(
        self,
        generated: Sequence[Path],
        missing: Sequence[Sequence[int]],
        base: Base,
        resolution: int,
        shares: Shares,
    ) -> None:
        """Give every process each image: what one of them has is sent, the rest is generated."""
        lacking = set(chain.from_iterable(missing))
        nowhere = sorted(lacking.intersection(*missing))
        batches = [
            nowhere[start : start + self.batch_size]
            for start in range(0, len(nowhere), self.batch_size)
        ]
        base = self._in_precision(base) if nowhere else base
        for start in range(0, len(batches), shares.count):  # a batch of each process at once
            made = shares.map(
                partial(self._generate, base=base, resolution=resolution),
                batches[start : start + shares.count],
            )
            for batch, images in zip(batches[start : start + shares.count], made, strict=True):
                _write([generated[number] for number in batch], images)
        for number in sorted(lacking.difference(nowhere)):
            own = generated[number].read_bytes() if number not in missing[shares.rank] else None
            content = next(each for each in shares.gather(own) if each is not None)
            _write([generated[number]], [content])

    def _generate(self, numbers: Sequence[int], *, base: Base, resolution: int) -> list[bytes]:
        """A batch of images as PNG files."""
        request = GenerateRequest(
            prompts=(self.prompt,) * len(numbers),
            seeds=tuple(self.seed + number for number in numbers),
            width=resolution,
            height=resolution,
            batch_size=len(numbers),
        )
        return [_encoded(image) for image in _generated(base, request)]

    def _in_precision(self, base: Base) -> Base:
        """The base itself, or loaded once more in the precision asked for."""
        dtype = PRECISIONS[self.precision or "no"]
        if dtype in (None, base.dtype):
            return base
        return load_base(
            base.name,
            revision=self.revision,
            variant=self.variant,
            dtype=dtype,
            device=str(base.device),
            offload=base.offload,
        )

    def _kept_at(self, base: Base, resolution: int) -> Path:
        parts = (base.denoiser_folder, "vae", *(text.name for text in base.texts))
        weights = [base.fingerprint(part) for part in parts]
        precision = PRECISIONS[self.precision or "no"] or base.dtype
        key = "/".join([*weights, self.prompt, f"{self.seed}", f"{resolution}", f"{precision}"])
        return self.cache_dir / "class" / hashlib.sha256(key.encode()).hexdigest()[:32]


def _generated(base: Base, request: GenerateRequest) -> list[Image.Image]:
    """The images of a request.

    Raises:
        UserError: memory ran out; it says what helps here.
    """
    try:
        return generate(base, request)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        remedy = (
            f"--sample_batch_size {request.batch_size // 2}"
            if request.batch_size > 1
            else "--prior_generation_precision bf16, or give the images with --class_data_dir"
        )
        raise UserError(
            f"Out of memory while generating {request.batch_size} class images at once. "
            f"Use {remedy}."
        ) from error


def _takes_generated(folder: Path) -> bool:
    """Whether images generated there would be read: beside folders or in a list they are not."""
    if not folder.is_dir():
        return True
    is_tree = _only_generated(folder) and bool(kohya.leaves(folder))
    return layout_of(folder) in (None, "folder") and not is_tree


def _only_generated(folder: Path) -> bool:
    return all(_GENERATED.fullmatch(path.name) for path in list_images(folder))


def _encoded(image: Image.Image) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, format="PNG")
    return encoded.getvalue()


def _write(paths: Sequence[Path], contents: Sequence[bytes]) -> None:
    """Write what is missing, aside first: another run may be generating the same images."""
    for path, content in zip(paths, contents, strict=True):
        if not _is_whole(path):
            share_file(path, content)


def _name(number: int) -> str:
    return f"class-{number:05d}.png"


def _is_whole(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        open_image(path)
    except FileError:
        return False
    return True
