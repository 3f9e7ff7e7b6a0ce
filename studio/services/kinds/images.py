"""Images on the page: which weights, how often, steered by what."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from orthodiff.io.assets import shipped

from ..adapters import AdapterEntry
from ..sampling.plan import AdapterPlan, ImagePlan, Pass
from ..settings.base import FieldError
from ..settings.images import TRIGGER, ImageSettings, check_count
from ..settings.limits import check_base
from .base import Offer, Prepared, base_title


def prepare_images(
    offer: Offer, owner: str, settings: ImageSettings, control_images: Sequence[Path] = ()
) -> Prepared:
    """Check everything there is to check before images are queued.

    Raises:
        UserError: the first setting that cannot be as it is.
    """
    check_count(settings)
    entries = [offer.adapters.get(owner, use.id) for use in settings.adapters]
    base = base_for(offer, settings.base, entries)
    prompts = tuple(with_trigger(line, entries) for line in settings.lines)
    plan = ImagePlan(
        base=base,
        base_title=base_title(base),
        prompts=prompts,
        seeds=tuple(range(settings.seed, settings.seed + settings.num_images)),
        negative_prompt=settings.negative_prompt.strip(),
        num_inference_steps=settings.num_inference_steps,
        guidance_scale=settings.guidance_scale,
        width=settings.width,
        height=settings.height,
        sampler=settings.sampler or None,
        passes=_passes(settings, entries, steered=bool(control_images)),
        maps=tuple(f"map-{number:02d}.png" for number in range(len(control_images))),
        control_strength=settings.control_strength,
        control_start=settings.control_start,
        control_end=settings.control_end,
    )

    def fill(folder: Path, place: Path) -> Sequence[str]:
        for name, path in zip(plan.maps, control_images, strict=True):
            shutil.copyfile(path, folder / name)
        plan.write(folder)
        return ()

    request = {
        **settings.model_dump(mode="json"),
        "base": plan.base_title,
        "prompt": prompts[0],
        "images": len(prompts)
        * settings.num_images
        * len(plan.passes)
        * max(len(control_images), 1),
        "adapter_names": [entry.name for entry in entries],
    }
    return Prepared(prompts[0][:60], request, fill)


def base_for(offer: Offer, chosen: str | None, entries: Sequence[AdapterEntry]) -> str:
    """The base that was chosen, else the one of the adapters.

    Raises:
        FieldError: it is not offered, or the adapters belong to several.
    """
    own = {base_of(offer.bases, entry.recipe.get("base", "")) for entry in entries}
    if chosen is not None or not entries:
        return check_base(chosen, offer.bases)
    known = own - {None}
    if len(known) > 1:
        names = ", ".join(sorted(base_title(base) for base in known if base))
        raise FieldError("adapters", f"These adapters belong to different bases: {names}.")
    if not known:
        title = base_title(entries[0].recipe.get("base", "another base"))
        raise FieldError(
            "base", f"`{entries[0].name}` was trained on {title}, which is not offered here."
        )
    return next(iter(known)) or offer.bases[0]


def base_of(bases: Sequence[str], name: str) -> str | None:
    """The one of `bases` that is `name`, perhaps under another path to the same folder."""
    for base in bases:
        here, there = shipped(base), shipped(name) if name else Path()
        same = name and (here.resolve() == there.resolve() or here.name == there.name)
        if base == name or same:
            return base
    return None


def _passes(
    settings: ImageSettings, entries: Sequence[AdapterEntry], *, steered: bool
) -> tuple[Pass, ...]:
    """The base where it is to be compared with, then the adapters at each checkpoint, strength."""
    if not entries:
        return (Pass("Base"),)
    base = (Pass("Base"),) if settings.compare else ()
    if settings.combine == "each":
        alone = [settings.model_copy(update={"adapters": (use,)}) for use in settings.adapters]
        groups = [
            _rows(one, [entry], steered=steered, name=entry.name)
            for one, entry in zip(alone, entries, strict=True)
        ]
        return (*base, *(row for rows in groups for row in rows))
    return (*base, *_rows(settings, entries, steered=steered))


def _rows(
    settings: ImageSettings, entries: Sequence[AdapterEntry], *, steered: bool, name: str = ""
) -> Iterator[Pass]:
    """A pass for each checkpoint and strength, labelled with what it differs in from others."""
    for checkpoint in settings.checkpoints or (None,):
        for strength in settings.strengths or (None,):
            row = name or _label(settings, checkpoint, strength, steered=steered)
            both = strength is not None and bool(name or checkpoint)
            yield Pass(
                row,
                _plans(settings, entries, checkpoint, strength),
                steered,
                settings.blend if settings.combine == "blend" else None,
                f"Strength {strength:g}" if both else "",
            )


def _label(
    settings: ImageSettings, checkpoint: str | None, strength: float | None, *, steered: bool
) -> str:
    if checkpoint is not None:
        return checkpoint.capitalize() if checkpoint.isalpha() else f"Step {checkpoint}"
    if strength is not None:
        return f"Strength {strength:g}"
    if settings.combine == "blend":
        return f"Blend {settings.blend:g}"
    return "With control" if steered else "Adapted"


def _plans(
    settings: ImageSettings,
    entries: Sequence[AdapterEntry],
    checkpoint: str | None,
    strength: float | None,
) -> tuple[AdapterPlan, ...]:
    return tuple(
        AdapterPlan(
            str(entry.weights(checkpoint or use.checkpoint)),
            entry.name,
            use.strength if strength is None else strength,
        )
        for entry, use in zip(entries, settings.adapters, strict=True)
    )


def with_trigger(line: str, entries: Sequence[AdapterEntry]) -> str:
    """A prompt with the words that mean the subject.

    Raises:
        FieldError: it asks for a trigger where no adapter has one.
    """
    if TRIGGER not in line:
        return line
    triggers = [entry.trigger for entry in entries if entry.trigger]
    if not triggers:
        sentence = f"The prompt has {TRIGGER}, but no adapter that has a trigger word is chosen."
        raise FieldError("prompts", sentence)
    return line.replace(TRIGGER, triggers[0])
