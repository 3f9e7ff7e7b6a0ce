"""Base against adapted with the same seeds over many prompts: `grid.png` and `report.json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import Field

from orthodiff.adapters.peft_format import read_metadata
from orthodiff.cli.options import Options, make_folder, progress
from orthodiff.errors import UserError
from orthodiff.evaluation.image_grid import Row, comparison
from orthodiff.evaluation.metrics import (
    Scorer,
    default_scorer,
    load_scorer,
    prompt_similarity,
    real_against_real,
    subject_similarity,
)
from orthodiff.evaluation.subject_folder import Subject, read_subject, with_class
from orthodiff.io.images import square
from orthodiff.models import Base
from orthodiff.sampling import OnStep, generate

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


class EvaluateOptions(Options):
    """Compare base and adapted over many prompts: grid.png and report.json."""

    adapter: Path = Field(description="adapter folder")
    subject: Path = Field(description="folder with the subject's photos (and subject.json)")
    instance_prompt: str | None = Field(
        None, description="prompt of the training [from the adapter or subject.json]"
    )
    class_word: str | None = Field(
        None, description="the subject's class [from subject.json or the instance prompt]"
    )
    prompt: tuple[str, ...] = Field(
        PROMPTS, min_length=1, description="prompt with {} for the subject; may be repeated"
    )
    num_images: int = Field(2, ge=1, description="pictures per prompt and model")
    scorer: str | None = Field(
        None, description="CLIP folder or hub id, or none [the base's scorer/]"
    )
    output_dir: Path = Field(Path("runs/evaluate"), description="folder for grid and report")


def evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Make the pictures, write grid and report; the report.

    Raises:
        UserError: base, adapter, subject or scorer cannot be used; nothing has been written.
    """
    _check_prompts(options.prompt)
    recipe = read_metadata(options.adapter)
    subject = read_subject(
        options.subject,
        instance_prompt=options.instance_prompt or recipe.get("instance_prompt"),
        class_word=options.class_word,
    )
    base = options.open_base()
    adapter_set = options.attach(base, [options.adapter])
    assert adapter_set is not None
    scorer = _scorer(options, base)
    options.request(options.prompt, num_images=options.num_images).resolved(base)
    make_folder(options.output_dir)
    plain = [with_class(prompt, subject.class_word) for prompt in options.prompt]
    named = [prompt.replace("{}", subject.phrase) for prompt in options.prompt]
    with progress() as on_step:
        adapted = _pictures(base, options, named, on_step)
        adapter_set.detach()
        before = _pictures(base, options, plain, on_step)
    report = {
        "method": adapter_set.method,
        "settings": adapter_set.unet.method.settings() if adapter_set.unet else {},
        "strength": options.strength,
        "parameters": adapter_set.num_parameters,
        "steps": _number(recipe.get("steps")),
        "seconds": _number(recipe.get("seconds")),
        "base_model": base.name,
        "subject": subject.phrase,
        **_scores(scorer, subject, plain, before, adapted, options.num_images),
        "prompts": named,
        "seeds": _seeds(options),
    }
    _draw(options, report, subject, before, adapted).save(options.output_dir / "grid.png")
    text = json.dumps(report, indent=2, ensure_ascii=False)
    (options.output_dir / "report.json").write_text(text + "\n", "utf-8")
    print(_summary(options, report))
    return report


def _check_prompts(prompts: Sequence[str]) -> None:
    """Raises UserError for a prompt in which the subject has no place."""
    for prompt in prompts:
        if "{}" not in prompt:
            raise UserError(
                f"`prompt` is {prompt!r}, but it must say where the subject goes. "
                'Write {} there, for example "a photo of {} in the snow".'
            )


def _pictures(
    base: Base, options: EvaluateOptions, prompts: Sequence[str], on_step: OnStep
) -> list[Image.Image]:
    """`num_images` pictures of each prompt, prompt by prompt."""
    request = options.request(prompts, num_images=options.num_images)
    return generate(base, request, on_step=on_step)


def _seeds(options: EvaluateOptions) -> list[int]:
    return list(range(options.seed, options.seed + options.num_images))


def _scorer(options: EvaluateOptions, base: Base) -> Scorer | None:
    name = options.scorer or default_scorer(base.folder)
    return load_scorer(name, device=base.device) if name and name != "none" else None


def _scores(
    scorer: Scorer | None,
    subject: Subject,
    prompts: Sequence[str],
    before: Sequence[Image.Image],
    adapted: Sequence[Image.Image],
    per_prompt: int,
) -> dict[str, Any]:
    """Both similarities of both models.

    Prompts are scored with the class word alone; photos at the pictures' resolution.
    """
    if scorer is None:
        return {"scorer": None}
    photos = [square(photo, min(before[0].size)) for photo in subject.photos]
    texts = [prompt for prompt in prompts for _ in range(per_prompt)]
    return {
        "scorer": scorer.name,
        "subject_similarity": {
            "base": subject_similarity(scorer, before, photos),
            "adapted": subject_similarity(scorer, adapted, photos),
            "real_against_real": real_against_real(scorer, photos),
        },
        "prompt_similarity": {
            "base": prompt_similarity(scorer, before, texts),
            "adapted": prompt_similarity(scorer, adapted, texts),
        },
    }


def _draw(
    options: EvaluateOptions,
    report: dict[str, Any],
    subject: Subject,
    before: Sequence[Image.Image],
    adapted: Sequence[Image.Image],
) -> Image.Image:
    rows = []
    for number, seed in enumerate(_seeds(options)):
        columns = slice(number, None, options.num_images)
        rows.append(Row(f"base\nseed {seed}", before[columns]))
        rows.append(Row(f"adapted\nseed {seed}", adapted[columns], is_adapted=True))
    return comparison(
        title=f"{subject.phrase}: {report['method'].upper()} on {Path(report['base_model']).name}",
        subtitle=_subtitle(report),
        photos=subject.photos,
        prompts=report["prompts"],
        rows=rows,
    )


def _subtitle(report: dict[str, Any]) -> str:
    parts = [f"{report['parameters']:,} parameters"]
    if report["steps"] is not None:
        parts.append(f"{report['steps']:g} steps")
    if report["seconds"] is not None:
        parts.append(f"{report['seconds']:.0f} s")
    if report["scorer"]:
        for name in ("subject", "prompt"):
            scores = report[f"{name}_similarity"]
            parts.append(f"{name} similarity {scores['base']:.3f} to {scores['adapted']:.3f}")
        parts.append(report["scorer"])
    return "  ·  ".join(parts)


def _summary(options: EvaluateOptions, report: dict[str, Any]) -> str:
    lines = []
    if report["scorer"]:
        subject, prompt = report["subject_similarity"], report["prompt_similarity"]
        lines += [
            f"subject similarity: base {subject['base']:.3f}, adapted {subject['adapted']:.3f}, "
            f"real against real {subject['real_against_real']:.3f}",
            f"prompt similarity:  base {prompt['base']:.3f}, adapted {prompt['adapted']:.3f}",
            f"(scorer: {report['scorer']})",
        ]
    else:
        lines.append("No scores: this base brings no scorer/; give a CLIP with --scorer.")
    return "\n".join(
        [
            *lines,
            "",
            f"Look at  {options.output_dir / 'grid.png'}  (numbers: report.json)",
            "Try next:",
            f"  {_python()} -m orthodiff generate --pretrained_model_name_or_path "
            f"{options.pretrained_model_name_or_path} --adapter {options.adapter} "
            f'--prompt "a photo of {report["subject"]} floating on top of water" --num_images 4 '
            "--output_dir runs/pictures",
            "  make studio",
        ]
    )


def _python() -> str:
    """How to call this Python from here: nothing need be activated for it."""
    here = Path(sys.executable)
    return str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here)


def _number(text: str | None) -> float | None:
    return float(text) if text else None
