"""Pictures made on the way with fixed seeds; they draw nothing from the training's chance."""

from __future__ import annotations

from orthodiff.families import Base
from orthodiff.generate import GenerateRequest, generate
from training.config import RunConfig
from training.events import Sample


def is_due(config: RunConfig, step: int) -> bool:
    """At step 0, every `validation_steps`, and at the end."""
    at_end = step == config.max_train_steps
    return bool(config.validation_prompt) and (step % config.validation_steps == 0 or at_end)


def make_samples(config: RunConfig, base: Base, step: int, *, resolution: int) -> Sample:
    """Write `samples/step-NNNNNN/NN.png`, one per validation prompt and seed."""
    per_prompt = config.num_validation_images
    prompts = tuple(p for p in config.validation_prompt for _ in range(per_prompt))
    seeds = tuple(range(config.seed, config.seed + per_prompt)) * len(config.validation_prompt)
    request = GenerateRequest(prompts, seeds, width=resolution, height=resolution)
    folder = config.output_dir / "samples" / f"step-{step:06d}"
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, picture in enumerate(generate(base, request)):
        path = folder / f"{number:02d}.png"
        picture.save(path)
        paths.append(path.relative_to(config.output_dir).as_posix())
    return Sample(step, paths, prompts, seeds)


def prompts_used(config: RunConfig) -> list[str]:
    """Every prompt the pictures need, to be embedded before the text encoder leaves the device."""
    return [*config.validation_prompt, ""] if config.validation_prompt else []
