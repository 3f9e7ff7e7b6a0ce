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
from .quota import Quota

SUBJECT_ID = re.compile(r"s[0-9a-f]{12}")
RECORD = "subject.json"
MOST_PHOTOS, MOST_CAPTION = 50, 300
KEPT_DAYS = 14.0
"""Days after which photos that no form shows any more are removed; jobs have their own copies."""


@dataclass(frozen=True)
class Photo:
    """One clean photo; `name` is what the person called it."""

    name: str
    file: str
    width: int
    height: int
    caption: str = ""


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


@dataclass
class Subjects:
    """The photo sets under `root`, a folder per user."""

    root: Path
    quota: Quota = field(default_factory=Quota)

    def add(
        self, owner: str, files: Sequence[tuple[str, Path]], *, into: str | None = None
    ) -> PhotoSet:
        """Decode files `(name, path)` and keep what can be read, perhaps beside earlier ones.

        Raises:
            UserError: too many or too large files, the quota is used up, or none can be read.
        """
        before = self.get(owner, into) if into else None
        self._check(owner, files, before)
        home = self.root / owner
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=home, prefix=".new-") as scratch:
            new = Path(scratch) / "photos"
            new.mkdir(mode=0o700)
            photos = _copy(before, new) if before else []
            decoded = decode_into(new, files)
            photos += [_photo(one) for one in decoded if one.path]
            problems = tuple(str(_problem(one)) for one in decoded if not one.path)
            if not photos:
                raise UserError(" ".join(problems) or "There are no photos yet. Add some.")
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
        for suffix in (".png", ".webp"):
            (photo_set.folder / file).with_suffix(suffix).unlink(missing_ok=True)
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
        count = len(files) + (len(before.photos) if before else 0)
        if not files:
            raise UserError("There are no photos yet. Add 3 to 10 photos that show your subject.")
        if count > MOST_PHOTOS:
            raise UserError(f"{count} photos are too many. Add at most {MOST_PHOTOS}; 5 do well.")
        self.quota.check_room(self.root, owner)
        for name, path in files:
            if path.stat().st_size > self.quota.file << 20:
                remedy = "Scale it down, or leave it out"
                raise FileError(_base_name(name), f"it is larger than {self.quota.file} MB", remedy)


def copy_photos(photos: PhotoSet, folder: Path) -> None:
    """The photos as a training reads them: images with captions of the same stem beside."""
    folder.mkdir(parents=True)
    for number, photo in enumerate(photos.photos):
        shutil.copyfile(photos.folder / photo.file, folder / f"{number:02d}.png")
        if photo.caption:
            (folder / f"{number:02d}.txt").write_text(photo.caption, "utf-8")


def _copy(before: PhotoSet, new: Path) -> list[Photo]:
    photos = []
    for number, photo in enumerate(before.photos):
        for suffix in (".png", ".webp"):
            shutil.copyfile(
                (before.folder / photo.file).with_suffix(suffix), new / f"{number:02d}{suffix}"
            )
        photos.append(Photo(**{**vars(photo), "file": f"{number:02d}.png"}))
    return photos


def _photo(decoded: Decoded) -> Photo:
    assert decoded.path
    return Photo(_base_name(decoded.name), decoded.path.name, *decoded.size)


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
