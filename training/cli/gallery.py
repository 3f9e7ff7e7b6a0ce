"""`python -m training gallery RUN --output FILE`: what a run showed on the way, step by step."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from orthodiff.errors import UserError
from orthodiff.evaluation.image_grid import Column, timeline
from orthodiff.io.images import list_images, open_image

from ..events.history import History, read_history


def gallery(run: Path, *, steps: Sequence[int] = ()) -> Image.Image:
    """A column of images per step (all steps that have some, unless named), scores beneath.

    Images of other prompts or seeds than the last ones are left out.

    Where they are still at hand, photos of the subject come first.

    Raises:
        UserError: the run kept no images, or none of a step asked for.
    """
    history = read_history(run)
    if not history.samples:
        raise UserError(
            f"The run `{run}` has no images. Train with --validation_prompt, then come back."
        )
    last = history.samples[-1]
    asked = (last["prompts"], last["seeds"])
    samples = {s["step"]: s for s in history.samples if (s["prompts"], s["seeds"]) == asked}
    for step in steps:
        if step not in samples:
            known = ", ".join(map(str, samples))
            raise UserError(
                f"There are no images of step {step} in `{run}`, or they are of other prompts "
                f"than the last. Use {known}."
            )
    scores = {score["step"]: score for score in history.scores}
    columns = [_column(run, samples[step], scores.get(step, {})) for step in steps or samples]
    prompts = last["prompts"]
    return timeline(
        title=_title(history),
        subtitle=_subtitle(history),
        prompts=prompts,
        columns=[*_subject(run, most=len(prompts)), *columns],
    )


def _subject(run: Path, *, most: int) -> list[Column]:
    """A column of the photos that the run learned from, if they lie in a folder here."""
    config = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
    folder = Path(config.get("instance_data_dir") or run / "nowhere")
    photos = [open_image(path) for path in list_images(folder)] if folder.is_dir() else []
    return [Column("the subject", photos[:most])] if photos else []


def _column(run: Path, sample: Mapping[str, Any], score: Mapping[str, Any]) -> Column:
    images = []
    for path in sample["paths"]:
        with Image.open(run / path) as image:
            images.append(image.convert("RGB"))
    names = ("subject", "prompt")
    similarities = [(name, score.get(f"{name}_similarity")) for name in names]
    caption = "\n".join(f"{name} {value:.3f}" for name, value in similarities if value is not None)
    return Column(f"step {sample['step']}", images, caption)


def _title(history: History) -> str:
    started = history.started
    base = Path(started["base"]).name
    return f"{started['instance_prompt']}: {started['method'].upper()} on {base}"


def _subtitle(history: History) -> str:
    """Who scored."""
    scorers = dict.fromkeys(score["scorer"] for score in history.scores if score["scorer"])
    return "  ·  ".join(f"similarity of subject and prompt by {name}" for name in scorers)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the gallery; the exit code.

    Raises:
        UserError: there are no images to draw, or the output is no image.
    """
    parser = argparse.ArgumentParser(prog="python -m training gallery", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--output", type=Path, required=True, help="image to write")
    parser.add_argument("--steps", type=int, nargs="*", default=(), help="these steps alone")
    given = parser.parse_args(arguments)
    if given.output.suffix.lower() not in Image.registered_extensions():
        raise UserError(f"`{given.output}` is no image file. Give --output FILE.png.")
    sheet = gallery(given.run, steps=given.steps)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(given.output)
    print(given.output)
    return 0
