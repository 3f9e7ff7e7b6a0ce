"""Prompt files that people bring for a batch."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, File, UploadFile
from pydantic import BaseModel

from ..services.prompts import MOST_BYTES, read_prompt_file
from .context import Owner, TheStudio
from .schemas import Problem

ROUTER = APIRouter(prefix="/api/prompts", tags=["images"], responses={422: {"model": Problem}})


class PromptsOut(BaseModel):
    """The rows that can be used, for `rows` and `lists` of a batch, and what is wrong with others.

    `images` is how many the rows make with one adapter and one seed.
    """

    name: str
    rows: list[dict[str, Any]]
    lists: dict[str, list[str]]
    images: int
    problems: list[str]


@ROUTER.post("")
def read(
    owner: Owner, studio: TheStudio, file: Annotated[UploadFile, File(description="prompts")]
) -> PromptsOut:
    """Read a TXT, CSV, JSONL or YAML file of prompts; nothing of it is kept."""
    name = (file.filename or "prompts.txt").replace("\\", "/").rpartition("/")[2][:100]
    content = file.file.read(MOST_BYTES + 1)
    rows = read_prompt_file(name, content, studio.scratch)
    return PromptsOut(
        name=name,
        rows=[dict(row) for row in rows.rows],
        lists={name: list(values) for name, values in rows.lists.items()},
        images=rows.images,
        problems=list(rows.problems),
    )
