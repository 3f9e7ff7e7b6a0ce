"""Full weight differences, exact for every method, under kohya's names as ComfyUI reads them."""

from __future__ import annotations

from orthodiff.export.kohya import kohya_names
from orthodiff.export.weight_delta import Contents, Request, full_change
from orthodiff.io.modelspec import modelspec


def diff(request: Request) -> Contents:
    """Return the difference of every adapted weight, in the weight's shape."""
    name = kohya_names(request.model)
    tensors = {f"{name(key)}.diff": full_change(layer) for key, layer, _ in request.layers()}
    return Contents(tensors, modelspec(request.model, "diff", request.recipe))
