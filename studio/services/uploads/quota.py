"""How much people may bring: per file, request, user, and in all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orthodiff.errors import UserError

MEBI = 1 << 20


@dataclass(frozen=True)
class Quota:
    """Limits in MiB."""

    file: int = 50
    request: int = 200
    user: int = 2048
    total: int = 20480

    def largest(self, name: str) -> int:
        """MiB that a file of this name may have: an archive as much as a request."""
        return self.request if name.lower().endswith(".zip") else self.file

    def check_room(self, root: Path, owner: str) -> None:
        """Refuse another upload where the user's share, or all of it, is used up.

        Raises:
            UserError: it is.
        """
        if folder_size(root / owner) > self.user * MEBI:
            raise UserError(
                f"Your uploads take more than {self.user} MB. Delete photos of old trainings first."
            )
        if folder_size(root) > self.total * MEBI:
            raise UserError(
                f"All uploads here take more than {self.total} MB. Ask the owner to make room."
            )


def folder_size(folder: Path) -> int:
    """Bytes in a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
