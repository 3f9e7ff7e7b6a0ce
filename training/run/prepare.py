"""Everything a run needs, gathered and checked before anything is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from orthodiff.devices import DTYPES
from orthodiff.errors import UserError
from orthodiff.models import Base, load_base

from ..checkpoints.run_dir import check_output
from ..checkpoints.sealed import find_checkpoint, load_checkpoint
from ..data.dataset import Examples
from ..data.provenance import IMAGE_KEYS, check_provenance, provenance_of
from ..data.tokens import cut_captions, remark_on
from ..data.usable import in_sight
from ..events.signals import is_launched
from ..events.trackers import check_log
from ..hub.upload import open_repository
from ..latents.cache import check_cache, default_cache
from ..optim.build import check_lr_schedule, check_optimizer
from ..options.config import Config, RunConfig
from ..tasks import Task
from ..tasks.tokenizers import set_tokenizers
from ..validation.scores import open_scorer
from .agreement import check_same, from_main, in_all
from .context import RunContext
from .defaults import for_base
from .hardware import check_hardware, check_room, free_memory, stages
from .processes import start_accelerator

if TYPE_CHECKING:
    from accelerate import Accelerator


def prepare(task: Task[Config], config: Config) -> RunContext[Config]:
    """Load and check everything, in all processes alike.

    The main process finds the checkpoint for all, which need not see its folder.

    Raises:
        UserError: the run cannot be done as asked; nothing has been written.
    """
    if not is_launched():  # what is wrong is said before accelerate is loaded, which takes long
        checkpoint = _checkpoint(config)
        _check_output(config, checkpoint)
        return _gather(task, config, checkpoint, lambda: start_accelerator(config.mixed_precision))
    accelerator = start_accelerator(config.mixed_precision)

    def find_checkpoint() -> dict[str, Any] | None:
        checkpoint = _checkpoint(config)
        _check_output(config, checkpoint)
        return checkpoint

    checkpoint = from_main(accelerator, find_checkpoint)
    context = in_all(accelerator, lambda: _gather(task, config, checkpoint, lambda: accelerator))
    provenance = {IMAGE_KEYS.get(key, key): value for key, value in context.provenance.items()}
    check_same(accelerator, {**_shared_settings(context.config), **provenance})
    return context


def _check_output(config: RunConfig, checkpoint: Mapping[str, Any] | None) -> None:
    check_output(
        config.output_dir,
        resume=bool(checkpoint and checkpoint["continues"]),
        overwrite=config.overwrite_output_dir,
        start_step=int(checkpoint["step"]) if checkpoint else 0,
        writes_card=config.push_to_hub,
    )


def _shared_settings(config: RunConfig) -> dict[str, Any]:
    """What must be the same in all processes: all settings but where each has its files."""
    places = {"pretrained_model_name_or_path", "tokenizer_name", "scorer", "dataset_name"}
    fields = type(config).model_fields
    local = {name for name, field in fields.items() if "Path" in str(field.annotation)}
    skipped = {*places, *local, "resume_from_checkpoint", "local_rank", "hub_token"}
    return {f"--{n}": v for n, v in config.resolved().items() if n not in skipped}


def _gather(
    task: Task[Config],
    config: Config,
    checkpoint: Mapping[str, Any] | None,
    start: Callable[[], Accelerator],
) -> RunContext[Config]:
    """Load and check everything else in this process; `start` finds the others."""
    task.check(config)
    prior_given = task.prior_given(config)
    examples = task.examples(config).drawn(config.max_train_samples, seed=config.seed)
    held_out = task.held_out(config)
    check_extras(config)
    check_cache(config.cache_dir or default_cache())
    accelerator = start()
    is_main = accelerator.is_main_process
    dtype = DTYPES.get(accelerator.mixed_precision, torch.float32)
    check_hardware(config, accelerator.device, dtype)
    base = load_base(
        config.pretrained_model_name_or_path,
        revision=config.revision,
        variant=config.variant,
        dtype=dtype,
        device=str(accelerator.device),
        offload=stages(accelerator.device),
        quantize=config.quantize_base,
    )
    check_room(config, base, free_memory(accelerator.device))
    config, chosen = for_base(config, base, precision=accelerator.mixed_precision)
    if checkpoint:
        _check_same_run(config, checkpoint)
    set_tokenizers(config, base)
    num_parameters = _check_fit(task, config, base)
    resolution = config.resolution or base.recommended.resolution
    _check_resolution(resolution, base)
    views = config.views(resolution, factor=base.factor, seed=config.seed)
    examples = in_sight(examples, views, skip_bad_files=config.skip_bad_files)
    if isinstance(held_out, Examples):
        held_out = in_sight(held_out, views, skip_bad_files=config.skip_bad_files)
    examples.remarks = [*examples.remarks, *_cut_captions(base, examples, config)]
    samples = task.samples_per_epoch(config, examples)
    config = config.counted(examples=samples, processes=accelerator.num_processes)
    check_lr_schedule(config, config.peak_lr)
    provenance = provenance_of(config, accelerator, base, examples, prior_given.records)
    if checkpoint:
        _check_unfinished(config, checkpoint)
        check_provenance(provenance, checkpoint)
    return RunContext(
        task,
        config,
        accelerator,
        base,
        num_parameters,
        examples=examples,
        prior_given=prior_given,
        held_out=held_out,
        scorer=open_scorer(config.scorer, base) if config.validation_prompt else None,
        checkpoint=checkpoint,
        repository=open_repository(config, config.output_dir) if is_main else None,
        provenance=provenance,
        chosen=chosen,
    )


def _cut_captions(base: Base, examples: Examples, config: RunConfig) -> list[str]:
    """A remark on captions that are longer than the base reads."""
    rules = config.caption_rules(seed=config.seed)
    tokenizers, chunks = [text.tokenizer for text in base.texts], base.texts[0].chunks
    letters = min(tokenizer.model_max_length for tokenizer in tokenizers) - 2  # a token has one
    long = examples.table.with_captions_over(letters - len(rules.trigger or "") - 2)
    longest = [(r.name, max(rules.variants(r.caption), key=len)) for r in long]
    return remark_on(cut_captions(tokenizers, longest, chunks=chunks))


def check_extras(config: RunConfig) -> None:
    """Refuse what needs a package that is not installed, logs and schedules that cannot be.

    Raises:
        UserError: naming the package, the file or the step.
    """
    check_optimizer(config)
    check_log(config)
    if config.num_train_epochs is None:  # else the number of steps is known only later
        check_lr_schedule(config, config.peak_lr)


def _check_fit(task: Task[Config], config: Config, base: Base) -> int:
    """Try the adapter on and take it off again; its number of parameters."""
    adapter_set = task.attach(config, base)
    count = adapter_set.num_parameters
    adapter_set.detach()
    return count


def _checkpoint(config: RunConfig) -> dict[str, Any] | None:
    if config.resume_from_checkpoint is None:
        return None
    folder = find_checkpoint(config.output_dir, config.resume_from_checkpoint)
    if folder is None:
        return None
    continues = folder.resolve().parent == config.output_dir.resolve()
    return {**load_checkpoint(folder), "continues": continues, "name": str(folder)}


def _check_unfinished(config: RunConfig, checkpoint: Mapping[str, Any]) -> None:
    done = checkpoint["step"]
    if done >= config.max_train_steps + checkpoint["continues"]:
        raise UserError(
            f"The checkpoint of step {done} is already at the end of `max_train_steps` "
            f"{config.max_train_steps}. Ask for more steps, or resume from an earlier checkpoint."
        )


def _check_same_run(config: RunConfig, checkpoint: Mapping[str, Any]) -> None:
    saved = json.loads(checkpoint["config"])
    if name := config.difference(saved):
        now, before = config.resolved()[name], saved.get(name)
        raise UserError(
            f"`{name}` is {now!r}, but `{checkpoint['name']}` was trained with {before!r}, so it "
            "cannot go on like this. Put it back, or start afresh in another --output_dir."
        )


def _check_resolution(resolution: int, base: Base) -> None:
    if resolution % base.factor:
        lower = resolution // base.factor * base.factor
        raise UserError(
            f"`resolution` is {resolution}, but it must be a multiple of {base.factor} for this "
            f"base. Use {lower or base.factor} or {lower + base.factor}."
        )
