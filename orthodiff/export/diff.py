"""Full weight differences, exact for every method, under kohya's names as ComfyUI reads them."""

from __future__ import annotations

from orthodiff.export.change import Contents, Request, full_change
from orthodiff.export.kohya import kohya_name
from orthodiff.modelspec import modelspec


def diff(request: Request) -> Contents:
    """Return the difference of every adapted weight, in the weight's shape."""
    tensors = {
        f"{kohya_name(name, part=request.part)}.diff": full_change(layer)
        for name, layer in request.adapter.layers.items()
    }
    return Contents(tensors, modelspec(request.adapter.model, "diff", request.recipe))
