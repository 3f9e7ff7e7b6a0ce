"""Photo sets that people brought: clean copies with their names and captions, one folder each."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orthodiff.errors import FileError, UserError

from .decode import Decoded, decode_into
from .pairs import Paired, pair_up
from .quota import Quota

SUBJECT_ID = re.compile(r"s[0-9a-f]{12}")
RECORD = "subject.json"
MOST_PHOTOS, MOST_CAPTION = 1000, 300
KEPT_DAYS = 14.0
"""Days after which photos that no form shows any more are removed; jobs have their own copies."""


@dataclass(frozen=True)
class Photo:
    """One clean photo; `name` is what the person called it, `control` its control image's file."""

    name: str
    file: str
    width: int
    height: int
    caption: str = ""
    control: str = ""

    @property
    def files(self) -> list[str]:
        """All that belongs to it."""
        return [self.file, self.control] if self.control else [self.file]


@dataclass(frozen=True)
class PhotoSet:
    """The photos of one upload."""

    id: str
    folder: Path
    photos: tuple[Photo, ...]
    problems: tuple[str, ...] = ()
    recipe: str | None = None

    @property
    def paths(self) -> list[Path]:
        return [self.folder / photo.file for photo in self.photos]

    @property
    def controls(self) -> list[Path | None]:
        """The control image of each photo that has one."""
        return [self.folder / one.control if one.control else None for one in self.photos]


@dataclass
class Subjects:
    """The photo sets under `root`, a folder per user."""

    root: Path
    quota: Quota = field(default_factory=Quota)

    def add(
        self,
        owner: str,
        files: Sequence[tuple[str, Path]],
        *,
        controls: Sequence[tuple[str, Path]] = (),
        into: str | None = None,
    ) -> PhotoSet:
        """Decode files `(name, path)` and keep what can be read, perhaps beside earlier ones.

        Files may be zip archives; see `pairs` on which caption and control image is whose.

        Raises:
            UserError: too many or too large files, the quota is used up, or none can be read.
        """
        before = self.get(owner, into) if into else None
        self._check(owner, [*files, *controls], before)
        home = self.root / owner
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=home, prefix=".new-") as scratch:
            new = Path(scratch) / "photos"
            new.mkdir(mode=0o700)
            photos = _copy(before, new) if before else []
            decoded = decode_into(new, [*files, *controls])
            paired, remarks = pair_up(decoded, controls_from=len(files))
            photos += [_photo(one) for one in paired]
            _check_count(len(photos))
            errors = (str(_problem(one)) for one in decoded if one.error)
            problems = (*errors, *remarks)
            if not photos:
                raise UserError(" ".join(problems) or "There are no photos yet. Add some.")
            self.quota.check_room(self.root, owner)  # images are larger here than they came
            recipe = next((one.recipe for one in decoded if one.recipe), None)
            _write(new, photos)
            subject_id = f"s{secrets.token_hex(6)}"
            new.rename(home / subject_id)
        if before:
            shutil.rmtree(before.folder, ignore_errors=True)
        photo_set = self.get(owner, subject_id)
        return PhotoSet(photo_set.id, photo_set.folder, photo_set.photos, problems, recipe)

    def get(self, owner: str, subject_id: str) -> PhotoSet:
        """A photo set of this user.

        Raises:
            UserError: this user has none with this id.
        """
        folder = self.root / owner / subject_id
        if not SUBJECT_ID.fullmatch(subject_id) or not (folder / RECORD).is_file():
            raise UserError("These photos are not here any more. Add them again.")
        entries = json.loads((folder / RECORD).read_text("utf-8"))["photos"]
        return PhotoSet(subject_id, folder, tuple(Photo(**entry) for entry in entries))

    def caption(self, owner: str, subject_id: str, captions: Mapping[str, str]) -> PhotoSet:
        """Write captions by file name; the set as it is then."""
        photo_set = self.get(owner, subject_id)
        photos = [
            Photo(**{**vars(p), "caption": _plain(captions.get(p.file, p.caption))})
            for p in photo_set.photos
        ]
        _write(photo_set.folder, photos)
        return self.get(owner, subject_id)

    def remove_photo(self, owner: str, subject_id: str, file: str) -> PhotoSet:
        """Take one photo out."""
        photo_set = self.get(owner, subject_id)
        if file not in {photo.file for photo in photo_set.photos}:
            raise UserError("This photo is not here any more.")
        _write(photo_set.folder, [photo for photo in photo_set.photos if photo.file != file])
        gone = [name for photo in photo_set.photos if photo.file == file for name in photo.files]
        for path in (photo_set.folder / name for name in gone):
            path.unlink(missing_ok=True)
            path.with_suffix(".webp").unlink(missing_ok=True)
        return self.get(owner, subject_id)

    def clear_old(self) -> None:
        """Remove photo sets that have long not been used, and leftovers of a crash."""
        latest = time.time() - KEPT_DAYS * 86400
        for folder in self.root.glob("*/*"):
            if folder.name.startswith(".") or folder.stat().st_mtime < latest:
                shutil.rmtree(folder, ignore_errors=True)

    def _check(
        self, owner: str, files: Sequence[tuple[str, Path]], before: PhotoSet | None
    ) -> None:
        if not files:
            raise UserError("There are no photos yet. Add 3 to 10 photos that show your subject.")
        _check_count(len(files) + (len(before.photos) if before else 0))
        self.quota.check_room(self.root, owner)
        for name, path in files:
            if path.stat().st_size > (largest := self.quota.largest(name)) << 20:
                remedy = "Scale it down, or leave it out"
                raise FileError(_base_name(name), f"it is larger than {largest} MB", remedy)


def _check_count(count: int) -> None:
    if count > MOST_PHOTOS:
        raise UserError(f"{count} images are too many. Add at most {MOST_PHOTOS}.")


def _copy(before: PhotoSet, new: Path) -> list[Photo]:
    """The photos of an earlier upload in a new folder, under the same numbers."""
    for name in (name for photo in before.photos for name in photo.files):
        for path in (before.folder / name, (before.folder / name).with_suffix(".webp")):
            shutil.copyfile(path, new / path.name)
    return list(before.photos)


def _photo(paired: Paired) -> Photo:
    photo, control = paired.photo, paired.control
    assert photo.path
    return Photo(
        _base_name(photo.name),
        photo.path.name,
        *photo.size,
        caption=_plain(paired.caption),
        control=control.path.name if control and control.path else "",
    )


def _problem(decoded: Decoded) -> FileError:
    return FileError(_base_name(decoded.name), decoded.error)


def _write(folder: Path, photos: Sequence[Photo]) -> None:
    new = folder / f".{RECORD}"
    new.write_text(json.dumps({"photos": [vars(photo) for photo in photos]}), "utf-8")
    new.replace(folder / RECORD)


def _plain(text: str) -> str:
    """One short line of what a person wrote."""
    return "".join(sign for sign in text if sign.isprintable()).strip()[:MOST_CAPTION]


def _base_name(path: str) -> str:
    """The name a file had on somebody else's computer, without its folders."""
    return _plain(path.replace("\\", "/").rpartition("/")[2]) or "image"
