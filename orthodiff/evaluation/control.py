"""Images beside the control images that steer them, and beside those generated without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from orthodiff.components.adapter_set import AdapterSet
from orthodiff.control import Condition, Landmarks, Steering, overlay
from orthodiff.errors import UserError
from orthodiff.evaluation.image_grid import PAPER, GridRow, comparison
from orthodiff.evaluation.metrics import METRICS, Scorer, prompt_similarity
from orthodiff.evaluation.report import Report
from orthodiff.models import Base
from orthodiff.sampling import GenerateRequest, OnStep, generate

Images = Sequence[Image.Image]
Region = tuple[int, int, int, int]
"""Left, upper, right, lower."""


def evaluate_control(
    base: Base,
    adapter_set: AdapterSet,
    request: GenerateRequest,
    steering: Steering,
    *,
    condition: Condition,
    regions: Sequence[Region] | None = None,
    scorer: Scorer | None = None,
    on_step: OnStep | None = None,
) -> Report:
    """Generate `request` with its control images, without them, and by the base alone; compare.

    `request` has the same prompts for one control image after the other, and `steering` a control
    image for each. What follows them is measured by `condition`, within `regions` (one per image;
    outside, where control images are letterboxed, they say nothing). The adapters are detached
    from `base` afterwards.

    Raises:
        UserError: the request does not fit the base.
    """
    request = request.resolved(base)
    control_images, prompts = (
        steering.control_images,
        _prompts_of_each(request, steering.control_images),
    )
    each = replace(request, prompts=prompts, seeds=request.seeds[: len(prompts)])
    steered = generate(base, request, steering=steering, on_step=on_step)
    unsteered = generate(base, each, on_step=on_step)
    adapter_set.detach()
    unadapted = generate(base, each, on_step=on_step)
    notes: list[str] = []
    measure = _measure(condition, unsteered[0], notes)
    regions = regions or [(0, 0, *used.size) for used in control_images]
    repeated = unsteered * (len(control_images) // len(prompts))
    values = {
        "base_model": base.name,
        "method": adapter_set.method,
        "parameters": adapter_set.num_parameters,
        "condition_type": condition.name,
        "settings": condition.settings(),
        "prompts": list(prompts),
        "seed": request.seeds[0],
        "control_strength": steering.strength,
        "following": _following(measure, control_images, steered, regions),
        "following_without_map": _following(measure, control_images, repeated, regions),
        **_similarities(scorer, request, prompts, steered, unsteered, unadapted),
    }
    grid = _draw(values, control_images, steered, {"base": unadapted, "without\nmap": unsteered})
    return Report(values, grid, notes)


def _prompts_of_each(request: GenerateRequest, control_images: Images) -> tuple[str, ...]:
    """The prompts that every control image is used with."""
    first = next(
        (n for n, used in enumerate(control_images) if used is not control_images[0]),
        len(control_images),
    )
    return request.prompts[:first]


def _measure(condition: Condition, image: Image.Image, notes: list[str]) -> Condition | None:
    """What measures how images follow; None, with a note, where nothing does.

    Of a control image the landmarks it was drawn from are not known any more; other conditions may
    need a model.
    """
    if isinstance(condition, Landmarks):
        notes.append(
            "How well images follow landmarks is not measured: control images show outlines, no "
            "points."
        )
        return None
    if condition.name not in METRICS:
        notes.append(
            f"How well images follow {condition.name} is not measured: it has no metric. Add one "
            "with `orthodiff.evaluation.metrics.register_metric`."
        )
        return None
    try:
        condition.measure(image)
    except UserError as error:
        notes.append(f"How well images follow their control images is not measured. {error}")
        return None
    return condition


def _following(
    measure: Condition | None, control_images: Images, images: Images, regions: Sequence[Region]
) -> dict[str, dict[str, float]] | None:
    """How well each image follows its control image."""
    if measure is None:
        return None
    measured = [
        np.asarray(measure.measure(image.crop(region)))
        for image, region in zip(images, regions, strict=True)
    ]
    asked = [
        measure.decode(used.crop(region))
        for used, region in zip(control_images, regions, strict=True)
    ]
    return {name: asdict(score) for name, score in METRICS[measure.name](measured, asked).items()}


def _similarities(
    scorer: Scorer | None,
    request: GenerateRequest,
    prompts: Sequence[str],
    steered: Images,
    unsteered: Images,
    unadapted: Images,
) -> dict[str, Any]:
    if scorer is None:
        return {"scorer": None}
    return {
        "scorer": scorer.name,
        "prompt_similarity": {
            "with_map": prompt_similarity(scorer, steered, request.prompts),
            "without_map": prompt_similarity(scorer, unsteered, prompts),
            "base": prompt_similarity(scorer, unadapted, prompts),
        },
    }


def _draw(
    values: Mapping[str, Any],
    control_images: Images,
    steered: Images,
    unsteered: Mapping[str, Images],
) -> Image.Image:
    prompts: Sequence[str] = values["prompts"]
    each, nothing = len(prompts), Image.new("RGB", (1, 1), PAPER)
    rows = [
        GridRow(label, [nothing, *_beside(images, [nothing] * each)])
        for label, images in unsteered.items()
    ]
    for start in range(0, len(control_images), each):
        images, used = steered[start : start + each], control_images[start]
        overlays = [overlay(image, used) for image in images]
        label = f"control image {start // each + 1}"
        rows.append(GridRow(label, [used, *_beside(images, overlays)], is_adapted=True))
    base = Path(values["base_model"]).name
    return comparison(
        title=f"Following {values['condition_type']} control images: {values['method']} on {base}",
        subtitle="  ·  ".join([f"{values['parameters']:,} parameters", *figures(values)]),
        photos=[],
        prompts=["map", *(word for prompt in prompts for word in (prompt, "overlay"))],
        rows=rows,
    )


def _beside(images: Images, others: Images) -> list[Image.Image]:
    """Each image followed by its counterpart."""
    return [one for pair in zip(images, others, strict=True) for one in pair]


def figures(values: Mapping[str, Any]) -> list[str]:
    """The figures of a report in words."""
    lines = []
    if (scores := values["following"]) and (without := values["following_without_map"]):
        lines += [
            f"{name} {score['value']:.3f} (without control image {without[name]['value']:.3f})"
            for name, score in scores.items()
        ]
    if values["scorer"]:
        similarity = values["prompt_similarity"]
        lines.append(
            f"prompt similarity {similarity['with_map']:.3f} "
            f"(without control image {similarity['without_map']:.3f}, "
            f"base {similarity['base']:.3f}; {values['scorer']})"
        )
    return lines
