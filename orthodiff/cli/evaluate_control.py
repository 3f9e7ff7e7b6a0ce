"""`orthodiff evaluate-control`: see and measure how well images follow control images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from orthodiff.cli.evaluate import open_scorer
from orthodiff.cli.flags import read_options
from orthodiff.cli.gc import uncollected
from orthodiff.cli.progress import print_note, progress
from orthodiff.control.image import Size, region
from orthodiff.errors import UserError
from orthodiff.evaluation.control import Region, evaluate_control, figures
from orthodiff.evaluation.report import check_replaceable
from orthodiff.io.atomic import make_folder
from orthodiff.io.images import open_image
from orthodiff.logs import quiet_libraries
from orthodiff.options.control import ControlOptions
from orthodiff.options.sampling import SamplingOptions


class EvaluateControlOptions(ControlOptions, SamplingOptions):
    """See and measure how well images follow control images: grid.png and report.json."""

    adapter: Path = Field(description="folder of an adapter that is steered by control images")
    prompt: tuple[str, ...] = Field(
        min_length=1, description="prompt, which every control image is used with; may be repeated"
    )
    scorer: str | None = Field(
        None, description="CLIP folder or hub id, or none [the base's scorer/]"
    )
    output_dir: Path = Field(Path("runs/control"), description="folder for grid and report")


def evaluate_control_command(arguments: Sequence[str]) -> None:
    """Write `grid.png` and `report.json`, and print the figures.

    Raises:
        UserError: a bad option, base, adapter, control image or scorer; nothing has been written.
    """
    options = read_options(EvaluateControlOptions, arguments, prog="orthodiff evaluate-control")
    quiet_libraries()
    _check(options)
    with uncollected():
        base = options.open_base()
    adapter_set = options.attach(base, [options.adapter])
    assert adapter_set is not None
    prompts = options.prompt * options.num_control_images
    request = options.request(prompts, num_images=1).resolved(base)
    for note in options.notes(request):
        print_note(note)
    steering = options.steering(adapter_set, request, on_note=print_note)
    assert steering is not None
    _, condition = options.conditions(steering.control.condition)
    scorer = open_scorer(options.scorer, base)
    make_folder(options.output_dir)
    check_replaceable(options.output_dir)
    with progress() as on_step:
        report = evaluate_control(
            base,
            adapter_set,
            request,
            steering,
            condition=condition,
            regions=_regions(options, steering.control_images[0].size),
            scorer=scorer,
            on_step=on_step,
        )
    for note in report.notes:
        print_note(note)
    files = [str(path) for path in (*options.condition, *options.condition_from)]
    values = {**report.values, "adapter": str(options.adapter), "maps": files}
    replace(report, values=values).save(options.output_dir)
    grid = options.output_dir / "grid.png"
    print("\n".join([*figures(values), "", f"Look at  {grid}  (numbers: report.json)"]))


def _check(options: EvaluateControlOptions) -> None:
    if not options.num_control_images:
        raise UserError(
            "There is no control image. Give --condition IMAGE, or --condition_from PHOTO."
        )
    if options.condition and options.condition_setting:
        raise UserError(
            "`condition_setting` changes how images are measured, but ready control images were "
            "made with other settings. Give only --condition_from, or leave the setting out."
        )


def _regions(options: EvaluateControlOptions, size: Size) -> list[Region]:
    """Where each image of `size` has a control image: what is letterboxed says nothing."""
    paths = (*options.condition, *options.condition_from)
    regions = [region(open_image(path).size, size) for path in paths]
    return [each for each in regions for _ in options.prompt]
