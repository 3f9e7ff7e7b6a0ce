"""`orthodiff generate`: images of a few prompts, or of a file with thousands."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator
from tqdm import tqdm
from typing_extensions import Self

from orthodiff.batch.engines import Engine
from orthodiff.batch.engines.choose import local_engine, rank_of_launch
from orthodiff.batch.rows.axes import cross
from orthodiff.batch.rows.files import PromptFile, Written, read_prompts
from orthodiff.batch.rows.row import Row
from orthodiff.batch.run import TEMPLATE, BatchPlan, BatchSettings, Summary, plan_batch, run_batch
from orthodiff.batch.worker import WorkerSpec
from orthodiff.cli.batch_options import OutputOptions, RowOptions
from orthodiff.cli.flags import read_options
from orthodiff.cli.gc import uncollected
from orthodiff.cli.progress import print_note
from orthodiff.errors import UserError
from orthodiff.io.atomic import can_be_written
from orthodiff.logs import quiet_libraries
from orthodiff.options.control import ControlOptions
from orthodiff.options.sampling import SamplingOptions

PLAIN = "{index:02d}"
"""File names of a few prompts on the command line."""
IMAGE_SETTINGS = {"condition_type", "condition_setting", "condition_model", "max_prompt_tokens"}
"""Options that change every image and stand in no row."""
EXAMPLES = 5
STOPPED = 130


class GenerateOptions(OutputOptions, RowOptions, ControlOptions, SamplingOptions):
    """Make images with a base model, with or without an adapter; --prompts FILE makes many."""

    adapter: tuple[Path, ...] = Field(
        (), description="adapter folder; several are composed, the first applied first"
    )
    prompt: tuple[str, ...] = Field((), description="prompt; may be repeated")
    num_images: int = Field(1, ge=1, description="images per prompt")
    output_dir: Path = Field(Path("runs/pictures"), description="folder for the images")

    @model_validator(mode="after")
    def _check_prompts(self) -> Self:
        if not self.prompt and self.prompts is None:
            raise ValueError("`prompt` is missing. Give --prompt TEXT, or --prompts FILE.")
        return self

    def rows(self) -> tuple[list[Row], list[str]]:
        """All images to make, and sentences about rows that are left out.

        Raises:
            UserError: a row cannot be meant, naming its line.
        """
        file = self._prompt_file()
        control_images = [("condition", path) for path in self.condition]
        control_images += [("condition_from", path) for path in self.condition_from]
        written = [
            Written(each.where, {**({name: str(path)} if name else {}), **each.values})
            for name, path in control_images or [("", Path())]
            for each in file.rows
        ]
        rows, skipped = cross(
            written,
            self.axes(self.defaults(), num_images=self.num_images),
            self.sources(file.lists),
            combine=self.combine,
            limit=self.limit,
            skip_bad=self.skip_bad,
        )
        self._check_idle_flags(rows)
        return rows, [*file.skipped, *skipped]

    def _prompt_file(self) -> PromptFile:
        own = [Written(f"`prompt` {n}", {"prompt": p}) for n, p in enumerate(self.prompt, start=1)]
        if self.prompts is None:
            return PromptFile(own)
        file = read_prompts(self.prompts, skip_bad=self.skip_bad)
        return PromptFile([*own, *file.rows], file.lists, file.skipped)

    def defaults(self) -> dict[str, Any]:
        names = [
            "negative_prompt", "num_inference_steps", "guidance_scale", "width", "height", "seed",
            "strength", "control_strength", "control_start", "control_end",
        ]  # fmt: skip
        given = {name: getattr(self, name) for name in names}
        given["adapter"] = tuple(map(str, self.adapter))
        return given

    def _check_idle_flags(self, rows: Sequence[Row]) -> None:
        """Raises UserError for flags that no image would heed."""
        if not any(row.adapter for row in rows) and (self.merge or self.strength != 1):
            name = "merge" if self.merge else "strength"
            raise UserError(f"`{name}` needs an adapter. Add --adapter FOLDER.")
        if self.condition_setting and not any(row.condition_from for row in rows):
            raise UserError(
                "`condition_setting` is about control images that are computed, and none is. Add "
                "--condition_from IMAGE, or leave it out."
            )

    def settings(self) -> BatchSettings:
        """How the batch is made; a few prompts as ever, a file of them as measured."""
        few = self.prompts is None
        rank, world = rank_of_launch()
        return BatchSettings(
            output_dir=self.output_dir,
            template=self.name or (PLAIN if few else TEMPLATE),
            encoder=self.encoder,
            batch_size=self.batch_size if few or "batch_size" in self.model_fields_set else None,
            merge=self.merge if few or self.merge else None,
            retry_failed=self.retry_failed,
            stop_on_error=self.stop_on_error or few,
            skip_bad=self.skip_bad,
            overwrite=self.overwrite,
            image_settings=self.model_dump(
                mode="json", include=IMAGE_SETTINGS, exclude_defaults=True
            ),
            rank=rank,
            world=world,
        )

    def open_engine(self) -> Engine:
        """The workers that are asked for, not yet started."""
        control = ControlOptions.model_construct(
            **{name: getattr(self, name) for name in ControlOptions.model_fields}
        )
        options = SamplingOptions.model_construct(
            **{name: getattr(self, name) for name in SamplingOptions.model_fields}
        )
        spec = WorkerSpec(options, control, self.encoder)
        if self.engine == "ray":
            from orthodiff.batch.engines.ray import RayEngine

            return RayEngine(spec, workers=self.workers, address=self.ray_address)
        return local_engine(spec, workers=self.workers)


def generate_command(arguments: Sequence[str]) -> int:
    """Make images, each with its recipe; 0: all are there, 1: some failed.

    Raises:
        UserError: a bad option, base, adapter or row; nothing has been written.
    """
    options = read_options(GenerateOptions, arguments, prog="orthodiff generate")
    rows, skipped = options.rows()
    return generate_rows(options, rows, skipped)


def generate_rows(
    options: GenerateOptions,
    rows: Sequence[Row],
    skipped: Sequence[str],
    *,
    template: str | None = None,
    at_end: Callable[[BatchPlan], None] = lambda plan: None,
) -> int:
    """Make an image of each row, and do something `at_end`; the exit code.

    Raises:
        UserError: a base, adapter or row that cannot be used; nothing has been written.
    """
    quiet_libraries()
    settings = options.settings()
    settings = replace(settings, template=template or settings.template)
    if not options.dry_run and not can_be_written(settings.output_dir):
        raise UserError(
            f"The output folder `{settings.output_dir}` cannot be written. Choose another "
            "--output_dir."
        )
    _warn_unguided(rows)
    with _interruptible(), options.open_engine() as engine:
        with uncollected():
            plan = plan_batch(rows, engine, settings)
        for sentence in (*skipped, *plan.skipped):
            print_note(f"left out: {sentence}")
        if plan.repeated:
            print_note(f"{plan.repeated} rows repeat earlier ones and are made once.")
        if options.dry_run:
            return dry_run(plan, engine, options)
        code = make(plan, engine, settings)
    if code != STOPPED:
        at_end(plan)
    return code


def make(plan: BatchPlan, engine: Engine, settings: BatchSettings) -> int:
    """Run a batch with a bar of progress and a summary; the exit code."""
    done = Summary(len(plan.items))
    with tqdm(total=done.total, unit="image", disable=not sys.stderr.isatty()) as bar:

        def advance(record: Any, summary: Summary) -> None:
            nonlocal done
            done = summary
            bar.update(summary.made + summary.before + summary.failed - bar.n)

        try:
            done = run_batch(plan, engine, settings, on_note=print_note, on_result=advance)
        except KeyboardInterrupt:
            bar.close()
            print_note(_stopped(done))
            return STOPPED
    if done.stopped and done.missing:
        print_note(_stopped(done))
        return STOPPED
    print(summary_of(done, settings.output_dir))
    return 1 if done.failed else 0


def _stopped(done: Summary) -> str:
    there = done.made + done.before
    return f"stopped; {there} of {done.total} images are done. The same command goes on."


def summary_of(summary: Summary, folder: Path) -> str:
    """What became of a batch, for people."""
    there = f", {summary.before} were there already" if summary.before else ""
    images = "1 image" if summary.made == 1 else f"{summary.made} images"
    lines = [f"{images} and contact_sheet.png written to {folder}{there}"]
    if summary.failed:
        lines.append(
            f"{summary.failed} of {summary.total} failed, the first because: {summary.first_error}"
        )
        lines.append("Run the same command with --retry_failed to try them again.")
    lines.append(f"Look at {folder / 'index.html'}")
    return "\n".join(lines)


def dry_run(plan: BatchPlan, engine: Engine, options: GenerateOptions) -> int:
    """Say what would be made, and in what time; the exit code."""
    group = plan.items[: min(len(plan.items), 32)]
    alike = [item for item in group if item.row.adapter == group[0].row.adapter]
    measured = engine.measure(alike, most=len(alike))
    total = len(plan.items)
    minutes = total * measured.seconds_per_image / (options.workers or 1) / 60
    adapters = len({(item.row.adapter, item.row.strength) for item in plan.items})
    print(f"{total} images, {adapters} adapters or strengths, about {minutes:.1f} minutes")
    print(f"{measured.batch_size} at once: {measured.why}")
    for item in (*plan.items[:EXAMPLES], *plan.items[EXAMPLES:][-1:]):
        print(f"  {item.name}: {item.row.prompt}")
    return 0


def _warn_unguided(rows: Sequence[Row]) -> None:
    count = sum(
        bool(row.negative_prompt) and row.guidance_scale is not None and row.guidance_scale <= 1
        for row in rows
    )
    if count:
        print_note(
            f"The negative prompt has no effect on {count} of {len(rows)} images: guidance of at "
            "most 1 is switched off. It is not recorded."
        )


@contextmanager
def _interruptible() -> Iterator[None]:
    """Within, SIGTERM ends the batch as Ctrl-C does: what is whole stays."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
