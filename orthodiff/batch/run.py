"""A whole batch: what is missing is made, recorded and shown, whichever engine does it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from orthodiff.batch.base_card import BaseCard
from orthodiff.batch.encode import Encoder, Missed
from orthodiff.batch.engines.base import Engine, Result
from orthodiff.batch.ids import json_digest
from orthodiff.batch.manifest import Log
from orthodiff.batch.measure import Measurement
from orthodiff.batch.plan import Chunk, Item, chunks_of, groups_of, items_of, resolve, share
from orthodiff.batch.rows.row import Row
from orthodiff.batch.sheets import write_sheets
from orthodiff.batch.stop_request import StopRequest
from orthodiff.batch.store import Store
from orthodiff.errors import UserError

TEMPLATE = "{index:05d}-{prompt:.40}-{seed}"
PATIENCE = 600.0
"""Seconds that the other ranks wait for the first, which loads the base as they do."""
FEW = 2
"""Images up to which nothing is measured."""


@dataclass(frozen=True)
class BatchSettings:
    """Where a batch goes and how it is made; None is measured.

    `image_settings` are what else changes images: how control images are computed. `rank` is this
    process's of `world` that share the batch.
    """

    output_dir: Path
    template: str = TEMPLATE
    encoder: Encoder = field(default_factory=Encoder)
    batch_size: int | None = None
    merge: bool | None = None
    retry_failed: bool = False
    stop_on_error: bool = False
    skip_bad: bool = False
    overwrite: bool = False
    image_settings: Mapping[str, Any] = field(default_factory=dict)
    rank: int | None = None
    world: int = 1


@dataclass
class Summary:
    """How a batch ended: images in all, made now, there before, failed; and the first failure.

    `stopped` says that somebody asked it to end before its last image; see `stop_request`.
    """

    total: int
    made: int = 0
    before: int = 0
    failed: int = 0
    first_error: str = ""
    stopped: bool = False
    seconds: float = 0.0

    @property
    def missing(self) -> int:
        return self.total - self.made - self.before - self.failed


@dataclass(frozen=True)
class BatchPlan:
    """A batch that is ready to be made: `header` opens its manifest, `ids` has one for each row."""

    items: list[Item]
    ids: list[str]
    skipped: list[str]
    card: BaseCard
    header: dict[str, Any]

    @property
    def repeated(self) -> int:
        """How many rows ask for the same image as an earlier one."""
        return len(self.ids) - len(self.items)


OnNote = Callable[[str], None]
OnResult = Callable[[Mapping[str, Any], Summary], None]
"""Called with each record of the manifest as it is written."""


def plan_batch(rows: Sequence[Row], engine: Engine, settings: BatchSettings) -> BatchPlan:
    """Resolve and name rows.

    Raises:
        UserError: a row asks for something that cannot be had, and `skip_bad` is not set.
    """
    card = engine.card()
    resolved, skipped = [], []
    for number, row in enumerate(rows, start=1):
        try:
            resolved.append(resolve(row, card))
        except UserError as error:
            if not settings.skip_bad:
                raise UserError(f"Image {number} of {len(rows)}: {error}") from error
            skipped.append(f"Image {number}: {error}")
    if not resolved:
        raise UserError("There is nothing to make. Give at least one prompt.")
    items, ids = items_of(
        resolved, card, template=settings.template, settings=settings.image_settings
    )
    names = [(item.id, item.name) for item in items]
    encoder = settings.encoder
    header = {
        "batch": json_digest([names, encoder.format, encoder.metadata])[:16],
        "count": len(items),
        "template": settings.template,
        "format": encoder.format,
        "metadata": encoder.metadata,
        "base": card.written(),
    }
    return BatchPlan(items, ids, skipped, card, header)


def run_batch(
    plan: BatchPlan,
    engine: Engine,
    settings: BatchSettings,
    *,
    on_note: OnNote,
    on_result: OnResult = lambda record, summary: None,
) -> Summary:
    """Make what is missing of a batch; see `Summary`.

    Raises:
        UserError: the folder cannot be used, the disk is full, or the first image fails and
            `stop_on_error` is set.
    """
    begun = time.monotonic()
    store = Store(settings.output_dir)
    with store.opened(rank=settings.rank) as log:
        if settings.overwrite and log.batch and log.batch["batch"] != plan.header["batch"]:
            store.clear(log)
            log = Log()
        if settings.rank:
            log = _first_rank_s_log(store, plan)
        measurement = _measured(plan, engine, settings, log, on_note)
        header = {**plan.header, "measured": measurement.written()}
        store.begin(log, header, plan.items, settings.encoder.ending)
        if settings.world > 1:
            store.write_header()
        store.recover(log)
        chunks = _chunks(plan, settings, log, measurement)
        ids = {item.id for item in plan.items}
        summary = Summary(len(ids), before=len(log.images.keys() & ids))
        if not settings.retry_failed:
            summary.failed = len(log.failed.keys() & ids)
            failed = store.manifest.records(log.failed)
            summary.first_error = next((record["error"] for record in failed), "")
        try:
            _make(chunks, engine, store, settings, summary, on_note, on_result)
        except OSError as error:
            raise UserError(
                f"`{settings.output_dir}` cannot be written any more ({error.strerror}). "
                f"{summary.made + summary.before} of {summary.total} images are done and stay; "
                "make room, then run the same command again."
            ) from error
        finally:
            write_sheets(settings.output_dir)
    summary.seconds = time.monotonic() - begun
    return summary


def _first_rank_s_log(store: Store, plan: BatchPlan) -> Log:
    """The manifest once the first rank has begun the batch: all cut it into the same chunks.

    Raises:
        UserError: it does not begin.
    """
    begun = time.monotonic()
    while time.monotonic() - begun < PATIENCE:
        log = store.manifest.load()
        if log.batch and log.batch["batch"] == plan.header["batch"]:
            return log
        time.sleep(0.1)
    raise UserError(f"The first process of this launch did not begin within {PATIENCE:g} s.")


def _measured(
    plan: BatchPlan, engine: Engine, settings: BatchSettings, log: Log, on_note: OnNote
) -> Measurement:
    """What the batch was begun with, so that it ends with the same images; else measured now."""
    if log.batch and log.batch.get("measured"):
        return Measurement(**log.batch["measured"])
    group = max(groups_of(plan.items), key=len)
    pixels = (group[0].row.width or 1) * (group[0].row.height or 1)
    if settings.batch_size is not None:
        return Measurement(settings.batch_size, pixels, 0.0, why="as asked for")
    if len(plan.items) <= FEW:
        return Measurement(len(group), pixels, 0.0, why="too few images to measure")
    measurement = engine.measure(group, most=len(group))
    on_note(f"{measurement.batch_size} images are made at once: {measurement.why}.")
    return measurement


def _chunks(
    plan: BatchPlan, settings: BatchSettings, log: Log, measurement: Measurement
) -> list[Chunk]:
    done = set(log.images) if settings.retry_failed else {*log.images, *log.failed}
    missing = frozenset(item.id for item in plan.items) - done
    exact = settings.batch_size is not None
    chunks = chunks_of(
        plan.items,
        missing,
        batch_size=lambda pixels: measurement.batch_size if exact else measurement.size_for(pixels),
        merge=measurement.merge_pays if settings.merge is None else lambda _: bool(settings.merge),
    )
    return share(chunks, rank=settings.rank or 0, world=settings.world)


def _make(
    chunks: Sequence[Chunk],
    engine: Engine,
    store: Store,
    settings: BatchSettings,
    summary: Summary,
    on_note: OnNote,
    on_result: OnResult,
) -> None:
    notes_given: set[str] = set()
    asked = StopRequest(settings.output_dir)
    if settings.rank == 0:  # launched processes leave it for one another, so it may be an old one
        asked.take_back()
    for result in engine.run(takewhile(lambda _: not asked.is_made, chunks)):
        for sentence in result.notes:
            if sentence not in notes_given:
                notes_given.add(sentence)
                on_note(sentence)
        for record in _record(result, store, settings, summary):
            on_result(record, summary)
            if record["kind"] == "failed" and settings.stop_on_error:
                return
    summary.stopped = asked.is_made
    if settings.rank is None:
        asked.take_back()


def _record(
    result: Result, store: Store, settings: BatchSettings, summary: Summary
) -> Iterator[dict[str, Any]]:
    """Write what became of a chunk, record by record."""
    items = {item.id: item for item in result.chunk.items}
    for outcome in result.outcomes:
        item = items[outcome.id]
        sentence = outcome.sentence if isinstance(outcome, Missed) else ""
        if not isinstance(outcome, Missed):
            try:
                record = store.save(item, outcome)
            except UserError as error:
                sentence = str(error)
            else:
                summary.made += 1
                yield record
                continue
        if settings.stop_on_error and not summary.made + summary.before:
            raise UserError(sentence)
        summary.failed += 1
        summary.first_error = summary.first_error or sentence
        yield store.fail(item, sentence)
