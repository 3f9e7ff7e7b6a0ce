"""From what a person asks for to a job to be: one entry for each kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orthodiff.errors import UserError

from ..jobs.job import Job, Kind
from ..settings.base import JobSettings, read_settings
from ..settings.batch import BatchJobSettings
from ..settings.control import ControlSettings
from ..settings.evaluate import EvaluateSettings
from ..settings.subject import SubjectSettings
from .base import Offer, Photos, Prepared
from .batch import prepare_batch
from .control import prepare_control
from .evaluate import prepare_evaluation
from .photos import find_photos, photos_of_job
from .subject import prepare_subject

SETTINGS: Mapping[Kind, type[JobSettings]] = {
    "dreambooth": SubjectSettings,
    "control": ControlSettings,
    "batch": BatchJobSettings,
    "evaluate": EvaluateSettings,
}
GIVEN = "given"
"""In a job's request: the settings as they were given. What was empty follows the others again in a
duplicate, where the rest of the request holds what it came to."""


def prepare(
    offer: Offer, owner: str, kind: Kind, config: Mapping[str, Any], *, subject: str | None
) -> Prepared:
    """A checked job of what was asked for; `subject` is an upload's id or an example's name.

    Raises:
        UserError: the first thing that cannot be as it is; nothing has been written.
    """
    settings = read_settings(SETTINGS[kind], config)
    photos = Photos(())
    if isinstance(settings, SubjectSettings | ControlSettings):
        photos = find_photos(offer, owner, subject)
    return _prepare(offer, owner, settings, photos)


def prepare_duplicate(offer: Offer, job: Job, changes: Mapping[str, Any]) -> Prepared:
    """A job anew, on a copy of the same images, with changed settings.

    Raises:
        UserError: it was not made here, or a change cannot be.
    """
    if job.request.get("adopted") or job.kind not in SETTINGS:
        raise UserError(f"`{job.name}` was not made here, so it cannot be made again.")
    model = SETTINGS[job.kind]
    given = job.request.get(GIVEN, job.request)  # jobs of earlier versions have only the latter
    known = {name: given[name] for name in model.model_fields if name in given}
    settings = read_settings(model, {**known, **changes})
    return _prepare(offer, job.owner, settings, photos_of_job(job.folder))


def _prepare(offer: Offer, owner: str, settings: JobSettings, photos: Photos) -> Prepared:
    prepared = _of_kind(offer, owner, settings, photos)
    return replace(prepared, request={**prepared.request, GIVEN: settings.model_dump(mode="json")})


def _of_kind(offer: Offer, owner: str, settings: JobSettings, photos: Photos) -> Prepared:
    if isinstance(settings, SubjectSettings):
        return prepare_subject(offer, settings, photos)
    if isinstance(settings, ControlSettings):
        return prepare_control(offer, settings, photos)
    if isinstance(settings, EvaluateSettings):
        return prepare_evaluation(offer, owner, settings)
    assert isinstance(settings, BatchJobSettings)
    return prepare_batch(offer, owner, settings)
