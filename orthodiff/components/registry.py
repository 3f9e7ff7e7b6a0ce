"""The parts that can be learned for a base model, and how each lies in a folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from orthodiff import control
from orthodiff.adapters.adapter import Adapter
from orthodiff.adapters.peft_format import (
    CONFIG,
    load,
    read_config,
    read_metadata,
)
from orthodiff.components import textual_inversion as tokens
from orthodiff.errors import UserError
from orthodiff.io.modelspec import describe_file
from orthodiff.models import Base


class Part(Protocol):
    """What a bundle asks of each of its parts; `Adapter` is one."""

    def parameters(self) -> list[nn.Parameter]: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...

    def save(
        self, folder: Path, *, base: str | None, metadata: Mapping[str, str] | None
    ) -> None: ...

    def detach(self) -> None: ...


@dataclass(frozen=True)
class Kind:
    """How one part lies in a bundle's folder: in `folder` of it, announced by `file`."""

    folder: str
    file: str
    load: Callable[[Base, Path], Part]
    describe: Callable[[Path], dict[str, Any]]

    def place(self, bundle: Path) -> Path:
        return bundle / self.folder

    def is_in(self, bundle: Path) -> bool:
        return (self.place(bundle) / self.file).is_file()

    def remove(self, bundle: Path) -> None:
        """Remove what announces the part from a bundle's folder."""
        if self.folder:
            shutil.rmtree(self.place(bundle))
        else:
            (bundle / self.file).unlink()


UNSETTLED = ".aside/parts"
"""In a run's folder while its parts are exchanged for newer ones, and after a crash in between."""


def parts_in(folder: Path) -> list[str]:
    """The names of the parts that a bundle's folder holds.

    Raises:
        UserError: it holds none, or the writing of them was cut off.
    """
    if (folder / UNSETTLED).exists():
        raise UserError(
            f"{folder} is being written, or its writing was cut off, so parts of the adapter may "
            "be missing. Continue its training (--resume_from_checkpoint latest), or take one of "
            "its checkpoints."
        )
    found = [name for name, kind in KINDS.items() if kind.is_in(folder)]
    if not found:
        read_config(folder)
    return found


def withdraw(folder: Path) -> None:
    """Remove what announces the parts in a folder: it is no bundle any more."""
    for kind in KINDS.values():
        if kind.is_in(folder):
            kind.remove(folder)


def describe(folder: Path) -> dict[str, Any]:
    """What a bundle's folder says of itself: the UNet's adapter, and the other parts by name.

    Of an exported file it is the header.

    Raises:
        UserError: the folder holds no part, or one that cannot be read.
    """
    if folder.is_file():
        return describe_file(folder)
    found = {name: KINDS[name].describe(KINDS[name].place(folder)) for name in parts_in(folder)}
    return {**found.pop("unet", {}), **found}


def _describe_adapter(folder: Path) -> dict[str, Any]:
    return {"config": read_config(folder), "recipe": read_metadata(folder)}


def _describe_control(folder: Path) -> dict[str, Any]:
    """With the recipe, unless an adapter beside it tells the same."""
    alone = not (folder / CONFIG).is_file()
    recipe = {"recipe": control.read_metadata(folder)} if alone else {}
    return {**control.describe(folder), **recipe}


def _text_encoder(number: int) -> Kind:
    """The adapter of a base's text encoder, counted from 0."""

    def put_on(base: Base, folder: Path) -> Adapter:
        if number >= len(base.texts):
            raise UserError(
                f"{folder} is for a base model with {number + 1} text encoders, but this one has "
                f"{len(base.texts)}. Use the base it was trained on."
            )
        return load(base.texts[number].model, folder)

    name = f"text_encoder_{number + 1}" if number else "text_encoder"
    return Kind(name, CONFIG, put_on, _describe_adapter)


KINDS: dict[str, Kind] = {
    "unet": Kind("", CONFIG, lambda base, folder: load(base.unet, folder), _describe_adapter),
    "text_encoder": _text_encoder(0),
    "text_encoder_2": _text_encoder(1),
    "tokens": Kind("", tokens.FILE, tokens.load, tokens.describe),
    "hint_encoder": Kind(
        "", control.CONFIG, lambda base, folder: control.load(base.unet, folder), _describe_control
    ),
}
"""Every part there can be; one line each."""
