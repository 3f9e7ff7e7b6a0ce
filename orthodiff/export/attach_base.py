"""Put an adapter folder on its base model, to see what it changes there."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from orthodiff.adapters.adapter import Adapter
from orthodiff.adapters.peft_format.load import load
from orthodiff.adapters.peft_format.method_format import CONFIG
from orthodiff.adapters.peft_format.read import read_adapter_config
from orthodiff.components.adapter_set import AdapterSet
from orthodiff.components.registry import COMPONENTS, components_in
from orthodiff.errors import UserError
from orthodiff.models import Base, load_base


def home(folder: Path) -> Path:
    """Return where the first adapter in `folder` lies, whose recipe speaks for all.

    Raises:
        UserError: if there is none.
    """
    parts = components_in(folder)
    adapters = [COMPONENTS[part] for part in parts if COMPONENTS[part].file == CONFIG]
    if not adapters:
        raise UserError(
            f"{folder} holds only {' and '.join(parts)}, which changes no weights. Give a folder "
            "with an adapter."
        )
    return adapters[0].place(folder)


def open_base(
    folder: Path,
    base: str | Path | None,
    *,
    revision: str | None = None,
    variant: str | None = None,
) -> Base:
    """Load the base model `base`, or else the one that the adapter in `folder` names.

    Raises:
        UserError: if neither is known, or it cannot be loaded.
    """
    trained_on = read_adapter_config(home(folder)).get("base_model_name_or_path")
    if not (base or trained_on):
        raise UserError(
            "The adapter does not say its base model, whose weights are needed. Name it as `base`."
        )
    return load_base(str(base or trained_on), revision=revision, variant=variant)


def attach_to_model(model: nn.Module, folder: Path) -> dict[str, Adapter]:
    """Attach the first adapter in `folder` to a model in memory.

    Raises:
        UserError: if it does not fit.
    """
    part = "unet" if hasattr(model, "down_blocks") else "text_encoder"
    return {part: load(model, home(folder))}


def attach_to_base(base: Base, folder: Path) -> dict[str, Adapter]:
    """Attach every adapter in `folder` to its part of the base, and nothing else that lies there.

    Raises:
        UserError: if one does not fit. One that lies there alone may be a text encoder's.
    """
    try:
        adapter_set = AdapterSet.load(base, folder)
        for name in adapter_set.components.keys() - adapter_set.adapters.keys():
            adapter_set.components[name].detach()
        return adapter_set.adapters
    except UserError as error:
        for text in base.texts if components_in(folder) == ["unet"] else ():
            try:
                return {text.name: load(text.model, folder)}
            except UserError:
                continue
        raise error
