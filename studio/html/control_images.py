"""Control images as they will be used, beside what they are made of."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from ..services.control_images import ControlImage

SIDE = 512


def previews(control_images: Sequence[ControlImage]) -> str:
    """What was given beside the control image that is made of it, and what was done on the way."""
    return f'<div class="maps">{"".join(map(_preview, control_images))}</div>'


def _preview(shown: ControlImage) -> str:
    width, height = shown.used.size
    remark = f"<p>{escape(shown.note)}</p>" if shown.note else ""
    given = f'<img src="{_inline(shown.given)}" alt="{escape(shown.name)}">'
    return (
        f"<figure><div>{given if shown.given is not shown.used else ''}"
        f'<img class="used" src="{_inline(shown.used)}" alt="Control image"></div>'
        f"<figcaption>{escape(shown.name)} · its control image, {width} x {height}</figcaption>"
        f"{remark}</figure>"
    )


def _inline(image: Image.Image) -> str:
    """An image inside the page itself, no larger than it is shown."""
    small, packed = image.copy(), io.BytesIO()
    small.thumbnail((SIDE, SIDE))
    small.save(packed, "PNG")
    return f"data:image/png;base64,{base64.b64encode(packed.getvalue()).decode()}"
