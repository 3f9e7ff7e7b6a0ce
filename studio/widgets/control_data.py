"""Images with control images to learn from: brought together, or computed of the images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from orthodiff.control import CONDITIONS

from ..services.settings.control import ControlSettings
from ..words import say
from .parts import upload_field

HINT = (
    "Images, or a zip of them with captions (NAME.txt) and, if you have them, a folder "
    "control_images. What is not brought is computed."
)


class ControlData:
    """The components, and the values that a control training takes from the whole form."""

    def __init__(self, prefix: str) -> None:
        about = ControlSettings.model_fields["condition_type"]
        self.photos = upload_field(
            elem_id=f"{prefix}-pairs", label="Drop images or a zip here, or choose files",
            hint=HINT, captions=True, pairs=True,
        )  # fmt: skip
        self.kind = gr.Dropdown(
            [(name, name) for name in CONDITIONS], value="canny", label=say(str(about.title)),
            info=say(str(about.description)), elem_id=f"{prefix}-condition_type",
        )  # fmt: skip

    def values(self, given: Mapping[str, Any], kind: Any) -> dict[str, Any]:
        """Those of `given` that a control training has, with the kind of control image.

        How HRA is set up is left to the recipe of the base, which the form does not know.
        """
        known = {name: given[name] for name in ControlSettings.model_fields if name in given}
        if known.get("method") == "hra":
            known.pop("method_settings", None)
        return {**known, "condition_type": kind or "canny"}
