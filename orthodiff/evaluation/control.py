"""Pictures beside the maps that steer them, and beside those without: `grid.png`, `report.json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import Field

from orthodiff.cli.control_options import ControlOptions
from orthodiff.cli.options import Options, make_folder, progress
from orthodiff.components.adapter_set import AdapterSet
from orthodiff.control import (
    Condition,
    Landmarks,
    Steering,
    overlay,
)
from orthodiff.control.image import Size, region
from orthodiff.errors import UserError
from orthodiff.evaluation.image_grid import PAPER, Row, comparison
from orthodiff.evaluation.metrics import (
    METRICS,
    default_scorer,
    load_scorer,
    prompt_similarity,
)
from orthodiff.io.images import open_picture
from orthodiff.models import Base
from orthodiff.sampling import generate

Pictures = Sequence[Image.Image]
Region = tuple[int, int, int, int]
"""Left, upper, right, lower."""


class EvaluateControlOptions(ControlOptions, Options):
    """See and measure how well pictures follow maps: grid.png and report.json."""

    adapter: Path = Field(description="folder of an adapter that is steered by maps")
    prompt: tuple[str, ...] = Field(
        min_length=1, description="prompt, which every map is used with; may be repeated"
    )
    scorer: str | None = Field(
        None, description="CLIP folder or hub id, or none [the base's scorer/]"
    )
    output_dir: Path = Field(Path("runs/control"), description="folder for grid and report")


def evaluate_control(options: EvaluateControlOptions) -> dict[str, Any]:
    """A picture of every map with every prompt, of every prompt without, and by the base.

    Raises:
        UserError: base, adapter, maps or scorer cannot be used; nothing has been written.
    """
    if not options.num_maps:
        raise UserError("There is no map. Give --condition MAP or --condition_from PICTURE.")
    if options.condition and options.condition_setting:
        raise UserError(
            "`condition_setting` changes how pictures are measured, but ready maps were made with "
            "other settings. Give only --condition_from, or leave the setting out."
        )
    base = options.open_base()
    adapter_set = options.attach(base, [options.adapter])
    assert adapter_set is not None
    request = options.request(options.prompt * options.num_maps, num_images=1).resolved(base)
    steering = options.steering(adapter_set, request, on_note=_note)
    assert steering is not None
    make_folder(options.output_dir)
    with progress() as on_step:
        steered = generate(base, request, steering=steering, on_step=on_step)
        alone = options.request(options.prompt, num_images=1)
        plain = generate(base, alone, on_step=on_step)
        adapter_set.detach()
        unadapted = generate(base, alone, on_step=on_step)
    condition = _condition(options, steering)
    ruler = _ruler(condition, plain[0])
    regions = _regions(options, steering.maps[0].size)
    report = {
        **_about(options, adapter_set, condition),
        "following": _following(ruler, steering.maps, steered, regions),
        "following_without_map": _following(
            ruler, steering.maps, plain * options.num_maps, regions
        ),
        **_similarities(options, base, steered, plain, unadapted),
    }
    _draw(options, report, steering.maps, steered, {"base": unadapted, "without\nmap": plain}).save(
        options.output_dir / "grid.png"
    )
    text = json.dumps(report, indent=2, ensure_ascii=False)
    (options.output_dir / "report.json").write_text(text + "\n", "utf-8")
    print(_summary(options, report))
    return report


def _condition(options: EvaluateControlOptions, steering: Steering) -> Condition:
    """What the maps are of: pictures are measured as the maps were computed."""
    _, computing = options.conditions(steering.control.condition)
    return computing


def _about(
    options: EvaluateControlOptions, adapter_set: AdapterSet, condition: Condition
) -> dict[str, Any]:
    return {
        "base_model": options.pretrained_model_name_or_path,
        "adapter": str(options.adapter),
        "method": adapter_set.method,
        "parameters": adapter_set.num_parameters,
        "condition_type": condition.name,
        "settings": condition.settings(),
        "maps": [str(path) for path in (*options.condition, *options.condition_from)],
        "prompts": list(options.prompt),
        "seed": options.seed,
        "control_strength": options.control_strength,
    }


def _ruler(condition: Condition, picture: Image.Image) -> Condition | None:
    """What measures how pictures follow their maps; None where nothing does.

    Of a map the landmarks it was drawn from are not known any more; other kinds may need a model.
    """
    if isinstance(condition, Landmarks):
        _note("How well pictures follow landmarks is not measured: maps show outlines, no points.")
        return None
    try:
        condition.measure(picture)
    except UserError as error:
        _note(f"How well pictures follow their maps is not measured. {error}")
        return None
    return condition


def _regions(options: EvaluateControlOptions, size: Size) -> list[Region]:
    """Where each picture of `size` has a map: where one is letterboxed it says nothing."""
    paths = (*options.condition, *options.condition_from)
    found = [region(open_picture(path).size, size) for path in paths]
    return [each for each in found for _ in options.prompt]


def _following(
    ruler: Condition | None, maps: Pictures, pictures: Pictures, regions: Sequence[Region]
) -> dict[str, dict[str, float]] | None:
    """How well each picture follows its map."""
    if ruler is None:
        return None
    found = [
        np.asarray(ruler.measure(picture.crop(place)))
        for picture, place in zip(pictures, regions, strict=True)
    ]
    wanted = [ruler.read(used.crop(place)) for used, place in zip(maps, regions, strict=True)]
    return {name: asdict(score) for name, score in METRICS[ruler.name](found, wanted).items()}


def _similarities(
    options: EvaluateControlOptions,
    base: Base,
    steered: Pictures,
    plain: Pictures,
    unadapted: Pictures,
) -> dict[str, Any]:
    name = options.scorer or default_scorer(base.folder)
    if not name or name == "none":
        return {"scorer": None}
    scorer = load_scorer(name, device=base.device)
    return {
        "scorer": scorer.name,
        "prompt_similarity": {
            "with_map": prompt_similarity(scorer, steered, options.prompt * options.num_maps),
            "without_map": prompt_similarity(scorer, plain, options.prompt),
            "base": prompt_similarity(scorer, unadapted, options.prompt),
        },
    }


def _draw(
    options: EvaluateControlOptions,
    report: dict[str, Any],
    maps: Pictures,
    steered: Pictures,
    unsteered: Mapping[str, Pictures],
) -> Image.Image:
    each, nothing = len(options.prompt), Image.new("RGB", (1, 1), PAPER)
    rows = [
        Row(label, [nothing, *_beside(pictures, [nothing] * each)])
        for label, pictures in unsteered.items()
    ]
    for start in range(0, len(maps), each):
        pictures, used = steered[start : start + each], maps[start]
        laid = [overlay(picture, used) for picture in pictures]
        label = f"map {start // each + 1}"
        rows.append(Row(label, [used, *_beside(pictures, laid)], is_adapted=True))
    kind, base = report["condition_type"], Path(report["base_model"]).name
    return comparison(
        title=f"Following {kind} maps: {report['method']} on {base}",
        subtitle="  ·  ".join([f"{report['parameters']:,} parameters", *_lines(report)]),
        photos=[],
        prompts=["map", *(word for prompt in options.prompt for word in (prompt, "overlay"))],
        rows=rows,
    )


def _beside(pictures: Pictures, others: Pictures) -> list[Image.Image]:
    """Each picture followed by its counterpart."""
    return [one for pair in zip(pictures, others, strict=True) for one in pair]


def _lines(report: dict[str, Any]) -> list[str]:
    """The figures in words."""
    lines = []
    if (found := report["following"]) and (without := report["following_without_map"]):
        lines += [
            f"{name} {score['value']:.3f} (without map {without[name]['value']:.3f})"
            for name, score in found.items()
        ]
    if report["scorer"]:
        similarity = report["prompt_similarity"]
        lines.append(
            f"prompt similarity {similarity['with_map']:.3f} "
            f"(without map {similarity['without_map']:.3f}, base {similarity['base']:.3f}; "
            f"{report['scorer']})"
        )
    return lines


def _summary(options: EvaluateControlOptions, report: dict[str, Any]) -> str:
    look = f"Look at  {options.output_dir / 'grid.png'}  (numbers: report.json)"
    return "\n".join([*_lines(report), "", look])


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)
