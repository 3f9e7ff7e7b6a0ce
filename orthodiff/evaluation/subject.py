"""Base against adapted with the same seeds over many prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from orthodiff.components.adapter_set import AdapterSet
from orthodiff.errors import UserError
from orthodiff.evaluation.image_grid import GridRow, comparison
from orthodiff.evaluation.metrics import (
    Scorer,
    SubjectJudge,
    prompt_similarity,
    real_against_real,
    subject_similarity,
)
from orthodiff.evaluation.report import Report
from orthodiff.evaluation.subject_folder import Subject, with_class
from orthodiff.io.images import square
from orthodiff.models import Base
from orthodiff.sampling import GenerateRequest, OnStep, generate

PROMPTS = (
    "a photo of {} in the jungle",
    "a photo of {} in the snow",
    "a photo of {} on the beach",
    "a photo of {} on a wooden floor",
    "a photo of {} with a city in the background",
    "a photo of {} at night",
    "a red {}",
    "a purple {}",
    "a photo of {} wearing a red hat",
)
"""Contexts, colours and an accessory; `{}` is the subject, or its class word for the base."""


def evaluate(
    base: Base,
    adapter_set: AdapterSet,
    subject: Subject,
    *,
    prompts: Sequence[str] = PROMPTS,
    request: GenerateRequest | None = None,
    scorer: Scorer | None = None,
    judges: Sequence[SubjectJudge] = (),
    recipe: Mapping[str, str] | None = None,
    on_step: OnStep | None = None,
) -> Report:
    """Generate every prompt with and without the adapters, score and compare.

    `{}` in `prompts` stands for the subject. `request` gives the seeds of each prompt and how to
    sample; its own prompts are not used (two seeds and the base's advice by default). `judges`
    score the subject beside `scorer`, each under its own name. `recipe` is what the adapter's file
    says of its training. The adapters are detached from `base` afterwards.

    Raises:
        UserError: a prompt lacks `{}`, or the request does not fit the base.
    """
    check_prompts(prompts)
    request = request or GenerateRequest.repeat("{}", num_images=2)
    request.resolved(base)
    strength = adapter_set.strength
    with_token = [prompt.replace("{}", subject.phrase) for prompt in prompts]
    without_token = [with_class(prompt, subject.class_word) for prompt in prompts]
    adapted = generate(base, _every(request, with_token), on_step=on_step)
    adapter_set.detach()
    unadapted = generate(base, _every(request, without_token), on_step=on_step)
    recipe = recipe or {}
    values = {
        "method": adapter_set.method,
        "settings": adapter_set.unet.method.settings() if adapter_set.unet else {},
        "strength": strength,
        "parameters": adapter_set.num_parameters,
        "steps": _number(recipe.get("steps")),
        "seconds": _number(recipe.get("seconds")),
        "base_model": base.name,
        "subject": subject.phrase,
        **_scores(scorer, subject, without_token, unadapted, adapted),
        "judges": {
            judge.name: _subject_scores(judge, subject, unadapted, adapted) for judge in judges
        },
        "prompts": with_token,
        "seeds": list(request.seeds),
    }
    return Report(values, _draw(values, subject, unadapted, adapted))


def check_prompts(prompts: Sequence[str]) -> None:
    """Refuse prompts in which the subject has no place.

    Raises:
        UserError: naming the prompt.
    """
    for prompt in prompts:
        if "{}" not in prompt:
            raise UserError(
                f"`prompt` is {prompt!r}, but it must say where the subject goes. "
                'Write {} there, for example "a photo of {} in the snow".'
            )


def _every(request: GenerateRequest, prompts: Sequence[str]) -> GenerateRequest:
    """Each of `prompts` with every seed of `request`, prompt by prompt."""
    return replace(
        request,
        prompts=tuple(prompt for prompt in prompts for _ in request.seeds),
        seeds=request.seeds * len(prompts),
    )


def _scores(
    scorer: Scorer | None,
    subject: Subject,
    prompts: Sequence[str],
    unadapted: Sequence[Image.Image],
    adapted: Sequence[Image.Image],
) -> dict[str, Any]:
    """Both similarities of both models.

    Prompts are scored with the class word alone; photos at the generated images' resolution.
    """
    if scorer is None:
        return {"scorer": None}
    per_prompt = len(unadapted) // len(prompts)
    texts = [prompt for prompt in prompts for _ in range(per_prompt)]
    return {
        "scorer": scorer.name,
        "subject_similarity": _subject_scores(scorer, subject, unadapted, adapted),
        "prompt_similarity": {
            "base": prompt_similarity(scorer, unadapted, texts),
            "adapted": prompt_similarity(scorer, adapted, texts),
        },
    }


def _subject_scores(
    judge: SubjectJudge,
    subject: Subject,
    unadapted: Sequence[Image.Image],
    adapted: Sequence[Image.Image],
) -> dict[str, float]:
    """Similarity to the photos, at the generated images' resolution."""
    photos = [square(photo, min(unadapted[0].size)) for photo in subject.photos]
    return {
        "base": subject_similarity(judge, unadapted, photos),
        "adapted": subject_similarity(judge, adapted, photos),
        "real_against_real": real_against_real(judge, photos),
    }


def _draw(
    values: Mapping[str, Any],
    subject: Subject,
    unadapted: Sequence[Image.Image],
    adapted: Sequence[Image.Image],
) -> Image.Image:
    rows = []
    for number, seed in enumerate(values["seeds"]):
        of_seed = slice(number, None, len(values["seeds"]))
        rows.append(GridRow(f"base\nseed {seed}", unadapted[of_seed]))
        rows.append(GridRow(f"adapted\nseed {seed}", adapted[of_seed], is_adapted=True))
    return comparison(
        title=f"{subject.phrase}: {values['method'].upper()} on {Path(values['base_model']).name}",
        subtitle=_subtitle(values),
        photos=subject.photos,
        prompts=values["prompts"],
        rows=rows,
    )


def _subtitle(values: Mapping[str, Any]) -> str:
    parts = [f"{values['parameters']:,} parameters"]
    if values["steps"] is not None:
        parts.append(f"{values['steps']:g} steps")
    if values["seconds"] is not None:
        parts.append(f"{values['seconds']:.0f} s")
    if values["scorer"]:
        for name in ("subject", "prompt"):
            scores = values[f"{name}_similarity"]
            parts.append(f"{name} similarity {scores['base']:.3f} to {scores['adapted']:.3f}")
        parts.append(values["scorer"])
    return "  ·  ".join(parts)


def _number(text: str | None) -> float | None:
    return float(text) if text else None
