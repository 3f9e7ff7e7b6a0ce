"""Whether an adapter fits a base, by the names and shapes of its layers.

The base's own weights are not needed for that: its configuration gives an empty model of its form.
Where there is none, as with a single file, the base itself is loaded, in a process of its own:
`python -m orthodiff.studio.services.library.fit BASE FOLDER`.
"""

from __future__ import annotations

import json
import sys
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from orthodiff import control
from orthodiff.adapters.peft_format.load import check_fits
from orthodiff.components import textual_inversion
from orthodiff.components.adapter_set import AdapterSet
from orthodiff.components.registry import COMPONENTS, components_in
from orthodiff.errors import UserError
from orthodiff.io.assets import shipped
from orthodiff.models import load_base

from ..command import run_command

MODULE = "orthodiff.studio.services.library.fit"


def check_adapter(base: str, folder: Path) -> None:
    """Refuse an adapter that does not fit a base.

    Raises:
        UserError: a part of it cannot be read, or has other layers or shapes than the base.
    """
    forms = {"unet": form_of(base, "unet"), "text_encoder": form_of(base, "text_encoder")}
    parts = components_in(folder)
    if forms["unet"] is None or "text_encoder_2" in parts:
        run_command([base, str(folder)], module=MODULE, failed="It cannot be read.")
        return
    for part in parts:
        place = COMPONENTS[part].place(folder)
        if part == "hint_encoder":
            control.load(forms["unet"], place)
        elif part == "tokens":
            textual_inversion.describe(place)
        elif (model := forms.get(part)) is not None:
            check_fits(model, place)


@lru_cache(maxsize=8)
def form_of(base: str, part: str) -> nn.Module | None:
    """A part of a base without its weights; None where its configuration is not at hand."""
    import diffusers
    import transformers

    path = shipped(base) / part / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
        with torch.device("meta"):
            if part == "unet":
                return getattr(diffusers, config["_class_name"]).from_config(config)
            return transformers.CLIPTextModel(transformers.CLIPTextConfig(**config))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def main(base: str, folder: str) -> int:
    """0 if it fits; else a sentence and 2."""
    try:
        AdapterSet.load(load_base(base), Path(folder)).detach()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
