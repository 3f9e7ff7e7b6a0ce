"""A cache that cannot be written serves as long as it holds everything."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runs import make_images, train, weights


def forbid_writing(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """As on a file system that is mounted read-only; the superuser may write into any folder."""

    def forbidden(write: Callable[..., Any]) -> Callable[..., Any]:
        def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
            if folder in path.parents and not (write is Path.mkdir and path.is_dir()):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return write(path, *arguments, **options)

        return refuse

    access = os.access
    for name in ("write_bytes", "write_text", "mkdir", "touch"):
        monkeypatch.setattr(Path, name, forbidden(getattr(Path, name)))
    monkeypatch.setattr(
        os, "access", lambda path, mode: mode != os.W_OK or not str(path).startswith(str(folder))
    )
    assert access(folder, os.R_OK)


def test_a_read_only_cache_is_read_and_what_it_lacks_is_one_sentence(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images, cache = make_images(tmp_path / "images"), tmp_path / "cache"
    assert train(tiny, images, tmp_path / "first", cache_dir=cache, max_train_steps=1) == 0
    forbid_writing(monkeypatch, cache)
    assert train(tiny, images, tmp_path / "second", cache_dir=cache, max_train_steps=1) == 0
    assert weights(tmp_path / "first") == weights(tmp_path / "second")
    shutil.copy(images / "0.png", images / "new.png")
    (images / "new.txt").write_text("a caption that nothing was encoded for")
    capsys.readouterr()
    assert train(tiny, images, tmp_path / "third", cache_dir=cache, max_train_steps=1) == 1
    said = capsys.readouterr().err
    assert said.count("failed: ") == 1
    assert f"{cache}" in said
    assert "cannot be written" in said
