"""`orthodiff evaluate`: base against adapted over many prompts, with scores."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from orthodiff.adapters.peft_format.read import read_adapter_metadata
from orthodiff.cli.evaluate_generated import evaluate_generated_command
from orthodiff.cli.flags import read_options
from orthodiff.cli.gc import uncollected
from orthodiff.cli.progress import print_note, progress
from orthodiff.evaluation.metrics import Scorer, default_scorer, load_scorer
from orthodiff.evaluation.metrics.efficientnet import offline_judges
from orthodiff.evaluation.report import check_replaceable
from orthodiff.evaluation.subject import PROMPTS, check_prompts, evaluate
from orthodiff.evaluation.subject_folder import read_subject
from orthodiff.io.atomic import make_folder
from orthodiff.logs import quiet_libraries
from orthodiff.models import Base
from orthodiff.options.sampling import SamplingOptions


class EvaluateOptions(SamplingOptions):
    """Compare base and adapted over many prompts: grid.png and report.json.

    With --generated DIR --reference DIR a finished batch is scored: see `evaluate-generated`.
    """

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
    num_images: int = Field(2, ge=1, description="images per prompt and model")
    scorer: str | None = Field(
        None, description="CLIP folder or hub id, or none [the base's scorer/]"
    )
    output_dir: Path = Field(Path("runs/evaluate"), description="folder for grid and report")


def evaluate_command(arguments: Sequence[str]) -> int:
    """Write `grid.png` and `report.json`, and print the scores; --generated scores a batch instead.

    Raises:
        UserError: a bad option, base, adapter, subject or scorer; nothing has been written.
    """
    if any(word.split("=")[0] == "--generated" for word in arguments):
        return evaluate_generated_command(arguments)
    options = read_options(EvaluateOptions, arguments, prog="orthodiff evaluate")
    quiet_libraries()
    check_prompts(options.prompt)
    recipe = read_adapter_metadata(options.adapter)
    subject = read_subject(
        options.subject,
        instance_prompt=options.instance_prompt or recipe.get("instance_prompt"),
        class_word=options.class_word,
    )
    with uncollected():
        base = options.open_base()
    adapter_set = options.attach(base, [options.adapter])
    assert adapter_set is not None
    request = options.request(["{}"], num_images=options.num_images)
    for note in options.notes(request.resolved(base)):
        print_note(note)
    scorer = open_scorer(options.scorer, base)
    make_folder(options.output_dir)
    check_replaceable(options.output_dir)
    with progress() as on_step:
        report = evaluate(
            base,
            adapter_set,
            subject,
            prompts=options.prompt,
            request=request,
            scorer=scorer,
            judges=() if options.scorer == "none" else offline_judges(base.device),
            recipe=recipe,
            on_step=on_step,
        )
    report.save(options.output_dir)
    for note in report.notes:
        print_note(note)
    print("\n".join([*_scores(report.values), "", *_next_steps(options, report.values)]))
    return 0


def open_scorer(name: str | None, base: Base) -> Scorer | None:
    """The scorer asked for, or the one that the base brings; None for `none` or without one.

    Raises:
        UserError: there is no such CLIP.
    """
    source = name or default_scorer(base.folder)
    return load_scorer(source, device=base.device) if source and source != "none" else None


def _scores(values: Mapping[str, Any]) -> list[str]:
    return [*_scorer_lines(values), *(_judge_line(*item) for item in values["judges"].items())]


def _scorer_lines(values: Mapping[str, Any]) -> list[str]:
    if not values["scorer"]:
        return ["No scores: this base brings no scorer/; give a CLIP with --scorer."]
    subject, prompt = values["subject_similarity"], values["prompt_similarity"]
    return [
        f"subject similarity: base {subject['base']:.3f}, adapted {subject['adapted']:.3f}, "
        f"real against real {subject['real_against_real']:.3f}",
        f"prompt similarity:  base {prompt['base']:.3f}, adapted {prompt['adapted']:.3f}",
        f"(scorer: {values['scorer']})",
    ]


def _judge_line(name: str, subject: Mapping[str, float]) -> str:
    return (
        f"subject similarity by {name}: base {subject['base']:.3f}, adapted "
        f"{subject['adapted']:.3f}, real against real {subject['real_against_real']:.3f}"
    )


def _next_steps(options: EvaluateOptions, values: Mapping[str, Any]) -> list[str]:
    return [
        f"Look at  {options.output_dir / 'grid.png'}  (numbers: report.json)",
        "Try next:",
        f"  {_python()} -m orthodiff generate --pretrained_model_name_or_path "
        f"{options.pretrained_model_name_or_path} --adapter {options.adapter} "
        f'--prompt "a photo of {values["subject"]} floating on top of water" --num_images 4 '
        "--output_dir runs/pictures",
        "  make studio",
    ]


def _python() -> str:
    """How to call this Python from here: nothing need be activated for it."""
    here = Path(sys.executable)
    return str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here)
