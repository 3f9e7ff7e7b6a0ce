"""What the API takes and gives."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]
Kind = Literal["dreambooth", "control", "batch", "evaluate"]


class Health(BaseModel):
    """Whether the server is there."""

    status: Literal["ok"] = "ok"
    version: str


class Resources(BaseModel):
    """Shares in percent, sizes in bytes; without a GPU its sizes are 0."""

    cpu: float
    memory_used: int
    memory_total: int
    gpu_used: int
    gpu_total: int


class Problem(BaseModel):
    """Why something was refused, in one sentence, and beside which field to say it."""

    error: str
    field: str = ""


class PhotoOut(BaseModel):
    """One photo of an upload; `control` is where its control image is served, if it has one."""

    name: str
    file: str
    width: int
    height: int
    caption: str = ""
    control: str = ""
    url: str
    thumbnail: str
    problem: str = ""


class SubjectOut(BaseModel):
    """An upload: its id goes into a job; `problems` are files that could not be used."""

    id: str
    photos: list[PhotoOut]
    problems: list[str] = []
    advice: list[str] = []
    recipe: dict[str, Any] | None = None


class Captions(BaseModel):
    """New captions by file name."""

    captions: dict[str, str] = Field(max_length=1000)


class JobIn(BaseModel):
    """A job to be: its kind, what it learns from (an upload's id or an example), its settings."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    subject: str | None = Field(None, max_length=60)
    config: dict[str, Any] = Field(default_factory=dict)
    name: str = Field("", max_length=60)


class GenerateIn(BaseModel):
    """Images to be: `config` as in the form; control images are an upload's id."""

    model_config = ConfigDict(extra="forbid")

    config: dict[str, Any]
    control: str | None = Field(None, max_length=60)


class Changes(BaseModel):
    """What is to be different in a duplicate."""

    model_config = ConfigDict(extra="forbid")

    config: dict[str, Any] = Field(default_factory=dict)
    name: str = Field("", max_length=60)


class NewName(BaseModel):
    """Another name."""

    name: str = Field(max_length=60)


class Abilities(BaseModel):
    """What can be done with a job now."""

    cancel: bool = False
    pause: bool = False
    sample: bool = False
    save: bool = False
    stop_after: bool = False
    resume: bool = False
    delete: bool = False
    move: bool = False
    use: bool = False


class JobOut(BaseModel):
    """A job as it stands.

    `asked` is what a running training is still to do: sample, save. `stage` says in words what it
    does before its first step.
    """

    id: str
    kind: str
    name: str
    status: Status
    created: float
    started: float | None = None
    ended: float | None = None
    step: int = 0
    total_steps: int = 0
    loss: float | None = None
    eta_seconds: float | None = None
    seconds_per_step: float | None = None
    seconds: float | None = None
    error: str = ""
    wish: str = ""
    asked: list[str] = []
    stage: str = ""
    method: str = ""
    base: str = ""
    prompt: str = ""
    subject_similarity: float | None = None
    prompt_similarity: float | None = None
    subject_similarities: dict[str, float] = {}
    best_step: int | None = None
    thumbnail: str | None = None
    place_in_queue: int | None = None
    trashed: bool = False
    can: Abilities = Abilities()


class JobCreated(BaseModel):
    """The id to follow."""

    id: str
    status: Status
    name: str


class JobList(BaseModel):
    """A page of jobs; `active` is how many wait or run in all."""

    jobs: list[JobOut]
    total: int
    active: int
    page: int
    pages: int


class Image(BaseModel):
    """One image that was made."""

    url: str
    thumbnail: str
    label: str
    prompt: str
    seed: int
    map: str = ""
    overlay: str = ""
    column: str = ""


class AdapterOut(BaseModel):
    """An adapter that can be used."""

    id: str
    name: str
    kind: Literal["subject", "control"]
    base: str
    method: str
    trigger: str
    prompt: str
    checkpoints: list[str]
    size: int
    created: float | None = None
    thumbnail: str | None = None
    job: str | None = None
    condition: str = ""
    source: str = ""
