"""`python -m training check DATA`: the report on some data, in words or as JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from orthodiff.cli.flags import Flag, flags_of, parse_flags
from orthodiff.errors import UserError
from orthodiff.evaluation.subject_folder import phrase_of
from orthodiff.settings import parse_settings, validate

from ..data.control_images import ControlImageCheck, stated_condition
from ..data.readers.records import DataRequest
from ..data.report.advice import Advice
from ..data.report.check import DataReport, check
from ..data.report.words import in_words
from ..data.tokens import open_tokenizers
from ..options.data import DataOptions
from ..options.source import SourceOptions

PROG = "python -m training check"
DEFAULT_RESOLUTION = 512
PIXELS_PER_LATENT = 8


class CheckOptions(DataOptions, SourceOptions):
    """Look at images before any training: python -m training check DATA [--FLAG VALUE ...]

    DATA is a folder, or the name of a dataset. Exit code 2: some files cannot be used.
    """

    instance_prompt: str | None = Field(
        None, min_length=1, description="prompt of images without a caption of their own"
    )
    pretrained_model_name_or_path: str | None = Field(
        None, description="base whose tokenizers count the tokens of captions: folder or hub id"
    )
    condition_type: str | None = Field(
        None, description="kind that control images must be of [what the data say, else any]"
    )
    condition_setting: tuple[str, ...] = Field(
        (), description="setting of this kind, such as palette=voc; may be repeated"
    )


def run_check(arguments: Sequence[str]) -> int:
    """Print the report; 0, or 2 where a file cannot be used.

    Raises:
        UserError: there is nothing to look at.
    """
    flags = [*flags_of(CheckOptions), Flag("json", "print the report as JSON", is_switch=True)]
    help_text = CheckOptions.__doc__ or ""
    given = parse_flags(flags, _with_place(arguments), prog=PROG, description=help_text)
    wants_json = given.pop("json", "false") == "true"
    report = examine(validate(CheckOptions, given))
    _write(json.dumps(report.as_json(), indent=2) if wants_json else in_words(report))
    return 0 if report.is_usable else 2


def _write(text: str) -> None:
    """Print as much as the reader of the output wants: `| head` closes it early."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor at the exit


def examine(options: CheckOptions) -> DataReport:
    """The report that these options ask for.

    Raises:
        UserError: there is nothing to look at.
    """
    resolution = options.resolution or DEFAULT_RESOLUTION
    views = options.views(resolution, factor=PIXELS_PER_LATENT, seed=0)
    request = _request(options)
    control_images = _control_images(options)
    base = options.pretrained_model_name_or_path
    report = check(
        request,
        views=views,
        trigger=caption_trigger(options),
        inspect=control_images,
        tokenizers=open_tokenizers(base) if base else (),
    )
    return (
        replace(report, advice=[*report.advice, *_about(control_images)])
        if control_images
        else report
    )


def caption_trigger(options: CheckOptions) -> str | None:
    """What captions should mention: the trigger phrase, else the rare word of the prompt."""
    if options.trigger_phrase or not options.instance_prompt:
        return options.trigger_phrase
    words = phrase_of(options.instance_prompt).split()
    return words[0] if words else None


def _control_images(options: CheckOptions) -> ControlImageCheck | None:
    """What looks at control images as a training would; None where nobody says what they are.

    Raises:
        UserError: there is no such kind or setting, or the data say otherwise.
    """
    settings = parse_settings(options.condition_setting)
    condition = stated_condition(options.train_data_dir, options.condition_type, settings)
    return ControlImageCheck(condition, trigger=options.trigger_phrase) if condition else None


def _about(control_images: ControlImageCheck) -> Iterator[Advice]:
    """What a training would say of control images, and whether it could compute missing ones."""
    for remark in control_images.remarks():
        yield Advice("maps", (), remark)
    try:
        control_images.check_computing()
    except UserError as error:
        yield Advice("maps", (), str(error))


def _request(options: CheckOptions) -> DataRequest:
    given = [bool(options.train_data_dir), bool(options.dataset_name)]
    if sum(given) != 1:
        raise UserError(f"Say which images to look at: `{PROG} FOLDER`.")
    return options.request(options.train_data_dir, caption=options.instance_prompt or "")


def _with_place(arguments: Sequence[str]) -> list[str]:
    """The first word, if it is no flag, as the flag it stands for."""
    words = list(arguments)
    if not words or words[0].startswith("-"):
        return words
    is_hub_id = words[0].count("/") == 1 and not Path(words[0]).parent.exists()
    flag = "--dataset_name" if is_hub_id else "--train_data_dir"
    return [f"{flag}={words[0]}", *words[1:]]
