"""The components that can be learned for a base model, and how each lies in a folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from orthodiff import control
from orthodiff.adapters.adapter import Adapter
from orthodiff.adapters.peft_format.load import load
from orthodiff.adapters.peft_format.method_format import CONFIG
from orthodiff.adapters.peft_format.read import read_adapter_config, read_adapter_metadata
from orthodiff.components import textual_inversion as tokens
from orthodiff.errors import UserError
from orthodiff.io.modelspec import describe_file
from orthodiff.models import Base
from orthodiff.registry import Registry


class Component(Protocol):
    """What an `AdapterSet` asks of each of its components; `Adapter` is one."""

    def parameters(self) -> list[nn.Parameter]: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...

    def save(
        self, folder: Path, *, base: str | None, metadata: Mapping[str, str] | None
    ) -> None: ...

    def detach(self) -> None: ...


@dataclass(frozen=True)
class ComponentType:
    """How a component lies in an adapter set's folder: in `folder` of it, announced by `file`."""

    folder: str
    file: str
    load: Callable[[Base, Path], Component]
    describe: Callable[[Path], dict[str, Any]]

    def place(self, adapter_set: Path) -> Path:
        return adapter_set / self.folder

    def is_in(self, adapter_set: Path) -> bool:
        return (self.place(adapter_set) / self.file).is_file()

    def remove(self, adapter_set: Path) -> None:
        """Remove what announces the component from an adapter set's folder."""
        if self.folder:
            shutil.rmtree(self.place(adapter_set))
        else:
            (adapter_set / self.file).unlink()


INCOMPLETE = ".aside/parts"
"""In a run's folder while its components are exchanged, and after a crash in between."""


def components_in(folder: Path) -> list[str]:
    """Return the names of the components that an adapter set's folder holds.

    Raises:
        UserError: it holds none, or the writing of them was cut off.
    """
    if (folder / INCOMPLETE).exists():
        raise UserError(
            f"{folder} is being written, or its writing was cut off, so parts of the adapter may "
            "be missing. Continue its training (--resume_from_checkpoint latest), or take one of "
            "its checkpoints."
        )
    names = [name for name, kind in COMPONENTS.items() if kind.is_in(folder)]
    if not names:
        read_adapter_config(folder)  # says what is missing
    return names


def withdraw(folder: Path) -> None:
    """Remove what announces the components in a folder, so that it is no adapter set any more."""
    for kind in COMPONENTS.values():
        if kind.is_in(folder):
            kind.remove(folder)


def describe(folder: Path) -> dict[str, Any]:
    """Return what an adapter set's folder says of itself, the UNet's adapter first.

    Of an exported file it is the header.

    Raises:
        UserError: the folder holds no component, or one that cannot be read.
    """
    if folder.is_file():
        return describe_file(folder)
    descriptions = {
        name: COMPONENTS[name].describe(COMPONENTS[name].place(folder))
        for name in components_in(folder)
    }
    return {**descriptions.pop("unet", {}), **descriptions}


def _describe_adapter(folder: Path) -> dict[str, Any]:
    return {"config": read_adapter_config(folder), "recipe": read_adapter_metadata(folder)}


def _describe_control(folder: Path) -> dict[str, Any]:
    """With the recipe, unless an adapter beside it tells the same."""
    alone = not (folder / CONFIG).is_file()
    recipe = {"recipe": control.read_metadata(folder)} if alone else {}
    return {**control.describe(folder), **recipe}


def _text_encoder(number: int) -> ComponentType:
    """The adapter of a base's text encoder, counted from 0."""

    def put_on(base: Base, folder: Path) -> Adapter:
        if number >= len(base.texts):
            raise UserError(
                f"{folder} is for a base model with {number + 1} text encoders, but this one has "
                f"{len(base.texts)}. Use the base it was trained on."
            )
        return load(base.texts[number].model, folder)

    name = f"text_encoder_{number + 1}" if number else "text_encoder"
    return ComponentType(name, CONFIG, put_on, _describe_adapter)


BUILTIN = {
    "unet": ComponentType(
        "", CONFIG, lambda base, folder: load(base.denoiser, folder), _describe_adapter
    ),
    "text_encoder": _text_encoder(0),
    "text_encoder_2": _text_encoder(1),
    "tokens": ComponentType("", tokens.FILE, tokens.load, tokens.describe),
    "hint_encoder": ComponentType(
        "",
        control.CONFIG,
        lambda base, folder: control.load(base.denoiser, folder),
        _describe_control,
    ),
}

COMPONENTS: Registry[ComponentType] = Registry(
    "component", group="orthodiff.components", builtin=BUILTIN
)
"""Every component there can be; packages add to it by an entry point or `register`."""
